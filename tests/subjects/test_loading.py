"""Under MAX_CUDA_VRAM a process is held to the size that it says, before anything is loaded."""

import argparse
from types import SimpleNamespace

import pytest
import torch

from harness.accelerators import Accelerator
from harness.memory import GIB, MemoryBudget
from subjects import loading
from subjects.qwen3_tts import engine as speech
from subjects.qwen3_tts import subject as qwen3_tts
from subjects.rvc import engine as conversion
from subjects.rvc import subject as rvc
from subjects.rvc.bench import legs
from subjects.rvc.bench.sides import Sides

CUDA = torch.device("cuda", 1)
SIMULATED = Accelerator("cuda", "a card", 8.0, simulated=True)


@pytest.fixture
def held(monkeypatch) -> list[tuple[float, int]]:
    """What the allocator was held to, of a card of 80 GB that is made up."""
    calls: list[tuple[float, int]] = []
    cuda = SimpleNamespace(
        mem_get_info=lambda device: (70 * GIB, 80 * GIB),
        memory_reserved=lambda device: 0,
        set_per_process_memory_fraction=lambda share, index: calls.append((share, index)),
    )
    monkeypatch.setattr(torch, "cuda", cuda)
    return calls


def test_a_simulated_card_is_held_to_its_size(held):
    budget = loading.memory(SIMULATED, CUDA)
    assert held == [(7.5 / 80, 1)] and budget.total_bytes() == 7.5 * GIB


@pytest.mark.parametrize(
    ("card", "device"),
    [
        (Accelerator("cuda", "a card", 80.0), CUDA),
        (Accelerator("cpu", "CPU", 8.0, simulated=True), torch.device("cpu")),
    ],
)
def test_what_is_no_simulated_card_is_not(held, card, device):
    assert loading.memory(card, device).cap_bytes is None and held == []


@pytest.mark.parametrize("subject", [rvc.SUBJECT, qwen3_tts.SUBJECT])
def test_a_size_that_nothing_is_held_to_is_told(subject, monkeypatch):
    def told() -> list[str]:
        plan = subject.resolve(subject.request(1.0), subject.setup("synthetic-tiny", device="cpu"))
        return [warning for warning in plan.warnings if warning.startswith("MAX_CUDA_VRAM: ")]

    assert told() == []
    monkeypatch.setenv("MAX_CUDA_VRAM", "8")
    assert told() == ["MAX_CUDA_VRAM: 8 GB holds a CUDA card alone; this is CPU, with all of its memory"]
    assert loading.not_held(SIMULATED) == ()


@pytest.mark.parametrize("module", [conversion, speech])
def test_an_engine_is_held_before_its_weights_are_loaded(module, monkeypatch):
    monkeypatch.setenv("MAX_CUDA_VRAM", "8")
    events, load = [], module.weights.load

    def memory(card, device):
        events.append((card.memory_gib, card.simulated, device.type))
        return MemoryBudget(device)

    def loaded(*parts):
        events.append("weights")
        return load(*parts)

    monkeypatch.setattr(module, "memory", memory)
    monkeypatch.setattr(module.weights, "load", loaded)
    engine = module.Engine.load("synthetic-tiny", device="cpu")
    assert events == [(8.0, True, "cpu"), "weights"]
    module.Engine.from_setup(engine.setup, budget=engine.budget)  # somebody has seen to a cap
    assert events[2:] == ["weights"]


def test_networks_by_themselves_are_held_as_an_engine_is(monkeypatch):
    monkeypatch.setenv("MAX_CUDA_VRAM", "8")
    flags = {"source": "synthetic-tiny", "model": None, "voice": None, "device": "cpu", "strict": False}
    mlx = {"pytorch_only": True, "mlx_only": False, "mlx_model": None}
    sides = Sides.of(argparse.Namespace(**flags, **mlx, threads=1))
    cards = []
    monkeypatch.setattr(legs, "memory", lambda card, device: cards.append((card.memory_gib, device.type)))
    legs.Side.of(sides)
    assert cards == [(8.0, "cpu")]
