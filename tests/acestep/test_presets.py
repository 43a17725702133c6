"""Presets: what holds where a request says nothing, and that a record of it cannot lie."""

import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import acestep.costs.__main__ as costs
from acestep import presets
from acestep.__main__ import main
from acestep.costs import command
from acestep.effective_plan import EffectivePlan
from acestep.presets import PRESETS, UPSTREAM, requested
from acestep.request import PRESET_NAMES, GenerationConfig, GenerationParams
from acestep.resolver import resolve
from acestep.setup import Setup
from acestep.subject import SUBJECT
from harness.accelerators import Accelerator
from harness.errors import UsageError
from harness.subject import DEFAULT_PRESET

CPU = Accelerator("cpu", "CPU", 16.0)
SETUPS = {
    (variant, lm): Setup.choose("synthetic-tiny", accelerator=CPU, dit=f"acestep-v15-{variant}", lm=lm)
    for variant in ("turbo", "base")
    for lm in ("auto", None)
}
METADATA = {"bpm": 96, "keyscale": "D minor", "timesignature": "4", "duration": 20.0}
# A few fields of each kind: what a preset sets, and what none does.
CHANGES = {
    "thinking": (True, False),
    "use_cot_metas": (True, False),
    "use_cot_caption": (True, False),
    "lyrics": ("", "[Instrumental]", "La"),
    "dcw_enabled": (True, False, None),
    "enable_normalization": (True, False),
    "shift": (1.0, 3.0),
    "duration": (20.0, None),
}


def plan(preset: str, variant: str = "turbo", lm: str | None = "auto", **changes) -> EffectivePlan:
    start = PRESETS[preset]
    return resolve(dataclasses.replace(start.params, **changes), start.config, SETUPS[variant, lm])


def test_the_names_are_the_tables():
    assert [*PRESETS] == PRESET_NAMES and DEFAULT_PRESET in PRESETS
    assert all(preset.config.preset == name for name, preset in PRESETS.items())


def test_fixed_is_what_a_request_is_by_itself():
    fixed = PRESETS["fixed"]
    assert (fixed.params, fixed.config) == (GenerationParams(), GenerationConfig())
    assert fixed.values(turbo=True) == {} == plan("fixed").preset_values
    assert plan("fixed", lm=None).params.duration == fixed.duration_s == 30


def test_upstream_is_what_its_api_does():
    found = plan(UPSTREAM)
    assert found.lm_metadata and found.lm_codes and found.params.duration is None
    assert (found.config.batch_size, found.config.audio_format, found.params.lyrics) == (2, "flac", "")
    assert found.params.use_cot_caption and found.params.use_cot_language
    assert found.params.enable_normalization and found.params.normalization_db == -1
    assert (len(found.times), found.params.shift) == (8, 1.0)
    base = plan(UPSTREAM, "base")
    assert (found.params.dcw_enabled, base.params.dcw_enabled) == (True, False)
    assert (len(base.times), base.params.guidance_scale) == (50, 7.0)
    assert plan(UPSTREAM, "base", dcw_enabled=True).request == {"dcw_enabled": True}


def test_a_language_that_is_given_is_kept_beside_a_preset_that_would_have_it_thought():
    found = plan(UPSTREAM, vocal_language="it")
    assert found.request == {"vocal_language": "it"} and not found.adjustments
    assert not found.params.use_cot_language and "use_cot_language" in found.as_dict()["preset_unused"]
    [change] = plan("fixed", vocal_language="it", use_cot_language=True).adjustments
    assert (change.field, change.applied) == ("use_cot_language", None)
    assert plan(UPSTREAM).params.use_cot_language


def test_without_a_language_model_upstream_takes_two_minutes_and_tells():
    found = plan(UPSTREAM, lm=None)
    assert not found.lm_codes and found.params.duration == 120
    [change] = found.adjustments
    assert (change.field, change.applied) == ("thinking", None)
    assert found.request == {}
    strict = dataclasses.replace(SETUPS["turbo", None], strict=True)
    with pytest.raises(UsageError, match=r"thinking: True is the preset's.*\(strict\)"):
        resolve(PRESETS[UPSTREAM].params, PRESETS[UPSTREAM].config, strict)


def test_a_preset_asks_for_nothing_where_nothing_can_be_done():
    """What it sets and has no use is in the plan, and no adjustment; what is asked for besides is one."""
    found = plan(UPSTREAM, **METADATA)
    assert not found.adjustments
    values = found.as_dict()
    assert values["preset_unused"] == ["use_cot_caption", "use_cot_language"]
    assert not values["preset_values"].keys() & {*values["preset_unused"]}
    by_hand = plan("fixed", use_cot_caption=True, **METADATA)
    assert [change.field for change in by_hand.adjustments] == ["use_cot_caption"]


@settings(deadline=None)
@given(data=st.data())
def test_preset_and_requested_are_the_whole_request(data: st.DataObject):
    """From a record alone the request can be made again, and it comes to the same plan; and a plan that names
    another preset comes to another record."""
    name = data.draw(st.sampled_from(PRESET_NAMES))
    variant, lm = data.draw(st.sampled_from(["turbo", "base"])), data.draw(st.sampled_from(["auto", None]))
    names = data.draw(st.sets(st.sampled_from([*CHANGES]), max_size=3))
    changes = {field: data.draw(st.sampled_from(CHANGES[field])) for field in sorted(names)}
    start = PRESETS[name]
    changed = dataclasses.replace(start.params, **changes)
    setup = SETUPS[variant, lm]
    if changed.thinking and lm is None and not start.params.thinking:
        return  # refused
    first = resolve(changed, start.config, setup)
    record = json.loads(json.dumps(first.as_dict()))
    values = {field: value for field, value in record["request"].items() if field != "duration"}
    if "duration" in record["request"]:
        values["duration"] = record["duration_s"]
    again = resolve(
        dataclasses.replace(PRESETS[record["preset"]].params, **values),
        PRESETS[record["preset"]].config,
        setup,
    )
    assert (again.params, again.config) == (first.params, first.config)


def test_a_record_that_named_another_preset_would_show():
    """The control: the same request under another name has more that was asked for."""
    start = PRESETS[UPSTREAM]
    lying = resolve(start.params, dataclasses.replace(start.config, preset="fixed"), SETUPS["turbo", "auto"])
    assert {"thinking", "enable_normalization", "batch_size", "audio_format"} <= lying.request.keys()
    assert plan(UPSTREAM).request == {}


@pytest.mark.parametrize("name", ["", "Upstream", "none", "x" * 200])
def test_an_unknown_preset_is_refused_in_one_line(name: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(UsageError, match=r"preset: .* is not allowed; use one of fixed, upstream, guide"):
        presets.named(name)
    with pytest.raises(UsageError, match="preset"):
        SUBJECT.request(preset=name)
    assert main(["generate", "--dry-run", "--preset", name]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "--preset" in line and "upstream" in line


def test_flags_are_over_the_file_and_the_file_is_over_the_preset(tmp_path, capsys):
    path = tmp_path / "song.json"
    path.write_text(json.dumps({"caption": "x", "use_cot_caption": False, "batch_size": 3, "shift": 2}))
    command = ["generate", "--source", "synthetic-tiny", "--device", "cpu", "--dry-run", "--json"]

    def shown(*words: str) -> dict:
        assert main([*command, "--example", str(path), *words]) == 0
        return json.loads(capsys.readouterr().out)

    found = shown("--preset", "upstream", "--no-thinking", "--format", "wav")
    assert found["preset"] == "upstream"
    assert found["request"] == {
        "caption": "x",
        "thinking": False,
        "use_cot_caption": False,
        "shift": 2,
        "batch_size": 3,
        "seeds": [42, 43, 44],
        "audio_format": "wav",
    }
    assert found["duration_s"] is None
    assert found["preset_values"] == {
        "lyrics": "",
        "use_cot_language": True,
        "dcw_enabled": True,
        "enable_normalization": True,
    }
    assert shown()["preset"] == "fixed" and shown()["duration_s"] == 30
    guided = shown("--preset", "guide")
    assert guided["lm"] is None and guided["preset_values"] == {"use_cot_metas": False}


def test_a_prediction_begins_with_the_preset_too():
    def asked(*words: str) -> tuple[GenerationParams, GenerationConfig]:
        params, config, _ = command._request(costs.arguments().parse_args([*words, "--duration", "20"]))
        return params, config

    assert not asked()[0].thinking and asked()[1].preset == "fixed"  # whatever the example has
    params, config = asked("--preset", "upstream")
    assert params.thinking and params.use_cot_caption and params.duration == 20
    assert (config.preset, config.batch_size, config.audio_format) == ("upstream", 2, "flac")
    assert not asked("--preset", "upstream", "--no-thinking")[0].thinking


def test_what_differs_from_a_record_is_what_was_asked_for():
    base = GenerationConfig(batch_size=2, preset=UPSTREAM)
    assert requested(base, GenerationConfig()) == {"batch_size": 2}  # the name is told apart
