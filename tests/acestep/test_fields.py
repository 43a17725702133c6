"""Every field of a request, in every task and variant: it takes part in what runs, or it is told why not."""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from places import ROOT

from acestep import fields
from acestep.__main__ import main
from acestep.effective_plan import EffectivePlan
from acestep.request import GenerationConfig, GenerationParams
from acestep.resolver import resolve
from acestep.setup import Setup
from acestep.tasks import TASKS
from acestep.text import audio_codes
from harness.accelerators import Accelerator
from harness.errors import MissingPrerequisite, UsageError

CPU = Accelerator("cpu", "CPU", 16.0)
SETUPS = {
    (variant, lm): Setup.choose("synthetic-tiny", accelerator=CPU, dit=f"acestep-v15-{variant}", lm=lm)
    for variant in ("turbo", "base")
    for lm in ("auto", None)
}
METADATA = {"bpm": 96, "keyscale": "D minor", "timesignature": "4"}
CODES = audio_codes.join(range(65))
# Values other than the default, each of which asks for something else.
VALUES: dict[str, tuple[Any, ...]] = {
    "caption": ("a waltz", "slow dub " * 400),
    "lyrics": ("[Verse]\nLa la", ""),
    "duration": (3.3, 12.0, 47.0),
    "bpm": (96,),
    "keyscale": ("D minor",),
    "timesignature": ("3",),
    "vocal_language": ("en",),
    "instrumental": (True,),
    "reference_audio": ("SONG",),
    "audio_codes": (CODES,),
    "track_name": ("drums",),
    "complete_track_classes": (("bass", "drums"),),
    "repainting_start": (-2.0, 1.5),
    "repainting_end": (4.0, 9.0),
    "repaint_mode": ("aggressive", "conservative"),
    "repaint_strength": (0.0, 0.9),
    "repaint_injection_ratio": (0.0, 1.0),
    "repaint_latent_crossfade_frames": (0, 25),
    "repaint_wav_crossfade_sec": (0.0, 0.2),
    "chunk_mask_mode": ("explicit",),
    "flow_edit_morph": (True,),
    "flow_edit_source_caption": ("a waltz",),
    "flow_edit_source_lyrics": ("La la",),
    "flow_edit_n_min": (0.2,),
    "flow_edit_n_max": (0.7,),
    "flow_edit_n_avg": (2,),
    "audio_cover_strength": (0.0, 0.5),
    "cover_noise_strength": (0.01, 0.5, 1.0),
    "thinking": (True,),
    "use_cot_metas": (False,),
    "use_cot_caption": (True,),
    "use_cot_language": (True,),
    "use_constrained_decoding": (False,),
    "lm_temperature": (0.0, 1.2),
    "lm_cfg_scale": (1.0, 3.0),
    "lm_top_k": (50,),
    "lm_top_p": (0.5,),
    "lm_repetition_penalty": (1.2,),
    "lm_negative_prompt": ("noise",),
    "inference_steps": (1, 5),
    "shift": (2.0, 3.0),
    "timesteps": ((1.0,), (1.0, 0.75, 0.5)),
    "infer_method": ("sde", "heun"),
    "guidance_scale": (1.0, 4.0),
    "guidance_mode": ("adg", "cfg"),
    "cfg_interval_start": (0.3, 1.0),
    "cfg_interval_end": (0.7, 0.001),
    "velocity_norm_threshold": (0.7,),
    "velocity_ema_factor": (0.2,),
    "dcw_enabled": (True,),
    "dcw_mode": ("low", "high", "pix"),
    "dcw_scaler": (0.1,),
    "dcw_high_scaler": (0.1,),
    "dcw_wavelet": ("db4",),
    "retake_variance": (0.3,),
    "retake_seed": (5,),
    "latent_shift": (0.1,),
    "latent_rescale": (1.1,),
    "enable_normalization": (True,),
    "normalization_db": (-3.0,),
    "fade_in_duration": (0.5,),
    "fade_out_duration": (0.5,),
}
PLACES = ("task_type", "src_audio")  # where the others are tried
# What asks for nothing to be done is done where nothing would be.
NOTHING = {"use_cot_metas": False, "guidance_scale": 1.0}


@pytest.fixture(scope="module")
def song(tmp_path_factory) -> str:
    """Six seconds of a recording."""
    path = tmp_path_factory.mktemp("audio") / "song.wav"
    soundfile.write(path, [0.1, -0.1] * 24_000, 8_000)
    return str(path)


def params(song: str, task: str, **changes: Any) -> GenerationParams:
    """A request of `task`; a cover may have codes for its recording."""
    covered = task == "cover" and "audio_codes" in changes
    source = {"src_audio": song} if TASKS[task].source and not covered else {}
    values = {name: (song,) if value == "SONG" else value for name, value in changes.items()}
    return GenerationParams(task_type=task, **source | values)


def runs(plan: EffectivePlan) -> Mapping[str, Any]:
    """What the stages read of a plan, each under the condition under which they read it. Written down beside
    the stages, and not from the table that is tested."""
    request, times = plan.params, plan.times
    covers = bool(request.src_audio if request.task_type == "cover" else False) or bool(
        request.audio_codes or plan.lm_codes
    )
    painted = request.task_type in ("repaint", "lego")
    start, end = request.repainting_start, request.repainting_end
    whole = painted and start <= 0 and not 0 <= end < (plan.source_s or 0)
    heun = request.infer_method == "heun" and not request.flow_edit_morph
    ends = [0.0] if heun and not plan.setup.turbo else []  # where a base model's last corrector looks
    follows = len(times) + len(ends) > 1  # more than one velocity
    guided = not plan.setup.turbo and request.guidance_scale != 1
    guided = guided and any(
        request.cfg_interval_start <= t <= request.cfg_interval_end for t in (*times, *ends)
    )
    lm, thinks = plan.lm_metadata or plan.lm_codes, plan.lm_metadata
    names_language = thinks and request.use_cot_language and request.use_constrained_decoding
    kept = (
        request.repaint_injection_ratio,  # as it follows from mode and strength
        request.repaint_latent_crossfade_frames,
        request.repaint_wav_crossfade_sec,
        request.chunk_mask_mode,
    )
    read = {
        "always": (times, plan.instructions, plan.components, request.caption, request.duration),
        "told": plan.text_duration_s,
        "song": (request.bpm, request.keyscale, request.timesignature, request.src_audio),
        "inputs": (request.reference_audio, request.audio_codes, plan.lm_metadata, plan.lm_codes),
        "lyrics": request.instrumental or request.lyrics,
        "language": (request.vocal_language, names_language),
        "method": follows and request.infer_method,
        "region": painted and (start, end),
        "kept": painted and not whole and kept,
        "edit": request.flow_edit_morph and (plan.edits, request.src_audio),
        "edited": plan.edits
        and (
            request.flow_edit_source_caption,
            request.flow_edit_source_lyrics,
            request.flow_edit_n_avg,
        ),
        "velocity": (request.velocity_norm_threshold, follows and request.velocity_ema_factor),
        "wavelets": follows
        and request.dcw_enabled
        and (
            request.dcw_mode,
            request.dcw_scaler,
            request.dcw_mode == "double" and request.dcw_high_scaler,
            request.dcw_mode != "pix" and request.dcw_wavelet,
        ),
        "retake": request.retake_variance and (request.retake_variance, request.retake_seed),
        "latents": (request.latent_shift, request.latent_rescale),
        "level": request.enable_normalization and request.normalization_db,
        "fades": (request.fade_in_duration, request.fade_out_duration),
        "cover": covers and (request.audio_cover_strength, request.cover_noise_strength),
        "scale": guided and (request.guidance_scale, request.guidance_mode),
        "interval": not plan.setup.turbo
        and request.guidance_scale != 1
        and (request.cfg_interval_start, request.cfg_interval_end),
        "thought": thinks
        and (request.use_cot_caption, request.use_cot_language, request.use_constrained_decoding),
        "sampling": lm and (request.lm_temperature, request.lm_repetition_penalty),
        "nucleus": lm and request.lm_temperature > 0 and (request.lm_top_k, request.lm_top_p),
        "guided codes": plan.lm_codes and request.lm_cfg_scale,
        "negative": plan.lm_codes and request.lm_cfg_scale > 1 and request.lm_negative_prompt,
    }
    return read


def told(plan: EffectivePlan) -> set[str]:
    return {adjustment.field for adjustment in plan.adjustments}


def silent_fields(
    song: str, task: str, setup: Setup, changes: Mapping[str, Any], names: Iterable[str] | None = None
) -> list[str]:
    """Which of the changed fields (`names`, or all) neither change what runs nor are told."""
    plan = resolve(params(song, task, **changes), GenerationConfig(), setup)
    silent = []
    for name in changes if names is None else names:
        if name in told(plan) or NOTHING.get(name) == changes[name]:
            continue
        others = {other: value for other, value in changes.items() if other != name}
        if runs(plan) == runs(resolve(params(song, task, **others), GenerationConfig(), setup)):
            silent.append(name)
    return silent


def test_no_field_is_forgotten():
    assert {*VALUES, *PLACES} == {field.name for field in dataclasses.fields(GenerationParams)}
    table = fields.table()
    assert all(f"\n{name} " in table for name in (*VALUES, *PLACES))


@pytest.mark.parametrize("variant", ["turbo", "base"])
@pytest.mark.parametrize("task", TASKS)
def test_a_field_by_itself_changes_what_runs_or_is_told(song: str, task: str, variant: str):
    for lm in ("auto", None):
        setup = SETUPS[variant, lm]
        for name, values in VALUES.items():
            for value in values:
                try:
                    assert not silent_fields(song, task, setup, {name: value}), (name, value)
                except UsageError as error:
                    assert name in str(error)
                except MissingPrerequisite as error:
                    assert name == "thinking" in str(error) and lm is None


def test_the_table_is_what_is_told(song: str):
    """Where the printed table has no use for a field, the resolver says so or the request is refused."""
    head, *rows = (line.split() for line in fields.table().partition("\n\n")[0].splitlines())
    assert head == ["field", *TASKS, "turbo", "base"]
    for name, *cells in rows:
        for place, cell in zip(head[1:], cells, strict=True):
            task = place if place in TASKS else "text2music"
            setup = SETUPS["base" if place == "base" else "turbo", "auto"]
            if cell == "yes":
                continue
            changes = {name: song if name in PLACES else VALUES[name][-1]}
            if cell == "refused":
                with pytest.raises(UsageError, match=name):
                    params(song, task, **{"src_audio": song} | changes)
            else:
                assert told(resolve(params(song, task, **changes), GenerationConfig(), setup)) == {name}


CASES = [
    ("text2music", {"track_name": "drums"}, "track_name: drums has no use in text2music; left out"),
    ("text2music", {"audio_cover_strength": 0.5}, "audio_cover_strength: 0.5 has no use without a recording"),
    ("text2music", {"cover_noise_strength": 0.5}, "cover_noise_strength: 0.5 has no use without a recording"),
    ("cover", {"repainting_end": 4.0}, "repainting_end: 4 has no use in cover; left out"),
    ("cover", {"duration": 30.0}, "duration: 30 gives way to the length of the recording"),
    ("cover", {"audio_codes": CODES, "duration": 3.0}, "duration: 3 gives way to the length .*; using 13"),
    ("extract", {"complete_track_classes": ("bass",)}, "complete_track_classes: .* has no use in extract"),
    ("text2music", {"guidance_mode": "cfg"}, "guidance_mode: cfg has no use in a turbo model"),
    ("text2music", {"timesteps": (1.0, 0.5), "shift": 3.0}, "shift: 3 has no use beside timesteps"),
    ("text2music", {"timesteps": (1.0, 0.5), "inference_steps": 5}, "inference_steps: 5 has no use beside"),
    ("text2music", METADATA | {"duration": 12, "use_cot_caption": True}, "use_cot_caption: True has no use"),
    (
        "text2music",
        {"instrumental": True, "lyrics": "[Verse]\nLa"},
        r"lyrics: \[Verse\]\\nLa has no use beside",
    ),
    ("repaint", {"repaint_injection_ratio": 1.0}, "repaint_injection_ratio: 1 has no use where the whole"),
    (
        "cover",
        {"flow_edit_morph": True, "dcw_enabled": True},
        "dcw_enabled: True has no use beside flow_edit",
    ),
    ("cover", {"flow_edit_morph": True, "retake_variance": 0.5}, "retake_variance: 0.5 has no use beside"),
    ("cover", {"flow_edit_morph": True, "infer_method": "heun"}, "infer_method: heun has no use beside flow"),
    (
        "cover",
        {"flow_edit_morph": True, "flow_edit_n_max": 0.1, "flow_edit_n_avg": 3},
        "flow_edit_n_avg: 3 has no use where no step lies",
    ),
    ("cover", {"flow_edit_morph": True, "flow_edit_n_min": 0.1}, "flow_edit_n_min: 0.1 is less than a step"),
    (
        "text2music",
        {"inference_steps": 1, "dcw_enabled": True},
        "dcw_enabled: True has no use where it moves",
    ),
    ("text2music", {"lm_top_k": 9, "lm_temperature": 0.0}, "lm_top_k: 9 has no use at lm_temperature 0"),
    ("text2music", {"lm_cfg_scale": 3.0}, "lm_cfg_scale: 3 has no use where no audio codes are planned"),
    ("text2music", {"lm_negative_prompt": "noise"}, "lm_negative_prompt: noise has no use where no audio"),
]


@pytest.mark.parametrize(("task", "changes", "words"), CASES, ids=lambda value: None)
def test_what_has_no_use_is_told_in_one_line_and_refused_when_strict(song, task, changes, words):
    setup = SETUPS["turbo", "auto"]
    request = params(song, task, **changes)
    plan = resolve(request, GenerationConfig(), setup)
    [line] = map(str, plan.adjustments)
    assert re.match(words, line) and line.isprintable()
    [field] = told(plan)
    assert field == "duration" or getattr(plan.params, field) in (fields.DEFAULTS[field], 8)
    assert field not in plan.request or field == "duration"
    with pytest.raises(UsageError, match=rf"^{field}: .*\(strict\)$"):
        resolve(request, GenerationConfig(), dataclasses.replace(setup, strict=True))


def test_an_edit_of_codes_or_by_angles_is_told(song: str):
    """A recording is what is edited, and both of an edit's velocities are guided by APG or plainly."""
    codes = params(song, "cover", audio_codes=CODES, flow_edit_morph=True)
    [line] = map(str, resolve(codes, GenerationConfig(), SETUPS["turbo", None]).adjustments)
    assert line == "flow_edit_morph: True has no use without a recording; left out"
    for mode, applied in (("adg", ["guidance_mode: adg is not for flow_edit_morph; using apg"]), ("cfg", [])):
        request = params(song, "cover", flow_edit_morph=True, guidance_mode=mode)
        assert [*map(str, resolve(request, GenerationConfig(), SETUPS["base", None]).adjustments)] == applied


def test_a_base_models_heun_has_a_velocity_where_the_last_step_ends(song: str):
    """One step of it is two velocities, one at 0, where the interval of guidance may hold no other."""
    changes = {"inference_steps": 1, "infer_method": "heun", "velocity_ema_factor": 0.5}
    for variant, expected in (("base", set()), ("turbo", {"infer_method", "velocity_ema_factor"})):
        plan = resolve(params(song, "text2music", **changes), GenerationConfig(), SETUPS[variant, None])
        assert told(plan) == expected and len(plan.evaluations) == (1 if expected else 2)
    for method, expected in (("heun", set()), ("ode", {"guidance_scale"})):
        changes = {"infer_method": method, "guidance_scale": 4.0, "cfg_interval_end": 0.001}
        assert (
            told(resolve(params(song, "text2music", **changes), GenerationConfig(), SETUPS["base", None]))
            == expected
        )


def test_a_correction_of_no_band_is_told(song: str):
    """A last step ends at the data it believes in, and from time 1 no high band is moved."""
    for steps, changes, expected in (
        (2, {"dcw_mode": "high"}, {"dcw_enabled", "dcw_mode"}),
        (2, {"dcw_high_scaler": 0.1}, {"dcw_high_scaler"}),
        (2, {"dcw_mode": "low"}, set()),
        (3, {"dcw_mode": "high"}, set()),
        (3, {"dcw_high_scaler": 0.1}, set()),
        (3, {"dcw_scaler": 0.0, "dcw_high_scaler": 0.0}, {"dcw_enabled", "dcw_scaler", "dcw_high_scaler"}),
        (3, {"dcw_scaler": 0.0}, set()),
    ):
        request = params(song, "text2music", inference_steps=steps, dcw_enabled=True, **changes)
        assert told(resolve(request, GenerationConfig(), SETUPS["turbo", None])) == expected, (steps, changes)


def test_without_the_rules_the_same_fields_are_silent(song: str, monkeypatch: pytest.MonkeyPatch):
    changes = {"guidance_mode": "cfg", "cover_noise_strength": 0.01}
    assert not silent_fields(song, "cover", SETUPS["turbo", None], changes)
    monkeypatch.setattr(fields, "RULES", ())
    assert silent_fields(song, "cover", SETUPS["turbo", None], changes) == ["guidance_mode"]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_change_of_a_request_is_silent(song: str, data: st.DataObject):
    """One or two fields changed, as `--dry-run --strict` resolves them: an error that names one of them, or a
    plan that each of them changes."""
    task = data.draw(st.sampled_from([*TASKS]))
    setup = data.draw(st.sampled_from([*SETUPS.values()]))
    names = {data.draw(st.sampled_from([*VALUES])) for _ in range(2)}
    changes = {name: data.draw(st.sampled_from(VALUES[name])) for name in sorted(names)}
    if data.draw(st.booleans()):  # beside metadata that leaves nothing to plan
        changes = METADATA | {"duration": 12.0} | changes
    strict = dataclasses.replace(setup, strict=True)
    try:
        plan = resolve(params(song, task, **changes), GenerationConfig(), strict)
    except (UsageError, MissingPrerequisite) as error:
        assert any(name in str(error) for name in changes)
    else:
        assert not plan.adjustments
        assert not silent_fields(song, task, setup, changes)
        assert set(plan.request) >= set(changes) - {"audio_codes"}


def test_the_table_is_printed_and_is_the_documents(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as end:
        main(["generate", "--help-fields"])
    assert not end.value.code
    printed = capsys.readouterr().out
    assert printed == f"{fields.table()}\n"
    assert f"```\n{printed}```\n" in (ROOT / "docs/fields.md").read_text(encoding="utf-8")
