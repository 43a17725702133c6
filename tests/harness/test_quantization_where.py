"""Where weights can be quantized, and where they are refused."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch
from fake_nvml import FakeGPU, FakeNVML
from torch import nn

from harness import accelerators, quantization
from harness.errors import UsageError
from harness.quantization import FP8, INT4, INT8, SCHEMES, W8A8, quantize, unavailable


@pytest.fixture
def installed(monkeypatch):
    monkeypatch.setattr(quantization, "find_spec", lambda name: object())


@pytest.mark.parametrize("name", SCHEMES)
def test_without_torchao_nothing_is_quantized(name, monkeypatch):
    monkeypatch.setattr(quantization, "find_spec", lambda name: None)
    reason = "needs torchao, which is not installed; pip install '.[quantization]'"
    assert unavailable(name, "cuda:1") == unavailable(name, "cpu") == reason
    assert unavailable(name, "mps") == "is not for mps; use cuda, cpu or no quantization"


@pytest.mark.parametrize(
    ("capability", "reason"),
    [
        ((9, 0), None),
        ((8, 9), None),
        (
            (8, 6),
            "needs a card of compute capability 8.9 or above, and this one has 8.6; use int8_weight_only",
        ),
        (None, "needs a card of compute capability 8.9 or above, and there is none; use int8_weight_only"),
    ],
)
def test_fp8_needs_a_card_that_has_it(capability, reason, installed, monkeypatch):
    indices = []
    monkeypatch.setattr(accelerators, "capability", lambda index: indices.append(index) or capability)
    assert unavailable(FP8, "cuda:1") == unavailable(FP8, "cuda") == reason
    assert indices == [1, 0]
    assert unavailable(INT8, "cuda") is unavailable(W8A8, "cuda") is unavailable(FP8, "cpu") is None
    assert len(indices) == 2


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        (("cpu",), None),
        (("cuda", (8, 0)), None),
        (("cuda", (9, 0), "bf16"), None),
        (
            ("cuda", (7, 5)),
            "needs a card of compute capability 8.0 or above, and this one has 7.5; use int8_weight_only",
        ),
        (
            ("cuda", (8, 6), "fp32"),
            "is of bf16 only on a card, and this is fp32; use bf16, or int8_weight_only",
        ),
        (("cpu", None, "fp32"), None),
        (("virtual", (8, 9)), "has no layout for a card that the host stands for; use int8_weight_only"),
        (("mps",), "is not for mps; use cuda, cpu or no quantization"),
    ],
)
def test_int4_needs_what_its_kernel_needs(place, reason, installed):
    assert unavailable(INT4, *place) == reason


def test_of_a_card_that_is_not_here_no_driver_is_asked(installed, monkeypatch):
    monkeypatch.setattr(accelerators, "capability", lambda index: pytest.fail("asked"))
    assert unavailable(FP8, "cuda", (8, 9)) is None
    assert "this one has 8.6" in (unavailable(FP8, "cuda", (8, 6)) or "")


@pytest.mark.parametrize(("visible", "expected"), [(None, (8, 6)), ("1", (9, 0)), ("", None), ("-1", None)])
def test_the_capability_is_that_of_the_visible_card(visible, expected, monkeypatch):
    FakeNVML(monkeypatch, FakeGPU(capability=(8, 6)), FakeGPU(capability=(9, 0)))
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert accelerators.capability(0) == expected


@pytest.mark.parametrize(
    ("machine", "flags", "runs"),
    [
        ("x86_64", "sse2 avx2 avx512f", False),
        ("x86_64", "avx2 avx_vnni", True),
        ("AMD64", "avx512f avx512_vnni", True),
        ("x86_64", "avx512_4vnniw avx_vnni_int16", False),
        ("x86_64", None, False),  # no /proc/cpuinfo to ask
        ("aarch64", "asimd", True),
    ],
)
def test_w8a8_needs_sums_that_do_not_overflow(machine, flags, runs, installed, tmp_path, monkeypatch):
    cpuinfo = tmp_path / "cpuinfo"
    if flags is not None:
        cpuinfo.write_text(f"model name\t: a processor\nflags\t\t: {flags}\n")
    monkeypatch.setattr(quantization, "CPUINFO", cpuinfo)
    monkeypatch.setattr(quantization.platform, "machine", lambda: machine)
    assert (unavailable(W8A8, "cpu") is None) == runs
    assert unavailable(INT8, "cpu") is unavailable(FP8, "cpu") is None


@pytest.mark.parametrize(("device", "current"), [("cpu", "cuda:0"), ("cuda:1", "cuda:1")])
def test_torchao_asks_the_card_that_has_the_weights(device, current, monkeypatch):
    """It asks the current one: the first, where nobody says otherwise."""
    layer, cards, current_cards = nn.Sequential(nn.Linear(2, 2)), ["cuda:0"], []

    @contextmanager
    def switched(card):
        cards.append(str(card))
        yield
        cards.pop()

    monkeypatch.setattr(torch.cuda, "device", switched)
    monkeypatch.setattr(nn.Parameter, "device", torch.device(device))
    ao = (lambda *_: current_cards.append(cards[-1])), {FP8: lambda **_: None}
    monkeypatch.setattr(quantization, "_torchao", lambda: ao)
    quantize(layer, FP8)
    assert (current_cards, cards) == ([current], ["cuda:0"])


def test_unknown_names_are_refused():
    for refuse in (lambda: unavailable("int4", "cpu"), lambda: quantize(nn.Linear(2, 2), "int4")):
        with pytest.raises(
            UsageError, match="quantization: 'int4' is not allowed; use one of int8_weight_only"
        ):
            refuse()
