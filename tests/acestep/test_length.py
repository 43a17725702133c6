"""How long the music is, and how long its text is told that it is."""

from typing import Any

import pytest
import soundfile
import torch

from acestep.cuts import user_metadata
from acestep.effective_plan import EffectivePlan
from acestep.engine import Engine
from acestep.request import GenerationConfig, GenerationParams
from acestep.resolver import resolve
from acestep.setup import Setup
from acestep.text import audio_codes
from harness.accelerators import Accelerator

METADATA = {"bpm": 96, "keyscale": "D minor", "timesignature": "4"}
CODES = audio_codes.join(range(65))  # 13 s


def plan(
    lm: str | None = None, no_limits: bool = True, preset: str = "fixed", **fields: Any
) -> EffectivePlan:
    card = Accelerator("cuda", "GTX 1650", 3.81)
    setup = Setup.choose("synthetic-tiny", accelerator=card, lm=lm, no_limits=no_limits)
    return resolve(GenerationParams(**fields), GenerationConfig(preset=preset), setup)


@pytest.mark.parametrize(
    ("fields", "music_s", "text_s"),
    [
        ({"audio_codes": CODES}, 13, 30),
        ({"audio_codes": CODES, "duration": 47.9}, 13, 47),
        ({"audio_codes": CODES, "duration": 13.0}, 13, 13),
        ({"audio_codes": CODES, "task_type": "cover", "duration": 3.3}, 13, 3),
        ({"duration": 47.9}, 47.88, 47),
        ({}, 30, 30),
    ],
)
def test_beside_codes_the_text_is_told_what_the_request_says(fields, music_s: float, text_s: int):
    effective = plan(**fields)
    assert effective.params.duration == music_s
    assert user_metadata(effective.params, effective.text_duration_s).duration == text_s


def test_the_text_of_codes_is_within_the_limit_and_open_where_the_language_model_decides():
    limited = plan(no_limits=False, audio_codes=CODES, duration=600.0)
    assert limited.text_duration_s == limited.setup.max_duration_s < 600
    assert plan(lm="acestep-5Hz-lm-0.6B", audio_codes=CODES).text_duration_s is None
    assert plan(lm="acestep-5Hz-lm-0.6B", audio_codes=CODES, **METADATA).text_duration_s == 30
    assert plan(lm="acestep-5Hz-lm-0.6B", audio_codes=CODES, duration=20.0).text_duration_s == 20


@pytest.mark.parametrize("preset", ["fixed", "upstream", "guide"])
def test_half_a_minute_beside_codes_is_told_to_who_did_not_name_it(preset: str):
    codes, named, open_to_lm = (
        plan(preset=preset, **fields)
        for fields in (
            {"audio_codes": CODES},
            {"audio_codes": CODES, "duration": 30.0},
            {"audio_codes": CODES, "lm": "acestep-5Hz-lm-0.6B"},
        )
    )
    assert codes.text_duration_s == named.text_duration_s == 30
    note = "duration: none is named beside the audio codes; the text says 30 s, as upstream's"
    assert note in codes.notes
    assert note not in named.notes + open_to_lm.notes
    half_a_minute = audio_codes.join(range(150))
    assert note not in plan(preset=preset, audio_codes=half_a_minute).notes  # of which it is true


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"duration": 5.32}, "is read to a tenth of a second, in whole latent frames"),  # 133 frames
        ({"duration": 47.9}, "is no whole number of latent frames"),
        (
            {"duration": 47.9, "thinking": True, "lm": "acestep-5Hz-lm-0.6B"},
            "is no whole number of audio codes",
        ),
    ],
)
def test_why_less_is_made_than_was_asked_for(fields: dict[str, Any], reason: str):
    [change] = [change for change in plan(**fields).adjustments if change.field == "duration"]
    assert change.reason == reason and change.applied < change.requested


@pytest.mark.parametrize("task", ["repaint", "lego"])
def test_of_what_is_painted_on_the_text_is_told_the_whole(task: str, tmp_path):
    path = tmp_path / "song.wav"
    soundfile.write(path, [0.1, -0.1] * 24_000, 8_000)  # 6 s
    effective = plan(task_type=task, src_audio=str(path), repainting_start=-2.0, repainting_end=9.0)
    assert effective.params.duration == effective.text_duration_s == 11


def test_what_the_text_is_told_is_what_it_says(engine: Engine):
    def sung(**fields) -> tuple[torch.Tensor, int]:
        params = GenerationParams(audio_codes=CODES, inference_steps=1, **METADATA, **fields)
        [audio] = engine.generate(params, GenerationConfig(seeds=(1,))).audios
        assert audio.tensor.shape[1] == 13 * 48_000
        return audio.tensor, audio.metadata["duration"]

    (unsaid, half_a_minute), (said, thirty), (other, twelve) = sung(), sung(duration=30), sung(duration=12)
    assert (half_a_minute, thirty, twelve) == (30, 30, 12)
    assert torch.equal(unsaid, said) and not torch.equal(said, other)
