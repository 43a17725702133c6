"""Every field of upstream's: used, translated or told, silent at its default, and a row of the table."""

import dataclasses
from typing import Any

import pytest
from places import ROOT

from acestep.__main__ import main
from acestep.cli import upstream_fields
from acestep.cli.examples import load_example
from acestep.cli.upstream import ABSENT, LeftOut
from acestep.presets import PRESETS, requested
from acestep.request import GenerationConfig, GenerationParams
from harness.adjustments import Adjustments

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


def collected(strict: bool = False) -> LeftOut:
    return LeftOut(Adjustments(strict))


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
