"""Requests say what is wrong with them: field, value, what is allowed."""

import dataclasses
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from request_values import FIELDS

from acestep.request import (
    DescriptionParams,
    GenerationConfig,
    GenerationParams,
)
from acestep.spelling import open_values
from harness.checks import shown
from harness.errors import BenchError, CheckpointError, MissingPrerequisite, UsageError
from harness.subject import item_seeds

EVERY = [(kind, field) for kind, fields in FIELDS.items() for field in fields]
IDS = [f"{kind.__name__}.{field}" for kind, field in EVERY]


def test_no_field_is_forgotten():
    for kind, fields in FIELDS.items():
        assert {field.name for field in dataclasses.fields(kind)} == set(fields)


@pytest.mark.parametrize(("kind", "field"), EVERY, ids=IDS)
def test_a_field_takes_what_is_allowed_up_to_its_bounds(kind: type, field: str):
    values = FIELDS[kind][field]
    for value in values.good:
        made = kind(**values.beside | {field: value})
        assert dataclasses.replace(made) == made
        hash(made)


@pytest.mark.parametrize(("kind", "field"), EVERY, ids=IDS)
def test_a_field_refuses_what_is_not_and_names_itself_and_the_value(kind: type, field: str):
    values = FIELDS[kind][field]
    for value in values.bad:
        with pytest.raises(UsageError) as caught:
            kind(**values.beside | {field: value})
        message = str(caught.value)
        assert message.startswith(f"{field}: ") and is_one_line(message), message
        # A text that is text is told by what is wrong with it, a list by its item.
        assert shown(value) in message or isinstance(value, (str, list, tuple, range)), message


def is_one_line(message: str) -> bool:
    """Printable, and no longer than the longest list of what is allowed (52 languages) makes it."""
    return message.isprintable() and len(message) <= 320


json_numbers = st.one_of(
    st.integers(), st.floats(), st.sampled_from([0, 1, -1, 2**63, 10**400, 1e308, 5e-324, -0.0])
)
json_texts = st.one_of(
    st.text(st.characters(codec=None), max_size=30),
    st.sampled_from(["", "text2music", "cover", "repaint", "song.wav", "drums", "x" * 20_000, "<|im_end|>"]),
    st.sampled_from(["<|audio_code_5|>", "A minor", "4", "en", "ode", "cfg", "[Instrumental]", "flac"]),
)
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), json_numbers, json_texts),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("kind", FIELDS, ids=lambda kind: kind.__name__)
@settings(deadline=None)
@given(data=st.data())
def test_any_json_makes_a_request_or_a_refusal(kind: type, data: st.DataObject):
    some = st.dictionaries(st.sampled_from([*FIELDS[kind]]), json_values, min_size=1, max_size=4)
    fields = data.draw(some)
    try:
        made = kind(**fields)
    except UsageError as error:
        assert is_one_line(str(error)) and any(name in str(error) for name in FIELDS[kind])
    else:
        assert dataclasses.replace(made) == made  # what is valid stays valid


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"src_audio": "a.wav"}, "src_audio: text2music has no source; drop it, or set task_type to cover"),
        ({"task_type": "cover"}, "src_audio: cover works on a recording"),
        ({"task_type": "repaint"}, "src_audio: repaint works on a recording"),
        ({"task_type": "cover", "src_audio": "a.wav", "audio_codes": "<|audio_code_5|>"}, "use one of them"),
        ({"task_type": "lego", "src_audio": "a.wav", "audio_cover_strength": 0.5}, "lego is no cover"),
        ({"task_type": "repaint", "src_audio": "a.wav", "cover_noise_strength": 0.1}, "repaint is no cover"),
        (
            {"task_type": "repaint", "src_audio": "a.wav", "repainting_start": 4, "repainting_end": 3.5},
            "repainting_end: 3.5 is not after repainting_start 4",
        ),
        ({"task_type": "lego", "src_audio": "a.wav", "repainting_end": 0}, "repainting_end: 0 is not after"),
        (
            {"cfg_interval_start": 0.5, "cfg_interval_end": 0.4},
            "cfg_interval_end: 0.4 is not allowed; use a number from 0.5 to 1",
        ),
        ({"timesteps": (0.5, 0.7)}, "timesteps: (0.5, 0.7) do not fall"),
        ({"timesteps": (0.0,)}, "timesteps: 0.0 is where the last step ends"),
    ],
)
def test_fields_that_contradict_each_other_are_refused(fields: dict[str, Any], words: str):
    with pytest.raises(UsageError) as caught:
        GenerationParams(**fields)
    assert words in str(caught.value) and is_one_line(str(caught.value))


OPEN = {"duration": [None, ""], "bpm": [None, ""], "inference_steps": [None, ""]}
OPEN |= {"guidance_scale": [None, ""], "src_audio": [None, ""], "caption": [None, ""]}
OPEN |= {name: [None, "", (), []] for name in ("reference_audio", "timesteps", "complete_track_classes")}
OPEN |= {name: [None, ""] for name in ("keyscale", "timesignature", "audio_codes", "track_name")}
OPEN |= {"vocal_language": [None, "", "unknown"]}
REPAINT = ("repaint_injection_ratio", "repaint_latent_crossfade_frames", "repaint_wav_crossfade_sec")
OPEN |= {name: [None, ""] for name in (*REPAINT, "retake_seed")}
OPEN |= {f"flow_edit_source_{name}": [None, ""] for name in ("caption", "lyrics")}


@pytest.mark.parametrize("field", OPEN)
def test_a_field_that_can_be_left_open_takes_every_spelling_of_it(field: str):
    assert set(OPEN) == set(open_values(GenerationParams))
    opened = {getattr(GenerationParams(**{field: value}), field) for value in OPEN[field]}
    assert opened == {open_values(GenerationParams)[field]}


SPELLINGS: dict[tuple[str, Any], list[Any]] = {
    ("keyscale", "C major"): ["C Major", "c major", "C MAJOR", "Cmaj"],
    ("keyscale", "Db minor"): ["Db Minor", "DB MINOR", "db minor", "Dbm", "Db min"],
    ("keyscale", "B minor"): ["Bm", "b minor"],
    ("keyscale", "F♯ minor"): ["f♯ Minor"],
    ("timesignature", "4"): [4, 4.0, "4/4"],
    ("timesignature", "6"): [6, "6/8"],
    ("vocal_language", "zh"): ["ZH", "Zh"],
}


@pytest.mark.parametrize("kind", [GenerationParams, DescriptionParams], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(("field", "ours"), SPELLINGS)
def test_metadata_has_one_spelling(kind: type, field: str, ours: str):
    assert {getattr(kind(**{field: value}), field) for value in (ours, *SPELLINGS[field, ours])} == {ours}


@pytest.mark.parametrize("key", ["C", "CM", "Bb", "H major", "C##m", "C  major", "Cm ", "C dorian"])
def test_a_key_without_a_plain_mode_is_refused(key: str):
    with pytest.raises(
        UsageError, match=re.escape(f"keyscale: {key!r} is not allowed; use a note from A to")
    ):
        GenerationParams(keyscale=key)


@pytest.mark.parametrize("value", [True, 5, 4.5, "4/8", [4]])
def test_a_time_signature_that_is_none_is_named_as_it_was_given(value: Any):
    with pytest.raises(UsageError) as caught:
        GenerationParams(timesignature=value)
    assert str(caught.value).startswith(f"timesignature: {shown(value)} is not allowed; use one of 2, 3")


def test_a_cover_of_codes_needs_no_recording():
    assert GenerationParams(task_type="cover", audio_codes="<|audio_code_5|>").src_audio is None


def test_seeds_are_one_per_item():
    assert GenerationConfig(2, [3, 4]).seeds == (3, 4)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="seeds: 2 given for batch_size 3; give one per item"):
        GenerationConfig(3, (3, 4))


def test_seeds_of_a_batch_are_consecutive_and_wrap():
    assert item_seeds(2**32 - 1, 3) == (2**32 - 1, 0, 1)


def test_exit_codes_follow_the_kind_of_error():
    codes = {e: e.exit_code for e in (BenchError, UsageError, MissingPrerequisite, CheckpointError)}
    assert list(codes.values()) == [1, 2, 3, 3]
