"""`scripts.decode_ratio`: one row each of theirs, ours and the ratio, and no ratio of different networks."""

import re
import sys
from functools import partial

import pytest
import torch

from scripts import decode_ratio, network_pairs

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
    assert rows[1:] == ["transformers", "ours", "ratio", "diffusers", "ours", "ratio"]


def test_different_networks_have_no_ratio(monkeypatch, capsys):
    their = network_pairs._their_dit
    monkeypatch.setattr(network_pairs, "_their_dit", lambda *of: partial(torch.neg, their(*of)()))
    assert command(monkeypatch, "--parts", "dit") != 0
    shown = capsys.readouterr()
    assert "not the same network" in shown.err and "ratio" not in shown.out
