"""The devices of a machine as a table, asked of a driver that is not there or of one that is played."""

from types import SimpleNamespace

import pynvml
import pytest

from harness import accelerators, listing
from harness.accelerators import TorchBuild
from harness.memory import GIB

CARDS = [
    ("NVIDIA GeForce RTX 4090", 23.99, (8, 9)),
    ("Tesla T4 with quite a name of its own, really", 14.56, (7, 5)),
]


def refuse(*_):
    raise pynvml.NVMLError(pynvml.NVML_ERROR_INVALID_ARGUMENT)


def handle(index: int) -> int:
    return index if index < len(CARDS) else refuse()


@pytest.fixture
def two_cards(monkeypatch):
    answers = {
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetHandleByIndex": handle,
        "nvmlDeviceGetName": lambda card: CARDS[card][0],
        "nvmlDeviceGetMemoryInfo": lambda card: SimpleNamespace(total=int(CARDS[card][1] * GIB)),
        "nvmlDeviceGetCudaComputeCapability": lambda card: CARDS[card][2],
    }
    for name, answer in answers.items():
        monkeypatch.setattr(pynvml, name, answer)


def rows(environ: dict[str, str]) -> list[list[str]]:
    lines = listing.table(environ).splitlines()
    assert max(map(len, lines)) < 80
    return [line.split() for line in lines]


def test_without_a_driver_there_is_the_host(monkeypatch):
    monkeypatch.setattr(pynvml, "nvmlInit", refuse)
    monkeypatch.setattr(accelerators.platform, "system", lambda: "Linux")
    head, host = rows({})
    assert head == ["device", "name", "GiB", "capability", "dtype", "auto"]
    assert host[:2] == ["cpu", "CPU"] and host[-1] == "yes"


def test_every_card_has_a_line_and_auto_takes_the_first(two_cards, monkeypatch):
    monkeypatch.setattr(listing.accelerators, "torch_build", lambda: TorchBuild("2.13.0", "13.0"))
    _, first, second, host = rows({})
    assert first == ["cuda:0", "NVIDIA", "GeForce", "RTX", "4090", "23.99", "8.9", "bf16", "yes"]
    assert second[0] == "cuda:1" and second[-3:] == ["14.56", "7.5", "fp16"]
    assert host[0] == "cpu" and host[-1] != "yes"


def test_what_is_visible_is_what_is_listed(two_cards):
    assert [row[1] for row in rows({"CUDA_VISIBLE_DEVICES": "1,0"})[1:3]] == ["Tesla", "NVIDIA"]
    assert [row[0] for row in rows({"CUDA_VISIBLE_DEVICES": ""})[1:]] == ["cpu"]


def test_what_else_decides_is_said(two_cards, monkeypatch):
    monkeypatch.setattr(listing.accelerators, "torch_build", lambda: TorchBuild("2.13.0+cpu", None))
    table = listing.table({"MAX_CUDA_VRAM": "8"})
    assert "MAX_CUDA_VRAM: each is taken for a card of 8 GB" in table and "23.99" in table
    assert "torch 2.13.0+cpu is not built for CUDA, and runs on none of these cards" in table
