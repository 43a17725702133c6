"""One resolver: what was asked for, what will run, and a line for each difference."""

import dataclasses

import pytest
import soundfile

from acestep import resolver
from acestep.audio import writing
from acestep.request import DescriptionParams, GenerationConfig, GenerationParams
from acestep.setup import Setup
from acestep.text import audio_codes
from acestep.weights.layout import LMS
from harness.accelerators import Accelerator
from harness.errors import MissingPrerequisite, UsageError

CARD_8 = Accelerator("cuda", "RTX 4060", 7.66)
CARD_4 = Accelerator("cuda", "GTX 1650", 3.81)
CARD_16 = Accelerator("cuda", "T4", 14.56)
CARD_24 = Accelerator("cuda", "RTX 4090", 23.6)
CPU = Accelerator("cpu", "CPU", 16.0)
METADATA = {"bpm": 96, "keyscale": "D minor", "timesignature": "4"}
BASE = "acestep-v15-base"


def made(accelerator: Accelerator, **choices) -> Setup:
    return Setup.choose("synthetic-tiny", accelerator=accelerator, **choices)


def resolve(accelerator: Accelerator = CPU, setup: dict | None = None, run: dict | None = None, **params):
    config = GenerationConfig(**(run or {}))
    return resolver.resolve(GenerationParams(**params), config, made(accelerator, **(setup or {})))


@pytest.mark.parametrize(
    ("card", "choices", "lm", "offload", "offload_dit"),
    [
        (CARD_4, {}, None, True, True),
        (CARD_8, {}, None, True, True),  # the tier allows a language model and loads none unasked
        (CARD_8, {"want_lm": True}, LMS[0], True, True),
        (CARD_16, {}, LMS[1], True, False),
        (CARD_24, {}, LMS[2], False, False),
        (CPU, {}, LMS[0], False, False),
        (CPU, {"lm": None}, None, False, False),
        (CARD_24, {"offload_to_cpu": True}, LMS[2], True, False),
        (CARD_4, {"offload_to_cpu": False, "offload_dit_to_cpu": False}, None, False, False),
    ],
)
def test_a_setup_has_its_tiers_defaults_unless_told(card, choices, lm, offload, offload_dit):
    setup = made(card, **choices)
    assert (setup.lm, setup.offload_to_cpu, setup.offload_dit_to_cpu) == (lm, offload, offload_dit)
    assert setup.adjustments == ()


@pytest.mark.parametrize(("card", "applied"), [(CARD_8, LMS[0]), (CARD_4, None)])
def test_a_language_model_over_the_tier_is_replaced_and_says_so(card, applied):
    setup = made(card, lm=LMS[2])
    assert setup.lm == applied
    [adjustment] = setup.adjustments
    assert (adjustment.field, adjustment.requested, adjustment.applied) == ("lm", LMS[2], applied)
    with pytest.raises(UsageError, match="lm"):
        made(card, lm=LMS[2], strict=True)
    assert made(card, lm=LMS[2], no_limits=True).lm == LMS[2]


def test_the_largest_model_on_16_gb_is_offloaded_whatever_was_said():
    setup = made(CARD_16, lm=LMS[2], offload_to_cpu=False)
    assert setup.offload_to_cpu and [a.field for a in setup.adjustments] == ["offload_to_cpu"]


def test_limits_clamp_with_one_line_each():
    plan = resolve(CARD_8, {"lm": LMS[0]}, {"batch_size": 3, "seeds": (1, 2, 3)}, duration=300, **METADATA)
    assert plan.params.duration == 240 and plan.config.batch_size == 2 and plan.config.seeds == (1, 2)
    assert [a.field for a in plan.adjustments] == ["batch_size", "duration"]
    assert plan.warnings == (*map(str, plan.adjustments), *plan.setup.notes)
    for word in ("duration", "300", "240", "8 GB (RTX 4060)", "with LM"):
        assert word in plan.warnings[1]
    assert all("\n" not in line for line in plan.warnings)


def test_without_a_language_model_the_limits_are_wider():
    assert resolve(CARD_8, {"lm": None}, duration=300, **METADATA).adjustments == ()


def test_strict_refuses_what_would_be_changed():
    with pytest.raises(UsageError, match=r"duration: 300 .*240.*strict"):
        resolve(CARD_8, {"lm": LMS[0], "strict": True}, duration=300, **METADATA)


def test_no_limits_is_no_limits():
    plan = resolve(CARD_4, {"no_limits": True}, {"batch_size": 9}, duration=600, **METADATA)
    assert (plan.params.duration, plan.config.batch_size, plan.adjustments) == (600, 9, ())


def test_a_plain_cpu_limits_nothing():
    plan = resolve(CPU, run={"batch_size": 16}, duration=600, **METADATA)
    assert plan.adjustments == () and plan.setup.limits is None


@pytest.mark.parametrize(
    ("dit", "params", "steps", "guidance"),
    [
        (None, {}, 8, 1.0),
        (None, {"inference_steps": 4}, 4, 1.0),
        (BASE, {}, 50, 7.0),
        (BASE, {"inference_steps": 20, "guidance_scale": 3}, 20, 3),
        (BASE, {"guidance_scale": 1}, 50, 1),
        (BASE, {"timesteps": (1.0, 0.5)}, 2, 7.0),
    ],
)
def test_steps_and_guidance_are_the_variants_own_unless_given(dit, params, steps, guidance):
    plan = resolve(setup={"dit": dit}, **METADATA, **params)
    assert (len(plan.times), plan.params.guidance_scale) == (steps, guidance)
    assert plan.adjustments == ()


def test_a_turbo_model_is_never_guided():
    plan = resolve(guidance_scale=7.0, **METADATA)
    assert plan.params.guidance_scale == 1.0 and not plan.guided
    assert [a.field for a in plan.adjustments] == ["guidance_scale"]


@pytest.mark.parametrize(
    ("params", "applied"),
    [
        ({"shift": 2.4}, {"shift": 2.0}),
        ({"shift": 2.4, "inference_steps": 8}, {"shift": 2.0}),
        ({"shift": 2.4, "inference_steps": 12}, {}),
        ({"shift": 3}, {}),
        ({"timesteps": (1.0, 0.5, 0.0)}, {}),
        ({"timesteps": (0.98, 0.51)}, {"timesteps": [1.0, 0.5]}),
    ],
)
def test_a_turbo_model_says_which_times_it_took_instead(params, applied):
    plan = resolve(**METADATA, **params)
    assert {a.field: a.applied for a in plan.adjustments} == applied
    assert resolve(setup={"dit": BASE}, **METADATA, **params).adjustments == ()


def test_duration_is_the_codes_then_the_requests_then_30_seconds():
    codes = audio_codes.join([7] * 60)
    assert resolve(audio_codes=codes, duration=99, **METADATA).params.duration == 12
    assert resolve(duration=17, **METADATA).params.duration == 17
    assert resolve(setup={"lm": None}, duration=None).params.duration == 30
    planned = resolve(duration=None)
    assert planned.params.duration is None and planned.lm_metadata  # the language model's to say
    assert resolve(duration=None, use_cot_metas=False).params.duration == 30


def test_codes_over_the_limit_are_cut():
    plan = resolve(CARD_4, audio_codes=audio_codes.join([7] * 1000), **METADATA)
    assert len(audio_codes.parse(plan.params.audio_codes)) == 900 and plan.params.duration == 180
    assert [a.field for a in plan.adjustments] == ["duration"]


def test_codes_beyond_the_last_are_replaced_and_told():
    codes = audio_codes.join([7, 64_500] * 30)
    plan = resolve(audio_codes=codes, **METADATA)
    assert plan.params.audio_codes == audio_codes.join([7, 63_999] * 30) and plan.params.duration == 12
    [change] = plan.adjustments
    assert (change.field, change.requested, change.applied) == ("audio_codes", 64_500, 63_999)
    params, [same] = resolver.resolve_description(
        DescriptionParams(audio_codes=codes), "understand", made(CPU)
    )
    assert params.audio_codes == plan.params.audio_codes and same == change
    with pytest.raises(UsageError, match=r"^audio_codes: 64500 is beyond .*, as are 29 more; .*\(strict\)$"):
        resolve(setup={"strict": True}, audio_codes=codes, **METADATA)


@pytest.fixture
def song(tmp_path):
    """Ten seconds of a recording."""
    import numpy as np
    import soundfile

    path = tmp_path / "song.wav"
    soundfile.write(path, 0.1 * np.sin(np.arange(80_000)), 8_000)
    return str(path)


def test_a_recording_gives_the_duration_and_skips_the_language_model(song):
    plan = resolve(task_type="cover", src_audio=song, thinking=True)
    assert plan.source_s == 10 and plan.params.duration == 10
    assert not plan.lm_metadata and not plan.lm_codes
    assert [a.field for a in plan.adjustments] == ["thinking"]


@pytest.mark.parametrize(
    ("start", "end", "painted_s", "region"),
    [
        (2, 5, 10, (2, 5)),
        (-4, 5, 14, (-4, 5)),
        (2, 18, 18, (2, 18)),
        (-2, -1, 12, (-2, -1)),
        (-300, 5, 180, (-170, 5)),  # the source stays whole, what comes before it is what fits
        (-300, 400, 180, (-170, 10)),
        (0, 400, 180, (0, 180)),
    ],
)
def test_a_region_may_reach_beyond_the_recording_within_the_limit(song, start, end, painted_s, region):
    plan = resolve(CARD_4, task_type="repaint", src_audio=song, repainting_start=start, repainting_end=end)
    assert plan.params.duration == painted_s
    assert (plan.params.repainting_start, plan.params.repainting_end) == region
    cut = {"repainting_start": (start, region[0]), "repainting_end": (end, region[1])}
    cut = {name: ends for name, ends in cut.items() if ends[0] != ends[1]}
    changed = {change.field: (change.requested, change.applied) for change in plan.adjustments}
    assert changed.keys() == ({"duration", *cut} if cut else set())
    assert cut.items() <= changed.items()


def test_a_region_past_the_end_is_refused(song):
    with pytest.raises(UsageError, match="repainting_start"):
        resolve(task_type="repaint", src_audio=song, repainting_start=10)


def test_the_sentence_follows_the_task(song):
    assert resolve(**METADATA).instruction.startswith("Fill the audio semantic mask")
    assert resolve(thinking=True, **METADATA).instruction.startswith("Generate audio semantic tokens")
    lego = resolve(task_type="lego", src_audio=song, track_name="backing_vocals")
    assert lego.instruction == "Generate the BACKING_VOCALS track based on the audio context:"
    tracks = ("drums", "bass")
    complete = resolve(task_type="complete", src_audio=song, complete_track_classes=tracks)
    assert complete.instruction == "Complete the input track with DRUMS | BASS:"


def test_a_task_a_turbo_model_never_learned_is_noted(song):
    assert resolve(task_type="lego", src_audio=song).notes
    assert not resolve(setup={"dit": BASE}, task_type="lego", src_audio=song).notes
    assert not resolve(task_type="repaint", src_audio=song).notes


def test_an_edit_that_skips_every_step_is_noted(song):
    morph = {"task_type": "cover", "src_audio": song, "flow_edit_morph": True}
    [note] = resolve(**morph, flow_edit_n_min=1.0).notes
    assert note.startswith("flow_edit_n_min: 1 skips every step")
    assert not resolve(**morph, flow_edit_n_min=0.99).notes


def test_thinking_without_a_language_model_is_a_missing_prerequisite():
    with pytest.raises(MissingPrerequisite, match="no language model"):
        resolve(setup={"lm": None}, thinking=True, **METADATA)


def test_a_plan_is_plain_values():
    import json

    plan = resolve(CARD_8, {"lm": LMS[0]}, duration=300, thinking=True, **METADATA)
    values = json.loads(json.dumps(plan.as_dict()))
    assert values["tier"] == "tier4" and values["duration_s"] == 240
    assert values["adjustments"][0] == {
        "field": "duration",
        "requested": 300,
        "applied": 240,
        "reason": plan.adjustments[0].reason,
    }


def test_effective_requests_are_still_valid_requests(song):
    plan = resolve(CARD_4, task_type="repaint", src_audio=song, repainting_start=-300, repainting_end=400)
    assert dataclasses.replace(plan.params) == plan.params


@pytest.mark.parametrize("field", ["fade_in_duration", "fade_out_duration"])
def test_a_fade_is_no_longer_than_the_audio(field: str):
    assert not resolve(duration=12.0, **{field: 12.0}).adjustments
    plan = resolve(duration=12.0, **{field: 12.5})
    [line] = map(str, plan.adjustments)
    assert line == f"{field}: 12.5 is longer than the audio; using 12"
    assert getattr(plan.params, field) == 12 == plan.request[field]
    with pytest.raises(UsageError, match=rf"^{field}: 12.5 is longer than the audio; ask for 12 \(strict\)"):
        resolve(setup={"strict": True}, duration=12.0, **{field: 12.5})


@pytest.mark.parametrize(("field", "value"), [("mp3_bitrate", "320k"), ("mp3_sample_rate", 44_100)])
def test_what_is_for_mp3_has_no_use_elsewhere(field: str, value: object):
    plan = resolve(run={"audio_format": "mp3", field: value})
    assert not plan.adjustments and plan.request == {"audio_format": "mp3", field: value}
    plan = resolve(run={field: value})
    assert [*map(str, plan.adjustments)] == [f"{field}: {value} has no use but in mp3; left out"]
    assert plan.config == GenerationConfig() and not plan.request
    with pytest.raises(UsageError, match=f"{field}: {value} has no use but in mp3"):
        resolve(setup={"strict": True}, run={field: value})


MISSING = {
    "aac": (writing, "find_spec", lambda name: None, "needs PyAV, .*; pip install '.\\[aac\\]'"),
    "mp3": (soundfile, "check_format", lambda *_: False, "needs libsndfile 1.1 or later, and this is "),
    "opus": (soundfile, "check_format", lambda *_: False, "needs libsndfile 1.1 or later, and this is "),
}


@pytest.mark.parametrize("name", MISSING)
def test_a_format_that_cannot_be_written_is_refused_before_anything_is_loaded(name: str, monkeypatch):
    module, function, replacement, reason = MISSING[name]
    monkeypatch.setattr(module, function, replacement)
    with pytest.raises(MissingPrerequisite, match=f"^audio_format: {name} {reason}"):
        resolve(run={"audio_format": name})
    assert not resolve(run={"audio_format": "flac"}).adjustments
