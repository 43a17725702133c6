"""ACE-Step's own measurements: its engines, its requests, its language model by itself.

A cell runs once, unrecorded, at the very shapes that follow (allocation, autotuning, lazy buffers), then
REPEATS times.
"""

from __future__ import annotations

import dataclasses
import inspect
import os
import re
from collections.abc import Callable
from pathlib import Path

import _matrix as matrix
from beside import scratch_folder
from commit import REPEATS, Unsupported, commit_module
from turns import repeats

SEED = 42
CAPTION = "An unhurried piano theme over soft brushed drums and upright bass, late evening"
LYRICS = "[Verse]\nThe lamps are low along the quay\nThe tide is turning back to sea\n[Chorus]\nStay a while"
METADATA = {"bpm": 96, "keyscale": "D minor", "timesignature": "4", "vocal_language": "en"}
LM = matrix.LMS[0]
NO_LM = "the source of weights has no language model that this device may have"
TEXT_TOKENS = 64  # of a caption, and of lyrics
SAMPLE_RATE_HZ = 48_000
PRESET_RUNS = 1  # made-up weights write a caption to its end, of each item, which takes eight seconds


def subject():
    """ACE-Step as the commit under test offers it. Raises Unsupported where it offers none."""
    return commit_module("acestep.subject").SUBJECT


def language_model() -> str | None:
    """The language model of every cell, of the source in use; None where it has none."""
    return matrix.language_model(os.environ.get("ACESTEP_SOURCE") or "checkpoints")


def record(kind: Callable, **fields):
    """A request of a kind. Raises Unsupported where the commit's has no such field."""
    try:
        return kind(**fields)
    except TypeError as error:
        raise Unsupported(f"this commit: {error}") from None


def request(cell, folder: Path | None, **more):
    """The request of a cell. All metadata is given, so no token count depends on what is sampled;
    planning leaves bpm open, which is what makes its first phase run. A preset leaves open what it does.
    `more`: fields that have other values."""
    music = {"caption": CAPTION, "lyrics": LYRICS, "duration_s": float(cell["duration_s"])} | METADATA
    batch = 1
    if cell.kind == "preset":
        open_music = {name: value for name, value in music.items() if name not in METADATA}
        return record(subject().request, seed=SEED, preset=cell["preset"], **open_music)
    if cell.kind == "plan":
        batch = cell["batch"]
        music |= {"thinking": cell["thinking"], "bpm": None}
    elif cell.kind == "generate":
        batch = cell["batch"]
        music |= {"thinking": cell["thinking"], "inference_steps": cell["steps"]}
    elif cell.kind == "solver":
        scale = {"guidance_scale": 1.0}
        guidance = scale if cell["guidance"] == "none" else {"guidance_mode": cell["guidance"]}
        music |= {"inference_steps": 8, "infer_method": cell["method"]} | guidance
    elif cell["task"] == "reference":
        music |= {"reference_audio": (recording(cell["duration_s"], folder),)}
    else:
        music |= {"task_type": cell["task"], "src_audio": recording(cell["duration_s"], folder)}
        if cell["task"] in ("repaint", "lego"):  # the middle half: of the rest something is kept
            start = cell["duration_s"] / 4
            music |= {"repainting_start": start, "repainting_end": 3 * start}
    return record(subject().request, batch_size=batch, seed=SEED, **music | more)


def recording(duration_s: int, folder: Path) -> str:
    """A file of two decaying chords a second."""
    import numpy as np
    import soundfile

    second = np.arange(SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    tones = sum(np.sin(2 * np.pi * pitch * second) for pitch in (220.0, 277.2, 329.6))
    wave = np.tile(0.2 * tones * np.exp(-6 * (second % 0.5)), duration_s)
    path = folder / "recording.wav"
    soundfile.write(path, wave, SAMPLE_RATE_HZ, subtype="PCM_16")
    return str(path)


def text_request(cell):
    """What a text mode reads. The lyrics are a fixed number of tokens, whatever is sampled."""
    codes = "".join(f"<|audio_code_{(7919 * i) % 64_000}|>" for i in range(150))
    inputs = {"understand": {"audio_codes": codes}, "create": {"query": CAPTION}}
    fields = inputs.get(cell["mode"], {"caption": CAPTION, "lyrics": LYRICS})
    fixed = {"seed": SEED, "max_lyrics_tokens": TEXT_TOKENS, "max_caption_tokens": TEXT_TOKENS}
    kind = commit_module("acestep.request").DescriptionParams
    return record(kind, **fields, **METADATA, duration=30, ignore_eos=True, **fixed)


class Engines:
    """One engine at a time: cells come in the order of what they load. What failed is not tried again."""

    def __init__(self):
        self._name, self._engine = None, None
        self._refused: dict[str, Exception] = {}

    def get(self, name: str):
        """The engine `name`, held to what it should be. Raises Unsupported where it is not to be had."""
        if name in self._refused:
            raise self._refused[name]
        if name != self._name:
            if self._engine and self._engine.environment["lm_backend"] not in ("pt", None):
                self._engine.planner.backend.close()
            self._name = self._engine = None  # before the next one is loaded: two may not fit
            try:
                self._engine = load(name)
            except Exception as error:
                self._refused[name] = error.with_traceback(None)
                raise
            self._name = name
        return self._engine


def load(name: str):
    """A fresh engine `name` of the matrix. Nothing is left to the tier of the card, and nothing stands in."""
    check_choices(name)
    known, choices = known_choices(), matrix.UNLESS_SAID | matrix.ENGINES[name]
    choices = {choice: value for choice, value in choices.items() if choice in known}
    try:
        engine = subject().load(subject().setup(lm=language_model(), **choices))
    except commit_module("harness.errors").MissingPrerequisite as error:
        if name == matrix.PLAIN:
            raise
        raise Unsupported(str(error)) from None
    if choices.keys() >= matrix.UNLESS_SAID.keys():  # an engine from before all of them is plain
        running = what_runs(engine).items()
        wrong = {what: (value, choices[what]) for what, value in running if value != choices[what]}
        if wrong:
            raise RuntimeError(f"engine {name} is not what it should be: (running, chosen) of {wrong}")
    return engine


def known_choices() -> frozenset[str]:
    """What the setup of the commit can be told."""
    return frozenset(inspect.signature(commit_module("acestep.setup").Setup.choose).parameters)


def check_choices(name: str) -> None:
    """Raise Unsupported where the commit does not know a choice of engine `name`, and where that is compiled
    which neither the tier nor a filter asks for."""
    choices = matrix.ENGINES[name]
    if unknown := choices.keys() - known_choices():
        raise Unsupported(f"this commit's engine has no {', '.join(sorted(unknown))}")
    if not choices.get("compile") or matrix.asked_for("compile", True):
        return
    if not subject().setup(lm=language_model()).compile:
        raise Unsupported("the tier of this device compiles nothing; compile=True asks for it")


def what_runs(engine) -> dict[str, object]:
    """The choices of an engine, read from its weights. Raises RuntimeError where any is on another device."""
    stored = commit_module("harness.residency").stored
    models, backend = engine.models, engine.planner and engine.planner.backend
    name = backend and backend.name
    modules = {"dit": models.ace_step.decoder} | ({"lm": models.lm} if name == "pt" else {})
    with models.residency.using(*modules):
        weights = [part for m in modules.values() for p in m.parameters() for part in stored(p)]
        places = {weight.device.type for weight in weights}
    if name not in ("pt", None):
        devices = re.findall("cpu|cuda|mps|gpu", backend.facts()["device"])
        places |= {"mps" if device == "gpu" else device for device in devices}  # MLX's name of it
    device = engine.environment["device"].partition(":")[0]
    if places != {device}:
        raise RuntimeError(f"weights are on {', '.join(sorted(places))}, the engine is on {device}")
    layers = models.ace_step.decoder.layers
    return ({"lm_backend": name} if name else {}) | {
        "quantization": commit_module("harness.quantization").scheme(layers) or "none",
        "compile": all(layer._compiled_call_impl is not None for layer in layers),
    }


def check_language_model(engine) -> None:
    """Raise Unsupported for an engine without one: its cells are n/a, those that need none run."""
    if engine.environment["lm"] is None:
        raise Unsupported(NO_LM)


def measure_cell(engines, cell) -> dict:
    """One discarded run, then the timed ones."""
    engine = engines.get(cell.engine)
    if cell.kind in ("plan", "text", "preset") or (cell.kind == "generate" and cell["thinking"]):
        check_language_model(engine)
    with scratch_folder() as folder:
        if cell.kind == "text":
            params = text_request(cell)

            def run():
                return getattr(engine, cell["mode"])(params)
        else:
            plan = subject().resolve(request(cell, folder), engine.setup)

            def run():
                return engine.run_lm(plan) if cell.kind == "plan" else engine.run(plan, folder)

        most = PRESET_RUNS if cell.kind == "preset" else REPEATS
        results = [run() for _ in repeats(most)]
    runs = [{"wall_s": result.wall_s, "stages_s": dict(result.stages_s)} for result in results[1:]]
    preset = dict(cell.params).get("preset", matrix.PRESETS[0])
    return {"preset": preset, "runs": runs, "counts": dataclasses.asdict(results[-1].counts)}


def timing() -> tuple[dict, list, Callable]:
    import engine_parity
    import scaling
    import streams

    engines = Engines()
    engine = engines.get(matrix.PLAIN)
    apart = {
        "parity": engine_parity.Parity(engines).measure,
        "scaling": lambda cell: scaling.measure(engines.get(cell.engine), cell),
        "stream": streams.Streams(engines).measure,
    }
    facts = {"environment": dict(engine.environment), "load_s": engine.load_s, "repeats": REPEATS}

    def run(cell) -> dict:
        return apart[cell.kind](cell) if cell.kind in apart else measure_cell(engines, cell)

    return facts, matrix.timing_cells(engine.environment["source"]), run
