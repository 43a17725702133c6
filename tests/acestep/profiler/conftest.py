"""The profiler's command on tiny weights."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from loaded_once import loaded_once

from acestep import resolver
from acestep.engine import Engine
from acestep.profiler import command as profiler
from acestep.profiler import request
from harness.records import machine
from tiersim import __main__ as tiersim


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys):
    """The command in an empty folder, on tiny weights that are loaded once, with examples of ten seconds, two
    steps and short lyrics: exit code and output."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Engine, "from_setup", loaded_once)
    monkeypatch.setenv("ACESTEP_SOURCE", "synthetic-tiny")
    monkeypatch.setattr(machine, "revision", lambda: ("0" * 40, False))
    load = request.load_example

    def short(*source):
        params, config = load(*source)
        return replace(params, duration=10, inference_steps=2), config

    monkeypatch.setattr(request, "load_example", short)
    sampled = request._sampled
    monkeypatch.setattr(
        request,
        "_sampled",
        lambda *asked: replace(sampled(*asked), max_caption_tokens=8, max_lyrics_tokens=16),
    )

    def command(*arguments: str):
        monkeypatch.setattr(sys, "argv", ["profile_inference.py", *arguments])
        code = profiler.main(arguments, tier_test=lambda line: tiersim.main([*line, "--dry-run"]))
        return code, *capsys.readouterr()

    return command


@pytest.fixture
def resolved(monkeypatch: pytest.MonkeyPatch) -> list:
    """Every plan that is resolved while the test runs."""
    plans, resolve = [], resolver.resolve
    monkeypatch.setattr(resolver, "resolve", lambda *request: plans.append(resolve(*request)) or plans[-1])
    return plans
