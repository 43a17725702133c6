"""Requests of upstream's programs: read as they are, and told of what is left out of them."""

import json
from typing import Any

import pytest

from acestep.__main__ import main
from acestep.cli.examples import load_description, load_example
from acestep.cli.upstream import ABSENT, ALIASES, OF_WORDS, SWITCHES, LeftOut, field_name
from acestep.request import DescriptionParams, GenerationParams
from acestep.tasks import TASKS
from harness.adjustments import Adjustments
from harness.errors import UsageError

# What upstream's interface saves when nobody has chosen anything but the caption.
NEUTRAL: dict[str, Any] = {
    "task_type": "text2music",
    "instruction": TASKS["text2music"].instruction,
    **dict.fromkeys(("reference_audio", "src_audio", "bpm", "timesteps", "cot_bpm", "cot_duration")),
    **dict.fromkeys(("audio_codes", "lyrics", "keyscale", "timesignature", "cot_caption", "cot_lyrics"), ""),
    **dict.fromkeys(("cot_keyscale", "cot_timesignature"), ""),
    **dict.fromkeys(("vocal_language", "cot_vocal_language"), "unknown"),
    **dict.fromkeys(("duration", "seed", "repainting_end"), -1),
    **dict.fromkeys(("instrumental", "use_adg", "thinking", "enable_normalization", "allow_lm_batch"), False),
    **dict.fromkeys(("use_cot_metas", "use_cot_caption", "use_cot_lyrics", "use_cot_language"), False),
    **dict.fromkeys(("use_random_seed", "use_constrained_decoding"), True),
    **dict.fromkeys(("cfg_interval_start", "repainting_start", "cover_noise_strength", "latent_shift"), 0.0),
    **dict.fromkeys(("cfg_interval_end", "shift", "audio_cover_strength", "latent_rescale"), 1.0),
    "normalization_db": -1.0,
    "infer_method": "ode",
    "inference_steps": 8,
    "lm_temperature": 0.85,
    "lm_cfg_scale": 2.0,
    "lm_top_k": 0,
    "lm_top_p": 0.9,
    "lm_negative_prompt": "NO USER INPUT",
    "batch_size": 2,
    "seeds": None,
    "lm_batch_chunk_size": 8,
    "constrained_decoding_debug": False,
    "audio_format": "flac",
    "caption": "slow waltz",
}


def collected(strict: bool = False) -> LeftOut:
    return LeftOut(Adjustments(strict))


def test_a_request_that_chose_nothing_is_ours_that_chose_nothing(write):
    left_out = collected(strict=True)
    params, config = load_example(write(NEUTRAL), left_out)
    assert params == GenerationParams("slow waltz", "", duration=None, use_cot_metas=False, inference_steps=8)
    assert (config.batch_size, config.seeds, config.audio_format) == (2, None, "flac")
    [note] = left_out.notes
    assert note.endswith("have no counterpart here, and nothing is asked for; left out")
    names = {*note.partition(":")[0].split(", ")}
    assert names == NEUTRAL.keys() & ABSENT.keys()


def test_it_runs_and_tells_in_the_plan_too(write, capsys):
    path = write(NEUTRAL | {"guidance_scale": 1.0, "eta": 2.0})
    command = [
        "generate",
        "--source",
        "synthetic-tiny",
        "--device",
        "cpu",
        "--example",
        str(path),
        "--dry-run",
    ]
    assert main([*command, "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    [change] = plan["adjustments"]
    assert (change["field"], change["requested"], change["applied"]) == ("eta", 2.0, None)
    assert "cot_lyrics" in plan["notes"][0]
    assert main([*command, "--strict"]) == 2
    assert "eta: 2 has no counterpart here; leave it out (strict)" in capsys.readouterr().err


SIMPLE = {"description": "a lullaby", "instrumental": False, "vocal_language": "it"}


def test_the_query_of_the_simple_mode_is_createss_and_music_takes_it_for_a_caption(write):
    path = write(SIMPLE)
    assert load_description(path) == DescriptionParams(query="a lullaby", vocal_language="it")
    left_out = collected()
    params, _ = load_example(path, left_out)
    assert (params.caption, params.vocal_language) == ("a lullaby", "it")
    assert str(left_out.changes[0]).startswith("query: a lullaby is for the command create")
    with pytest.raises(UsageError, match="query: a lullaby is for the command create"):
        load_example(path)


NAMES = [*ALIASES.items(), *((ours, ours) for ours in ("taskType", "inferenceSteps", "audioCoverStrength"))]


@pytest.mark.parametrize(("theirs", "ours"), NAMES)
def test_a_name_of_upstreams_is_one_of_ours(theirs: str, ours: str):
    music, words = ({*kind.__dataclass_fields__} for kind in (GenerationParams, DescriptionParams))
    assert field_name(theirs, music | words) in music | words | ABSENT.keys()
    camel = theirs.split("_")[0] + "".join(word.title() for word in theirs.split("_")[1:])
    assert field_name(camel, music | words) == field_name(theirs, music | words)
    if ours in ALIASES.values():
        assert field_name(theirs, music | words) == ours


def test_no_name_of_ours_is_taken_for_another():
    for kind in (GenerationParams, DescriptionParams):
        names = {*kind.__dataclass_fields__}
        assert [field_name(name, names) for name in names] == [*names]
        assert not names & (ALIASES.keys() | ABSENT.keys() | SWITCHES.keys())
    assert OF_WORDS.keys() <= {*GenerationParams.__dataclass_fields__}


def test_the_sampling_of_words_has_one_prefix_less(write):
    path = write({"query": "x", "lm_temperature": 0.5, "lm_top_k": 3})
    assert (load_description(path).temperature, load_description(path).top_k) == (0.5, 3)
    assert load_example(write({"lm_top_k": 3}))[0].lm_top_k == 3


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"use_adg": True}, {"guidance_mode": "adg"}),
        ({"use_adg": False}, {"guidance_mode": "apg"}),
        ({"sampler_mode": "heun"}, {"infer_method": "heun"}),
        ({"samplerMode": "euler", "infer_method": "sde"}, {"infer_method": "sde"}),
        ({"timesteps": "1.0,0.5,0"}, {"timesteps": (1.0, 0.5, 0.0)}),
        ({"timesteps": "1.0, 0.5, 0"}, {"timesteps": (1.0, 0.5, 0.0)}),
        ({"time_signature": 3, "keyScale": "C Major"}, {"timesignature": "3", "keyscale": "C major"}),
        ({"shift": None, "lyrics": None}, {"shift": 1.0, "lyrics": "[Instrumental]"}),
    ],
)
def test_what_is_said_in_another_way_is_the_same(write, fields, expected):
    params, _ = load_example(write(fields))
    assert {name: getattr(params, name) for name in expected} == expected


@pytest.mark.parametrize("audio_format", ["flac", "wav", "mp3", "opus", "aac", "wav32"])
def test_files_are_written_in_every_format_that_upstream_has(write, audio_format: str):
    fields = {"audio_format": audio_format, "mp3_bitrate": "320k", "mp3SampleRate": 44_100}
    _, config = load_example(write(NEUTRAL | fields), collected(strict=True))
    assert (config.audio_format, config.mp3_bitrate, config.mp3_sample_rate) == (audio_format, "320k", 44_100)


@pytest.mark.parametrize("name", [name for name in ABSENT if not ABSENT[name].idle])
def test_what_asks_for_something_that_is_not_here_is_told_and_refused_when_strict(write, name: str):
    path = write({name: "other"})
    left_out = collected()
    load_example(path, left_out)
    assert [change.field for change in left_out.changes] == [name] and not left_out.notes
    for strict in (collected(strict=True), None):
        with pytest.raises(UsageError, match=f"{name}: other "):
            load_example(path, strict)


def test_every_unknown_field_is_named_at_once(write):
    unknown = {f"strange_{number}": number for number in range(13)}
    with pytest.raises(UsageError) as caught:
        load_example(write(unknown | {"caption": "x"}))
    assert all(repr(name) in str(caught.value) for name in unknown)
    with pytest.raises(UsageError, match="and 170 more; allowed: caption"):
        load_example(write({f"strange_{number}": number for number in range(200)}))


@pytest.mark.parametrize("value", [{"a": [1]}, 10**400, float("nan"), "x" * 10**5, [[[]]], True])
def test_whatever_is_left_out_can_be_written_down(write, value: Any):
    left_out = collected()
    load_example(write({"momentum": value}), left_out)
    assert len(str(left_out.changes[0])) < 200
    json.dumps(left_out.changes[0].requested, allow_nan=False)


def test_a_file_of_music_is_none_of_words(write):
    with pytest.raises(UsageError, match="unknown fields 'thinking', 'shift'; allowed: audio_codes, query"):
        load_description(write({"thinking": True, "shift": 3.0, "cot_bpm": None}))


def test_a_duration_of_whole_seconds_may_have_a_point(write):
    assert load_description(write({"caption": "x", "duration": 12.0})).duration == 12
    assert load_example(write({"caption": "x", "duration": 12.0}))[0].duration == 12
    with pytest.raises(UsageError, match=r"duration: 12\.5 is not allowed; use a whole number"):
        load_description(write({"caption": "x", "duration": 12.5}))


def test_upstreams_default_crossfades_are_left_to_the_mode_and_others_are_used(write):
    song = {"task_type": "repaint", "src_audio": "x.wav"}
    left_out = collected()
    params, _ = load_example(
        write(song | {"repaint_latent_crossfade_frames": 10, "repaint_wav_crossfade_sec": 0}), left_out
    )
    assert params.repaint_latent_crossfade_frames is None and params.repaint_wav_crossfade_sec is None
    assert len(left_out.notes) == 2
    params, _ = load_example(
        write(song | {"repaint_latent_crossfade_frames": 11, "repaint_wav_crossfade_sec": 0.1})
    )
    assert (params.repaint_latent_crossfade_frames, params.repaint_wav_crossfade_sec) == (11, 0.1)


def test_the_servers_names_of_the_switches_are_no_thoughts(write):
    params, _ = load_example(write({"cot_caption": True, "cot-language": True}))
    assert params.use_cot_caption and params.use_cot_language
