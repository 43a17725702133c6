"""`scripts.decode_ratio`: one row each of theirs, ours and the ratio, and no ratio of different networks."""

import re
import sys
from functools import partial

import pytest
import torch

from scripts import decode_ratio, in_turn, network_pairs

TINY = ["--source", "synthetic-tiny", "--device", "cpu", "--dtype", "fp32", "--tokens", "2", "--pairs", "1"]


@pytest.fixture(autouse=True)
def _their_libraries():
    pytest.importorskip("diffusers")
    pytest.importorskip("transformers")


def command(monkeypatch, *flags: str) -> int:
    monkeypatch.setattr(sys, "argv", ["decode_ratio", *TINY, "--duration", "1", *flags])
    return decode_ratio.main()


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")  # diffusers'
def test_each_part_has_theirs_ours_and_the_ratio(monkeypatch, capsys):
    assert command(monkeypatch, "--parts", "lm", "vae") == 0
    rows = [re.sub(r"[\s(]+-?[\d.]+.*", "", line) for line in capsys.readouterr().out.splitlines()]
    assert rows[1:] == ["lm", "transformers", "ours", "ratio", "vae", "diffusers", "ours", "ratio"]


def test_different_networks_have_no_ratio(monkeypatch, capsys):
    their = network_pairs._their_dit
    monkeypatch.setattr(network_pairs, "_their_dit", lambda *of: partial(torch.neg, their(*of)()))
    assert command(monkeypatch, "--parts", "dit") != 0
    shown = capsys.readouterr()
    assert "not the same network" in shown.err and "ratio" not in shown.out


def test_pairs_that_were_measured_are_shown_where_the_next_is_interrupted(capsys):
    times = iter([3.0, 2.0, 4.0, 2.0])

    def timed() -> float:
        if (time_ms := next(times, None)) is None:
            raise KeyboardInterrupt
        return time_ms

    with pytest.raises(KeyboardInterrupt):
        in_turn.show("vae", in_turn.Both(timed, timed), 5, "diffusers", "ms/decode")
    title, *_, ratio = capsys.readouterr().out.splitlines()
    assert title == "vae, 2 of 5 pairs" and ratio.split() == ["ratio", "1.00", "(0.50", "to", "1.50)"]
    with pytest.raises(KeyboardInterrupt):  # and where there is none, nothing
        in_turn.show("vae", in_turn.Both(timed, timed), 5, "diffusers", "ms/decode")
    assert capsys.readouterr().out == ""
