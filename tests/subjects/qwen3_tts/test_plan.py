"""What a request comes to: what runs is shown, and what is not done as asked is told or refused."""

import numpy as np
import pytest
import soundfile

from harness.errors import MissingPrerequisite, UsageError
from subjects.qwen3_tts.layout import TINY
from subjects.qwen3_tts.plan import Plan, resolve
from subjects.qwen3_tts.request import request
from subjects.qwen3_tts.setup import Setup
from subjects.qwen3_tts.text import spoken, tokens


def plan(model: str = "0.6B-CustomVoice", strict: bool = False, **fields) -> Plan:
    setup = Setup.choose(TINY, model=model, device="cpu", strict=strict)
    return resolve(request(**fields), setup)


@pytest.mark.parametrize(
    ("duration_s", "frames"), [(0.08, 1), (0.081, 2), (1.0, 13), (1.04, 13), (20.0, 250), (None, None)]
)
def test_a_duration_is_whole_frames_of_80_ms(duration_s, frames):
    assert plan(duration_s=duration_s).frames == frames


IDLE = {
    "instruct": ("0.6B-CustomVoice", "calmly", ""),
    "speaker": ("1.7B-VoiceDesign", "eric", None),
    "reference": ("1.7B-CustomVoice", "voice.wav", None),
}


@pytest.mark.parametrize("name", IDLE)
def test_what_a_model_has_no_use_for_is_told_and_refused_when_strict(name):
    model, value, nothing = IDLE[name]
    told = plan(model, **{name: value})
    assert getattr(told.request, name) == nothing
    [adjustment] = told.adjustments
    assert str(adjustment) == f"{name}: {value} has no use in {model}; left out"
    with pytest.raises(UsageError, match=f"{name}: .*leave it out \\(strict\\)"):
        plan(model, strict=True, **{name: value})


def test_every_type_has_its_prompt():
    rows = {model: plan(model, language="german").prompt.rows for model in ("0.6B-Base", "0.6B-CustomVoice")}
    assert [row.x_vector for row in rows["0.6B-Base"]].count(True) == 1
    assert not any(row.x_vector for row in rows["0.6B-CustomVoice"])
    assert len(rows["0.6B-Base"]) == 10  # text follows with the frames
    said = len(tokens(TINY, plan().request.text))
    assert len(rows["0.6B-CustomVoice"]) == said + 11
    without = plan("1.7B-VoiceDesign", language="german").prompt.rows
    assert len(without) == said + 10  # no speaker
    designed = plan("1.7B-VoiceDesign", language="german", instruct="like a pilot").prompt.rows
    assert len(designed) == said + 10 + 5 + len(tokens(TINY, "like a pilot"))


def test_tokens_are_the_texts_own_and_one_can_give_them():
    assert tokens(TINY, "a b a") == (*tokens(TINY, "a"), *tokens(TINY, " b"), *tokens(TINY, " a"))
    given = plan(text_ids=(5, 6, 7))
    assert given.text_tokens == 3 and given.prompt == plan(text_ids=[5, 6, 7]).prompt
    assert spoken((5,))[3] == 5 and len(spoken((5,))) == 9
    with pytest.raises(UsageError, match="text: has no tokens"):
        plan(text="")


WRONG = {
    "duration_s": 0.01,
    "batch_size": 0,
    "text_ids": (151_936,),
    "reference_codes": ((1, 2),),
    "language": "klingon",
    "speaker": "nobody",
    "chunk_frames": 0,
    "temperature": 0.0,
}


@pytest.mark.parametrize("name", WRONG)
def test_a_value_out_of_range_names_its_field(name):
    company = {"reference_text": "a"} if name == "reference_codes" else {}
    with pytest.raises(UsageError, match=f"^{name}: "):
        plan(**{name: WRONG[name]}, **company)


def test_seeds_follow_one_another_and_begin_again():
    assert request(batch_size=3, seed=2**32 - 2).seeds == (2**32 - 2, 2**32 - 1, 0)


def test_a_text_of_too_many_tokens_is_refused():
    for name in ("text", "instruct"):
        assert plan("1.7B-VoiceDesign", **{name: 8_191 * "a " + "a"})
        with pytest.raises(UsageError, match=f"{name}: 8,193 tokens are too many; use at most 8,192"):
            plan("1.7B-VoiceDesign", **{name: 8_192 * "a " + "a"})


def recording(path, seconds: float) -> str:
    soundfile.write(path, np.zeros(round(8_000 * seconds), np.float32), 8_000)
    return str(path)


def test_what_is_not_listened_to_of_a_recording_is_told_or_refused(tmp_path):
    long, whole = recording(tmp_path / "long.wav", 31.5), recording(tmp_path / "whole.wav", 30.0)
    assert plan("0.6B-Base", reference=whole).adjustments == ()
    (told,) = plan("0.6B-Base", reference=long).adjustments
    assert str(told).endswith("long.wav of 31.5 s is longer than what is listened to; using its first 30 s")
    with pytest.raises(UsageError, match=r"name a shorter recording \(strict\)"):
        plan("0.6B-Base", strict=True, reference=long)


@pytest.mark.parametrize("seconds", [1 / 8_000, 0.099])
def test_a_recording_that_is_too_short_is_refused_before_anything_is_loaded(seconds, tmp_path):
    with pytest.raises(MissingPrerequisite, match=r"reference: .*short\.wav. is under 0\.1 s"):
        plan("0.6B-Base", reference=recording(tmp_path / "short.wav", seconds))
