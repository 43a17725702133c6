"""Under MAX_CUDA_VRAM a process is held to its size before anything is loaded; what is said of recordings."""

import argparse
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from harness.accelerators import Accelerator
from harness.errors import MissingPrerequisite, UsageError
from harness.memory import MemoryBudget
from subjects import loading
from subjects.qwen3_tts import engine as speech
from subjects.qwen3_tts import subject as qwen3_tts
from subjects.rvc import engine as conversion
from subjects.rvc import subject as rvc
from subjects.rvc.bench import legs
from subjects.rvc.bench.sides import Sides

SIMULATED = Accelerator("cuda", "a card", 8.0, simulated=True)


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

    def budget_of(card, device):
        events.append((card.memory_gib, card.simulated, device.type))
        return MemoryBudget(device)

    def loaded(*parts):
        events.append("weights")
        return load(*parts)

    monkeypatch.setattr(module, "budget_of", budget_of)
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
    monkeypatch.setattr(legs, "budget_of", lambda card, device: cards.append((card.memory_gib, device.type)))
    legs.Side.of(sides)
    assert cards == [(8.0, "cpu")]


SUBJECTS = pytest.mark.parametrize(
    ("subject", "field"), [(rvc.SUBJECT, "audio"), (qwen3_tts.SUBJECT, "reference")]
)


def half_an_ogg(folder: Path) -> Path:
    """Of three seconds of noise: such a file never said how long it was."""
    path = folder / "cut.ogg"
    soundfile.write(path, 0.1 * np.random.RandomState(0).standard_normal((132_300, 2)), 44_100)
    os.truncate(path, path.stat().st_size // 2)
    return path


@SUBJECTS
def test_a_recording_that_does_not_say_how_long_it_was_is_not_cut_in_silence(subject, field, tmp_path):
    setup = subject.setup("synthetic-tiny", device="cpu", model={"audio": "48k"}.get(field, "0.6B-Base"))
    path = half_an_ogg(tmp_path)
    plan = subject.resolve(subject.request(None, **{field: str(path)}), setup)
    cut = rf"^{field}: .*cut\.ogg is cut off, or damaged; using the 1\.\d\d s that can be read$"
    assert re.match(cut, "\n".join(plan.warnings))
    strict = replace(setup, strict=True)
    with pytest.raises(UsageError, match=r"cut\.ogg is cut off, or damaged; give a whole file \(strict\)$"):
        subject.resolve(subject.request(None, **{field: str(path)}), strict)


def test_what_is_wanted_of_a_cut_recording_may_be_there(tmp_path):
    path = half_an_ogg(tmp_path)
    setup = rvc.SUBJECT.setup("synthetic-tiny", device="cpu", model="48k")
    plan = rvc.SUBJECT.resolve(rvc.SUBJECT.request(1.0, audio=str(path)), setup)
    assert (plan.samples, plan.warnings) == (16_000, ())


@SUBJECTS
def test_a_recording_whose_last_block_is_filled_up_is_whole(subject, field, tmp_path):
    setup = subject.setup("synthetic-tiny", device="cpu", model={"audio": "48k"}.get(field, "0.6B-Base"))
    path = tmp_path / "whole.mp3"
    soundfile.write(path, 0.1 * np.random.RandomState(0).standard_normal((132_300, 2)), 44_100)
    data = path.read_bytes()
    path.write_bytes(data[data.index(data[:2], 4) :] + bytes(100_000))  # without its header
    plan = subject.resolve(subject.request(None, **{field: str(path)}), setup)
    assert not any(map(re.compile(f"^{field}: ").match, plan.warnings))


@SUBJECTS
def test_a_recording_is_short_or_has_no_samples(subject, field, tmp_path):
    """Of an OGG that is cut off in its first page whole packets are left, a hundredth of a second here."""
    setup = subject.setup("synthetic-tiny", device="cpu", model={"audio": "48k"}.get(field, "0.6B-Base"))
    cut, short = tmp_path / "cut.ogg", tmp_path / "short.wav"
    noise = 0.1 * np.random.RandomState(0).standard_normal((132_300, 2))
    soundfile.write(cut, noise, 44_100)
    subject.resolve(subject.request(1.0, **{field: str(cut)}), setup)  # the control
    os.truncate(cut, cut.stat().st_size // 10)
    soundfile.write(short, noise[:100], 44_100)
    empty = tmp_path / "empty.wav"
    soundfile.write(empty, noise[:0], 44_100)
    brief = r"is under 0\.1 s; name a"
    for path, reason in ((cut, brief), (short, brief), (empty, "has no whole samples; is the download")):
        with pytest.raises(MissingPrerequisite, match=rf"^{field}: .*{path.name}. {reason}"):
            subject.resolve(subject.request(1.0, **{field: str(path)}), setup)
