"""Passes of the DiT as recordings: the same music, which passes are recorded, and that they may be."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from compiled_dit import small_dit
from recorders import recording_cpu
from torch import Tensor
from two_steps import check_two_steps

from acestep import GenerationConfig, GenerationParams
from acestep.diffusion.step import Passes
from acestep.engine import Engine
from acestep.models.dit import Conditions, DiT, Modulation
from acestep.result import GenerationResult
from acestep.setup import Setup
from harness import captured, graphs, spans
from harness.captured import Captured
from harness.cards import find
from harness.device import VIRTUAL
from harness.graphs import Graphs, Step
from harness.trace.fake_card import FakeCard

LIMIT = 1e-5  # relative RMS, fp32
SEEDS = (1, 2)
PARAMS = GenerationParams(caption="dub", duration=6, bpm=120, inference_steps=4)
CODES = {"audio_codes": "".join(f"<|audio_code_{code}|>" for code in range(30))}
EDIT = {"flow_edit_morph": True, "flow_edit_source_caption": "jazz", "flow_edit_n_max": 0.75}
GUIDED = {"guidance_scale": 5.0, "shift": 1.0}  # at times 1, 0.75, 0.5 and 0.25
# What a request runs, and how often each of its recordings is replayed.
CASES: dict[str, tuple[str, dict[str, Any], list[int]]] = {
    "ode": ("turbo", {}, [4]),
    "sde, corrected": ("turbo", {"infer_method": "sde", "dcw_enabled": True}, [4]),
    "heun, smoothed": ("turbo", {"infer_method": "heun", "velocity_ema_factor": 0.3}, [7]),
    "guided, then not": ("base", GUIDED | {"cfg_interval_start": 0.6}, [2, 2]),
    "guided but for one": ("base", GUIDED | {"cfg_interval_start": 0.4}, [3]),
    "guided heun, clamped": ("base", GUIDED | {"infer_method": "heun", "velocity_norm_threshold": 0.5}, [8]),
    "two sets of conditions": ("turbo", CODES | {"audio_cover_strength": 0.5}, [2, 2]),
    "flow-edit": ("turbo", EDIT, [4, 3]),
    "a single step": ("turbo", {"inference_steps": 1}, []),
}
FRAMES = 41


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("audio") / "song.wav"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.3, 0.3, (6 * 48_000, 2)), 48_000)
    return str(path)


@pytest.fixture(scope="module")
def engines() -> dict[str, Engine]:
    """Engines that want graphs, which nothing records here unless a test says so."""
    return {variant: tiny_engine(dit=f"acestep-v15-{variant}") for variant in ("turbo", "base")}


def tiny_engine(**choices: Any) -> Engine:
    setup = Setup.choose("synthetic-tiny", device="cpu", lm=None, **choices)
    return Engine.from_setup(dataclasses.replace(setup, graphs=True))


def generate(engine: Engine, fields: dict[str, Any], song: str) -> GenerationResult:
    if "flow_edit_morph" in fields:
        fields = fields | {"src_audio": song, "task_type": "cover"}
    params = dataclasses.replace(PARAMS, **fields)
    return engine.generate(params, GenerationConfig(batch_size=len(SEEDS), seeds=SEEDS))


def difference(found: GenerationResult, expected: GenerationResult) -> float:
    """The largest relative RMS of an item."""
    pairs = zip(found.audios, expected.audios, strict=True)
    return max(float((a.tensor - b.tensor).norm() / b.tensor.norm()) for a, b in pairs)


@pytest.mark.parametrize("case", CASES)
def test_recorded_music_is_that_of_calls(case: str, engines, song: str, monkeypatch: pytest.MonkeyPatch):
    variant, fields, replays = CASES[case]
    called = generate(engines[variant], fields, song)
    recorder = recording_cpu(monkeypatch)
    recorded = generate(engines[variant], fields, song)
    assert difference(recorded, called) < LIMIT
    assert recorder.replays == replays
    assert recorded.counts == called.counts and recorded.warnings == called.warnings
    stages = list(called.stages_s)
    if replays:
        stages.insert(stages.index("diffuse"), "compile")
    assert list(recorded.stages_s) == stages


@pytest.mark.parametrize("fields", [{"infer_method": "heun"}, {"velocity_ema_factor": 0.3}], ids=str)
def test_a_velocity_that_is_not_copied_out_is_another_song(fields: dict, engines, song: str, monkeypatch):
    """The control: heun and smoothing keep the velocity before, where the next replay writes."""
    called = generate(engines["turbo"], fields, song)
    recording_cpu(monkeypatch)
    monkeypatch.setattr(captured.Buffered, "taken", lambda self: self._result)
    assert difference(generate(engines["turbo"], fields, song), called) > 100 * LIMIT


def test_tables_that_are_not_copied_in_are_another_song(engines, song: str, monkeypatch):
    called = generate(engines["turbo"], {}, song)
    recording_cpu(monkeypatch)
    monkeypatch.setattr(captured.Buffered, "put", lambda self, x, *_: self._arguments[0].copy_(x))
    assert difference(generate(engines["turbo"], {}, song), called) > 100 * LIMIT


@pytest.mark.parametrize("error", [None, RuntimeError("no more")])
def test_recordings_end_with_diffusion(error: Exception | None, engines, song: str, monkeypatch):
    """Before weights leave the device, and before the VAE wants memory; also where diffusion fails."""
    recorder = recording_cpu(monkeypatch)
    alive: dict[str, int] = {}
    monkeypatch.setattr(spans, "_observer", lambda path: alive.__setitem__(path, recorder.alive))
    if error:
        monkeypatch.setattr(graphs.Graphs, "run", raises(error))
        with pytest.raises(RuntimeError, match="no more"):
            generate(engines["turbo"], {}, song)
    else:
        generate(engines["turbo"], {}, song)
        assert alive["vae_decode"] == 0
    assert alive["diffuse"] == 1 and recorder.alive == 0


def raises(error: Exception) -> Callable[..., None]:
    def run(*_: object) -> None:
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (RuntimeError("operation not permitted"), "RuntimeError: operation not permitted"),
        (torch.OutOfMemoryError("CUDA out of memory"), "out of memory: device memory ran out"),
    ],
)
def test_what_cannot_be_recorded_is_called_and_told(error: Exception, why, engines, song: str, monkeypatch):
    called = generate(engines["turbo"], {}, song)
    monkeypatch.setattr(recording_cpu(monkeypatch), "record", raises(error))
    result = generate(engines["turbo"], {}, song)
    assert difference(result, called) == 0
    reason = f"diffuse: not recorded ({why}); launched kernel by kernel"
    assert result.warnings == (*called.warnings, reason)


def test_a_setup_without_graphs_records_nothing(engines, song: str, monkeypatch):
    recorder = recording_cpu(monkeypatch)
    engine = Engine.load("synthetic-tiny", device="cpu", lm=None)
    assert "compile" not in generate(engine, {}, song).stages_s and recorder.replays == []


class Caught:
    """A recorder that records nothing and keeps what it is given."""

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def record(self, step: Step) -> Step:
        self.steps.append(step)
        return step


def conditions(dit: DiT, device: str, *, guided: bool) -> Conditions:
    width = dit.config.encoder.hidden_size
    null = torch.zeros(1, 1, width, device=device) if guided else None
    encoded = torch.zeros(1, 11, width, device=device)
    return dit.condition(torch.zeros(2, FRAMES, 128, device=device), encoded, null)


def steps_on(card: FakeCard, *, guided: bool) -> tuple[Step, Conditions]:
    """What is recorded of a DiT on a card, and its conditions."""
    dit = small_dit(2).to(VIRTUAL)
    caught = Caught()
    given = conditions(dit, VIRTUAL, guided=guided)
    times = torch.zeros(3, device=VIRTUAL)
    passes = Passes(dit, Captured("diffuse", Graphs(caught), set()))
    passes.record(given, dit.modulate(times), guided)
    (step,) = caught.steps
    return step, given


# What a pass does beside, and what is said of it.
PLANTED: dict[str, tuple[Callable[[Conditions, list[Tensor]], object], str]] = {
    "a value read back": (lambda given, _: given.context.sum().item(), "host and card meet"),
    "a shape that grows": (lambda given, kept: given.context[:, : len(kept)].sum(), "in the first step"),
    "an allocation that stays": (lambda given, kept: kept.append(given.context * 2), "stay allocated"),
    "a tensor of the host": (lambda *_: torch.arange(4), "makes a tensor of the host"),
}


@pytest.mark.parametrize("guided", [False, True])
def test_a_pass_may_be_recorded(guided: bool):
    with FakeCard(find("rtx4090")) as card, torch.inference_mode():
        step, _ = steps_on(card, guided=guided)
        events = check_two_steps(card, step)
        assert sum("scaled_dot_product" in str(event[0]) for event in events) > 2


@pytest.mark.parametrize("fault", PLANTED)
def test_a_pass_that_may_not_is_seen(fault: str, monkeypatch: pytest.MonkeyPatch):
    plant, message = PLANTED[fault]
    velocity, kept = DiT.velocity, []

    def planted(dit: DiT, x: Tensor, given: Conditions, modulation: Modulation, step: int) -> Tensor:
        plant(given, kept)
        if "grows" in fault:
            kept.append(x)
        return velocity(dit, x, given, modulation, step)

    monkeypatch.setattr(DiT, "velocity", planted)
    with FakeCard(find("rtx4090")) as card, torch.inference_mode():
        step, _ = steps_on(card, guided=False)
        with pytest.raises(AssertionError, match=message):
            check_two_steps(card, step)
        kept.clear()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("case", CASES)
def test_on_a_real_card(case: str, song: str):
    variant, fields, replays = CASES[case]
    choices = {
        "device": "cuda",
        "dtype": "fp32",
        "dit": f"acestep-v15-{variant}",
        "lm": None,
        "compile": False,
    }
    called, recorded = (
        generate(Engine.load("synthetic-tiny", graphs=graphs, **choices), fields, song)
        for graphs in (False, True)
    )
    assert difference(recorded, called) < LIMIT and recorded.warnings == called.warnings
    assert ("compile" in recorded.stages_s) == bool(replays)
