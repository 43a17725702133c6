"""What a setup makes of --lm-quantization: it holds, or is refused in one line before anything is loaded."""

from __future__ import annotations

from typing import Any

import pytest
from fake_nvml import FakeGPU, FakeNVML

from acestep.lm.backends import registry
from acestep.setup import Setup
from acestep.weights.layout import LMS
from acestep.weights.synthetic_configs import CONFIGS
from harness import quantization
from harness.accelerators import Accelerator
from harness.errors import MissingPrerequisite, UsageError
from harness.quantization import FP8, INT4, INT8

LM = LMS[0]


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(quantization, "find_spec", lambda name: object())


def card(capability: tuple[int, int] = (8, 9), gib: float = 16) -> Accelerator:
    return Accelerator("cuda", "a card", gib, capability=capability)


def chosen(name: str, accelerator: Accelerator | None = None, **more: Any) -> Setup:
    lm = {"lm": LM, "compile": False, "accelerator": accelerator or card()}
    return Setup.choose("synthetic-tiny", lm_quantization=name, **(lm | more))


def test_none_is_the_default_of_every_tier():
    setup = Setup.choose("synthetic-tiny", lm=LM, compile=False, accelerator=card())
    assert setup.lm_quantization is None and setup.quantization == INT8


@pytest.mark.parametrize("name", [INT8, INT4])
def test_what_was_asked_for_holds_and_ours_runs_it(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(registry, "find_spec", lambda package: object())
    setup = chosen(name, card(gib=48))
    assert (setup.lm_quantization, setup.lm_backend) == (name, "pt")
    assert setup.lm_backend_reason == f"vllm does not run {name}"
    assert chosen("none", card(gib=48)).lm_backend == "vllm"
    with pytest.raises(UsageError, match=f"lm_backend: vllm does not run {name}; use pt, or leave one out"):
        chosen(name, lm_backend="vllm")


def test_without_a_language_model_it_is_left_out_and_told():
    setup = chosen(INT8, lm=None)
    assert setup.lm_quantization is None
    assert setup.warnings == (
        "lm_quantization: int8_weight_only has no language model to apply to; left out",
    )
    with pytest.raises(UsageError, match="has no language model to apply to; leave it out"):
        chosen(INT8, lm=None, strict=True)


@pytest.mark.parametrize(
    ("choices", "reason"),
    [
        (
            {"accelerator": card((7, 5))},
            "needs a card of compute capability 8.0 or above, and this one has 7.5",
        ),
        ({"dtype": "fp16"}, "is of bf16 only on a card, and this is fp16"),
        ({"device": "virtual"}, "has no layout for a card that the host stands for"),
        ({"accelerator": Accelerator("mps", "a Mac", 16)}, "is not for mps"),
    ],
)
def test_where_it_cannot_run_it_is_refused(choices: dict[str, Any], reason: str):
    with pytest.raises(MissingPrerequisite, match=f"lm_quantization: int4_weight_only {reason}"):
        chosen(INT4, **choices)


def test_only_the_schemes_of_a_language_model_are_allowed():
    with pytest.raises(
        UsageError, match="lm_quantization: 'w8a8_dynamic' is not allowed; use one of none, int8"
    ):
        chosen("w8a8_dynamic")


def test_a_model_that_int4_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch):
    odd = CONFIGS["synthetic-tiny"][LM] | {"intermediate_size": 200}
    monkeypatch.setitem(CONFIGS["synthetic-tiny"], LM, odd)
    assert chosen(INT8).lm_quantization == INT8
    with pytest.raises(MissingPrerequisite, match="needs matrices of whole 16s by 32s, not 200 by 64"):
        chosen(INT4)


def machine(monkeypatch: pytest.MonkeyPatch, *capabilities: tuple[int, int] | None) -> None:
    """One of these cards, as its driver tells of them."""
    FakeNVML(monkeypatch, *(FakeGPU(capability=capability) for capability in capabilities))


ON_THE_OLD, ON_THE_NEW, UNKNOWN = "this one has 7.5", "", "and there is none"


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        ({"device": "auto"}, ON_THE_OLD),
        ({"device": "cuda"}, ON_THE_OLD),
        ({"device": "cuda:1"}, ON_THE_NEW),
        ({"device": "cuda:2"}, UNKNOWN),
        ({"device": "cuda:0", "place": "dit=cuda:1"}, ON_THE_NEW),
        ({"device": "cuda:1", "place": "dit=cuda:0"}, ON_THE_OLD),
        ({"device": "cuda:1", "place": "vae=cuda:0"}, ON_THE_NEW),
    ],
    ids=str,
)
def test_the_card_that_the_dit_is_on_says_what_it_multiplies(where, reason, monkeypatch):
    """Of three, of which the first is too old for e4m3, and the driver does not tell what the last is."""
    machine(monkeypatch, (7, 5), (8, 9), None)

    def quantized() -> str | None:
        return Setup.choose("synthetic-tiny", lm=None, compile=False, quantization=FP8, **where).quantization

    if reason:
        with pytest.raises(MissingPrerequisite, match=f"quantization: {FP8} needs a card .*{reason}"):
            quantized()
    else:
        assert quantized() == FP8


@pytest.mark.parametrize(("device", "name"), [("cuda:1", INT4), ("cuda:0", None), ("cuda:2", None)])
def test_the_card_that_the_language_model_is_on_says_so_too(device, name, monkeypatch):
    machine(monkeypatch, (7, 5), (8, 9), None)
    lm = {"lm": LM, "compile": False, "lm_quantization": INT4}
    if name:
        assert Setup.choose("synthetic-tiny", device=device, **lm).lm_quantization == name
    else:
        with pytest.raises(MissingPrerequisite, match="lm_quantization: int4_weight_only needs a card"):
            Setup.choose("synthetic-tiny", device=device, **lm)
