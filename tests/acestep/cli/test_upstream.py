"""Requests of upstream's programs: read as they are, and told of what is left out of them."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from places import ROOT

from acestep.__main__ import main
from acestep.cli import upstream_fields
from acestep.cli.examples import load_description, load_example
from acestep.cli.upstream import ABSENT, ALIASES, OF_WORDS, SWITCHES, LeftOut, field_name
from acestep.presets import PRESETS, requested
from acestep.request import DescriptionParams, GenerationConfig, GenerationParams
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


@pytest.fixture
def write(tmp_path: Path):
    """Write a request; the path of its file."""

    def run(fields: dict[str, Any]) -> Path:
        path = tmp_path / "request.json"
        path.write_text(json.dumps(fields))
        return path

    return run


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


# Values of upstream's fields that are not its defaults, beside what each needs.
ASKED: dict[str, Any] = {
    "task_type": "repaint",
    "instruction": "Make it loud:",
    "reference_audio": "voice.ogg",
    "reference_audio_path": "voice.ogg",
    "audio_codes": "<|audio_code_5|>",
    "audio_code_string": "<|audio_code_5|>",
    **dict.fromkeys(("caption", "prompt", "lyrics", "global_caption", "lm_negative_prompt"), "a waltz"),
    **dict.fromkeys(("flow_edit_source_caption", "flow_edit_source_lyrics", "sample_query"), "a waltz"),
    **dict.fromkeys(("cot_caption", "cot_lyrics", "model", "lm_model_path", "lm_backend"), "a waltz"),
    **dict.fromkeys(("guidance_variant", "guidance_params", "eta", "momentum"), "a waltz"),
    "mp3_bitrate": "320k",
    **dict.fromkeys(("vocal_language", "cot_vocal_language"), "de"),
    **dict.fromkeys(("bpm", "cot_bpm"), 97),
    **dict.fromkeys(("keyscale", "key_scale", "cot_keyscale"), "D minor"),
    **dict.fromkeys(("timesignature", "time_signature", "cot_timesignature"), "3"),
    **dict.fromkeys(("duration", "audio_duration", "cot_duration"), 20.5),
    **dict.fromkeys(("src_audio", "src_audio_path"), "loop.flac"),
    **dict.fromkeys(("seed", "retake_seed"), "7"),
    "seeds": [7, 9],
    "use_random_seed": True,
    "repaint_strength": 0.9,
    "track_name": "drums",
    "track_classes": ["drums"],
    "batch_size": 3,
    "audio_format": "opus",
    "infer_method": "sde",
    "sampler_mode": "heun",
    "timesteps": "1.0,0.5,0",
    "chunk_mask_mode": "explicit",
    "repaint_mode": "aggressive",
    "dcw_mode": "low",
    "dcw_wavelet": "db4",
    "mp3_sample_rate": 44_100,
    "normalization_db": -3.0,
    "repainting_end": 2.0,
    "lm_top_k": 40,
    "lm_batch_chunk_size": 4,
    "inference_steps": 5,
    "flow_edit_n_avg": 2,
    **dict.fromkeys(("repaint_latent_crossfade_frames", "repaint_wav_crossfade_sec"), 3),
    **dict.fromkeys(("latent_rescale", "lm_repetition_penalty"), 1.25),
    **dict.fromkeys(("guidance_scale", "shift", "lm_cfg_scale"), 3.0),
}
NEEDED = {
    "task_type": {"src_audio": "loop.flac"},
    "src_audio": {"task_type": "repaint"},
    "src_audio_path": {"task_type": "repaint"},
}


def asked(name: str) -> dict[str, Any]:
    """A file that asks for something by upstream's field `name`."""
    default = (upstream_fields.SERVER | upstream_fields.PARAMS | upstream_fields.CONFIG)[name]
    other = not default if isinstance(default, bool) else 0.5
    covers = {"audio_cover_strength", "cover_noise_strength"} & {name}
    beside = {"audio_codes": ASKED["audio_codes"]} if covers else NEEDED.get(name, {})
    return {name: ASKED.get(name, other)} | beside


UPSTREAMS = [*(upstream_fields.PARAMS | upstream_fields.CONFIG | upstream_fields.SERVER)]


@pytest.mark.parametrize("name", UPSTREAMS)
def test_every_field_of_upstreams_is_used_translated_or_told(write, name: str):
    """A request with the field is another one than without, unless the field is absent, which is told."""
    fields, preset = asked(name), PRESETS["upstream"]
    beside = {other: value for other, value in fields.items() if other != name}
    left_out, told = collected(), collected()
    request = load_example(write(fields), left_out, preset)
    without = load_example(write({} if "task_type" in fields else beside), told, preset)
    if upstream_fields.ours(name) in ABSENT.keys() - {"mp3_bitrate", "mp3_sample_rate"}:
        assert request == without and left_out.warnings
    else:
        assert request != without or left_out.changes


def test_what_is_absent_asks_for_nothing_at_upstreams_defaults(write):
    """Negative control: at these every absent field is silent, and at others it is not."""
    for defaults in (upstream_fields.PARAMS | upstream_fields.CONFIG, upstream_fields.SERVER):
        absent = {name: value for name, value in defaults.items() if name in ABSENT and name != "lm_backend"}
        left_out = collected(strict=True)
        load_example(write(absent), left_out)
        assert not left_out.changes


def test_the_preset_is_what_upstreams_api_defaults_to(write):
    """Upstream's own defaults in a file are the preset's request, but for what docs/upstream.md names."""
    file = load_example(write(upstream_fields.PARAMS | upstream_fields.CONFIG), collected())
    preset = PRESETS["upstream"]
    assert requested(file[0], preset.params) == {
        "inference_steps": 8,
        "guidance_scale": 7.0,
        "dcw_enabled": True,
    }
    assert requested(file[1], preset.config) == {}
    assert requested(file[0], PRESETS["fixed"].params) != requested(file[0], preset.params)


def test_the_table_is_printed_and_is_the_documents(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as end:
        main(["generate", "--help-upstream"])
    assert not end.value.code
    printed = capsys.readouterr().out
    assert printed == f"{upstream_fields.table()}\n"
    assert (ROOT / "docs/upstream.md").read_text(encoding="utf-8").endswith(f"\n\n{printed}")
    rows = printed.splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == UPSTREAMS
    fields = {
        field.name for kind in (GenerationParams, GenerationConfig) for field in dataclasses.fields(kind)
    }
    ours = {upstream_fields.ours(name) for name in UPSTREAMS}
    only_ours = fields - ours
    assert only_ours == {"guidance_mode", "repaint_injection_ratio", "preset"}


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
