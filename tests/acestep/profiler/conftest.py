"""The profiler's command: on tiny weights, and as far as what is decided without any."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from loaded_once import loaded_once

import acestep.profiler
from acestep import resolver
from acestep.engine import Engine
from acestep.lm.backends import registry as backend
from acestep.profiler import command as profiler
from acestep.profiler import prepare, request
from acestep.profiler.defaults import VARIABLES
from acestep.profiler.options import Options
from harness import quantization
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


def _decided(options: Options) -> int:
    """What a mode does first: it decides all that can be decided without torch."""
    resolver.resolve(options.params, options.config, prepare.setup(options))
    return 0


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys) -> Callable[[str], tuple]:
    """A command line in an empty folder, no further than what is decided without torch: exit code, standard
    error, and what tiersim is given."""
    stub = ModuleType("acestep.profiler.modes")
    stub.__dict__["run"] = _decided
    monkeypatch.setitem(sys.modules, stub.__name__, stub)
    monkeypatch.setattr(acestep.profiler, "modes", stub, raising=False)
    for variable in VARIABLES.values():
        monkeypatch.setenv(variable, "")  # so that what the command sets is undone
        monkeypatch.delenv(variable)
    monkeypatch.setenv("ACESTEP_SOURCE", "synthetic-tiny")
    monkeypatch.setattr(backend, "find_spec", lambda name: None)  # whatever is installed here
    monkeypatch.setattr(quantization, "find_spec", lambda name: object())
    monkeypatch.chdir(tmp_path)
    tiersim_line: list[str] = []

    def go(line: str) -> tuple[int, str, list[str]]:
        code = profiler.main(shlex.split(line), tier_test=lambda given: tiersim_line.extend(given) or 0)
        return code, capsys.readouterr().err, tiersim_line

    return go


@pytest.fixture
def resolved(monkeypatch: pytest.MonkeyPatch) -> list:
    """Every plan that is resolved while the test runs."""
    plans, resolve = [], resolver.resolve
    monkeypatch.setattr(resolver, "resolve", lambda *request: plans.append(resolve(*request)) or plans[-1])
    return plans
