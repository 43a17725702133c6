"""Requests say what is wrong with them: field, value, what is allowed."""

import pytest

from acestep.errors import AceStepError, CheckpointError, MissingPrerequisite, UsageError
from acestep.examples import load_example
from acestep.request import GenerationConfig, GenerationParams, item_seeds


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("bpm", 29, "30 to 300"),
        ("bpm", 120.5, "whole number"),
        ("bpm", True, "30 to 300"),
        ("duration", float("nan"), "1 to 600"),
        ("duration", 601, "1 to 600"),
        ("duration", "30", "1 to 600"),
        ("keyscale", "H major", "A major"),
        ("timesignature", "5", "2, 3, 4, 6"),
        ("vocal_language", "tlh", "unknown"),
        ("lm_temperature", -0.1, "0 to 2"),
        ("lm_cfg_scale", 0.5, "1 to 20"),
        ("lm_top_p", 1.5, "0 to 1"),
        ("lm_top_k", -1, "0 to"),
        ("inference_steps", 0, "1 to 200"),
        ("shift", float("inf"), "0.1 to 20"),
        ("caption", 7, "not text"),
        ("lyrics", None, "not text"),
    ],
)
def test_a_bad_field_is_named_with_its_value_and_range(field: str, value: object, allowed: str):
    with pytest.raises(UsageError) as caught:
        GenerationParams(**{field: value})  # type: ignore[arg-type]
    assert str(caught.value).startswith(f"{field}: {value!r}") and allowed in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [("batch_size", 0), ("batch_size", 2.0), ("audio_format", "mp3"), ("seeds", (1, 2)), ("seeds", (-1,))],
)
def test_a_bad_run_is_refused(field: str, value: object):
    with pytest.raises(UsageError, match=field):
        GenerationConfig(**{field: value})  # type: ignore[arg-type]


def test_seeds_of_a_batch_are_consecutive_and_wrap():
    assert item_seeds(2**32 - 1, 3) == (2**32 - 1, 0, 1)


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("{", MissingPrerequisite, "line 1"),
        ("[]", UsageError, "list"),
        ('{"tempo": 3}', UsageError, "tempo"),
        ('{"bpm": 3}', UsageError, "30 to 300"),
        ('{"batch_size": "2"}', UsageError, "batch_size"),
        ('{"seed": -4}', UsageError, "seed"),
    ],
)
def test_a_bad_example_file_is_named(tmp_path, text: str, error: type[AceStepError], words: str):
    path = tmp_path / "example.json"
    path.write_text(text)
    with pytest.raises(error) as caught:
        load_example(path)
    assert str(path) in str(caught.value) and words in str(caught.value)


def test_a_missing_example_lists_what_is_there(tmp_path):
    (tmp_path / "there.json").write_text("{}")
    with pytest.raises(MissingPrerequisite, match=r"there\.json"):
        load_example(tmp_path / "absent.json")


def test_exit_codes_follow_the_kind_of_error():
    codes = {e: e.exit_code for e in (AceStepError, UsageError, MissingPrerequisite, CheckpointError)}
    assert list(codes.values()) == [1, 2, 3, 3]
