"""The number format of a setup: chosen once, by the card, and what goes with it."""

from __future__ import annotations

import pytest

from acestep.setup import Setup
from harness import accelerators, compiling
from harness.accelerators import Accelerator
from harness.errors import MissingPrerequisite, UsageError

PASCAL, TURING, AMPERE = (6, 1), (7, 5), (8, 0)


def card(capability: tuple[int, int] | None, device: str = "cuda") -> Accelerator:
    return Accelerator(device, "a card", 24.0, capability=capability)


def choose(capability: tuple[int, int] | None, device: str = "cuda", **choices) -> Setup:
    return Setup.choose("synthetic-tiny", accelerator=card(capability, device), lm=None, **choices)


@pytest.mark.parametrize(
    ("capability", "device", "dtype"),
    [(AMPERE, "cuda", "bf16"), (TURING, "cuda", "fp16"), (PASCAL, "cuda", "fp16"), (None, "mps", "fp16"),
     (None, "cpu", "auto")],
)  # fmt: skip
def test_it_is_what_the_card_multiplies(capability, device, dtype):
    setup = choose(capability, device)
    assert setup.dtype == dtype
    assert choose(capability, device, dtype="fp32").dtype == "fp32"


def test_the_driver_is_asked_of_the_card_that_was_named(monkeypatch):
    asked = []
    monkeypatch.setattr(accelerators, "capability", lambda index: asked.append(index) or TURING)
    assert choose(None, device="cuda").dtype == "fp16"
    monkeypatch.setattr(accelerators, "detect", lambda device: card(None))
    assert Setup.choose("synthetic-tiny", device="cuda:3", lm=None).dtype == "fp16"
    assert asked == [0, 3]
    choose(AMPERE)
    assert len(asked) == 2  # the control: of a card that is not here nobody is


def test_what_is_slow_is_told():
    note = "dtype: bf16 is computed in fp32 on a card of compute capability 7.5; fp16 is faster"
    assert note in choose(TURING, dtype="bf16").warnings
    for setup in (choose(TURING), choose(AMPERE, dtype="bf16"), choose(TURING, dtype="fp32")):
        assert not any(warning.startswith("dtype") for warning in setup.warnings)


def test_what_is_no_format_is_refused_before_torch():
    with pytest.raises(
        UsageError, match=r"^dtype: 'fp12' is not allowed; use one of auto, bf16, fp16, fp32$"
    ):
        choose(AMPERE, dtype="fp12")


@pytest.mark.parametrize(
    ("capability", "dtype", "reason"),
    [
        (PASCAL, "auto", "needs a card of compute capability 7.0 or above, and this one has 6.1"),
        (TURING, "bf16", "is not for bf16 on a card of compute capability 7.5; use fp16"),
        (TURING, "auto", None),
        (AMPERE, "bf16", None),
        (AMPERE, "fp16", None),
    ],
)
def test_what_triton_does_not_compile_is_refused_or_left_out(capability, dtype, reason, monkeypatch):
    # What else compiling needs is there.
    monkeypatch.setattr(compiling, "find_spec", lambda name: object())
    monkeypatch.setattr(compiling, "_can_hold_files", lambda directory: True)
    monkeypatch.setattr(compiling.shutil, "which", lambda name: name)
    monkeypatch.setattr(compiling.Path, "exists", lambda path: True)
    if reason is None:
        assert compiling.unavailable("cuda", capability, dtype) is None
        return
    with pytest.raises(MissingPrerequisite, match=f"^compile: {reason}$"):
        choose(capability, dtype=dtype, compile=True)
    default = choose(capability, dtype=dtype)
    assert not default.compile
    assert f"compile: the default of {default.limits.name} {reason}; nothing is compiled" in default.notes
