"""`scripts.frame_ratio`: rows of each part beside the published package; no ratio of different networks."""

import re
import sys
from importlib.util import find_spec

import pytest

from scripts import frame_pairs, frame_ratio

TINY = ["--source", "synthetic-tiny", "--dtype", "fp32", "--frames", "2", "--pairs", "1"]
needs_package = pytest.mark.skipif(
    find_spec("qwen_tts") is None, reason="needs the package: make test-oracles"
)


def command(monkeypatch, *flags: str) -> int:
    monkeypatch.setattr(sys, "argv", ["frame_ratio", *TINY, *flags])
    return frame_ratio.main()


@needs_package
def test_each_part_has_theirs_ours_and_the_ratio(monkeypatch, capsys):
    assert command(monkeypatch, "--model", "1.7B-CustomVoice") == 0
    rows = [re.sub(r"[\s(]+-?[\d.]+.*", "", line) for line in capsys.readouterr().out.splitlines()]
    assert rows[-8:] == ["talker", "qwen-tts", "ours", "ratio", "frame", "qwen-tts", "ours", "ratio"]


@needs_package
def test_different_networks_have_no_ratio(monkeypatch, capsys):
    forward = frame_pairs.Talker.forward
    monkeypatch.setattr(frame_pairs.Talker, "forward", lambda talker, x: -forward(talker, x))
    assert command(monkeypatch, "--parts", "talker") != 0
    shown = capsys.readouterr()
    assert "not the same network" in shown.err and "ratio" not in shown.out


def test_what_is_not_installed_is_said_before_anything_is_built(monkeypatch, capsys):
    monkeypatch.setattr(frame_pairs.oracles, "find_spec", lambda name: None)
    frame_pairs.oracles.package.cache_clear()
    assert command(monkeypatch) == 3
    assert "make test-oracles" in capsys.readouterr().err
