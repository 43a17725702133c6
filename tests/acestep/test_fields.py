"""Every field of a request, in every task and variant: it takes part in what runs, or it is told why not."""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
import soundfile
from field_values import CODES, METADATA, NOTHING, PLACES, VALUES, runs
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
from harness.accelerators import Accelerator
from harness.errors import MissingPrerequisite, UsageError

CPU = Accelerator("cpu", "CPU", 16.0)
SETUPS = {
    (variant, lm): Setup.choose("synthetic-tiny", accelerator=CPU, dit=f"acestep-v15-{variant}", lm=lm)
    for variant in ("turbo", "base")
    for lm in ("auto", None)
}


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
