"""Which language model an engine has: one that is there, within limits, and told where it is another."""

import re

import pytest
from roots import checkpoint, cut

from acestep.__main__ import main
from acestep.setup import Setup
from acestep.weights.layout import LMS
from harness.accelerators import Accelerator
from harness.errors import CheckpointError, MissingPrerequisite, UsageError

SMALL, MIDDLE, LARGE = LMS
CPU = Accelerator("cpu", "CPU", 16.0)
CARD_4, CARD_8, CARD_16, CARD_24 = (
    Accelerator("cuda", f"card of {size_gb:g} GB", size_gb, simulated=True)
    for size_gb in (4.0, 8.0, 16.0, 24.0)
)


def choose(root, accelerator=CPU, **choices) -> Setup:
    return Setup.choose(root, accelerator=accelerator, quantization="none", compile=False, **choices)


@pytest.mark.parametrize(
    ("there", "card", "choices", "lm", "noted"),
    [
        ([SMALL, MIDDLE], CPU, {}, SMALL, None),  # the control: what is there is taken, and nothing to tell
        ([MIDDLE], CPU, {}, MIDDLE, f"lm: {SMALL} is the default, but .* no folder .*; using {MIDDLE}"),
        ([LARGE], CPU, {}, LARGE, f"using {LARGE}"),
        ([MIDDLE, LARGE], CPU, {}, MIDDLE, f"using {MIDDLE}"),
        ([SMALL, LARGE], CARD_16, {"want_lm": True}, SMALL, f"lm: {MIDDLE} .*; using {SMALL}"),
        ([LARGE], CARD_16, {"want_lm": True}, LARGE, f"using {LARGE}"),
        ([SMALL, MIDDLE], CARD_24, {}, MIDDLE, f"lm: {LARGE} .*; using {MIDDLE}"),
        ([SMALL], CARD_8, {"want_lm": True}, SMALL, None),
        (
            [MIDDLE],
            CARD_8,
            {"want_lm": True},
            None,
            rf"8 GB \(RTX 4060\) allows no language model over {SMALL}",
        ),
        ([MIDDLE], CARD_8, {"want_lm": True, "no_limits": True}, MIDDLE, f"using {MIDDLE}"),
        ([MIDDLE], CARD_8, {}, None, None),  # nobody wants one
        ([MIDDLE], CARD_4, {"want_lm": True}, None, None),  # the tier has none, wherever
        ([], CPU, {}, None, f"has no language model; add {SMALL}"),
        ([SMALL], CPU, {"lm_default": MIDDLE}, SMALL, f"lm: {MIDDLE} .*; using {SMALL}"),
        ([SMALL, MIDDLE], CPU, {"lm_default": MIDDLE}, MIDDLE, None),
    ],
)
def test_the_nearest_of_those_that_are_there(tmp_path, there, card, choices, lm, noted):
    setup = choose(checkpoint(tmp_path / "root", *there), card, **choices)
    assert setup.lm == lm and not setup.adjustments
    assert bool(setup.no_lm) == (lm is None)
    assert len(setup.notes) == (noted is not None)
    assert all(re.search(noted or "", note) for note in setup.notes)


def test_an_incomplete_model_gives_way_and_is_told(tmp_path):
    root = checkpoint(tmp_path / "root", SMALL, MIDDLE)
    cut(root / SMALL / "model.safetensors")
    setup = choose(root)
    assert setup.lm == MIDDLE
    assert re.search(rf"lm: {SMALL} is the default, but .*unreadable.*; using {MIDDLE}", setup.notes[0])
    with pytest.raises(
        CheckpointError, match=rf"{SMALL}/model.safetensors: unreadable.*use {MIDDLE}, or none"
    ):
        choose(root, lm=SMALL)
    cut(root / MIDDLE / "model.safetensors")
    setup = choose(root)
    assert setup.lm is None and setup.no_lm.startswith("no language model is whole (")


def test_a_model_that_was_named_is_that_one_or_refused(tmp_path):
    root = checkpoint(tmp_path / "root", MIDDLE)
    assert choose(root, lm=MIDDLE).lm == MIDDLE
    with pytest.raises(MissingPrerequisite, match=f"lm: .* no folder '{SMALL}'; use {MIDDLE}, or none"):
        choose(root, lm=SMALL)
    with pytest.raises(MissingPrerequisite, match=f"no folder '{LARGE}'; use {MIDDLE}"):
        choose(root, CARD_8, lm=LARGE, no_limits=True)


def test_a_model_over_the_limit_gives_way_to_one_that_is_there(tmp_path):
    root = checkpoint(tmp_path / "root", SMALL, MIDDLE)
    for there, card, named, applied in (
        (root, CARD_8, LARGE, SMALL),
        (root, CARD_4, SMALL, None),
        (checkpoint(tmp_path / "other", MIDDLE), CARD_8, MIDDLE, None),
    ):
        (change,) = choose(there, card, lm=named).adjustments
        assert (change.field, change.requested, change.applied) == ("lm", named, applied)
        with pytest.raises(UsageError, match=r"over the limit of .* GB.*strict"):
            choose(there, card, lm=named, strict=True)


@pytest.mark.parametrize("command", ["generate", "create"])
def test_the_command_line_names_what_to_pass(tmp_path, monkeypatch, capsys, command):
    root = str(checkpoint(tmp_path / "root", MIDDLE))
    words = {"generate": ["generate", "--thinking", "--dry-run"], "create": ["create", "a song"]}[command]
    assert main([*words, "--source", root, "--device", "cpu", "--lm", SMALL]) == 3
    assert f"--lm: {root} has no folder '{SMALL}'; use {MIDDLE}, or none" in capsys.readouterr().err
    monkeypatch.setenv("MAX_CUDA_VRAM", "8")
    assert main([*words, "--source", root, "--device", "cpu"]) == 3
    assert "give --no-limits" in capsys.readouterr().err
