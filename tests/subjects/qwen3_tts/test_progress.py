"""The work that the time left is told by is that of the stages that run."""

from collections import Counter

import pytest
from begun import begun

from subjects.qwen3_tts.config import FRAME_SAMPLES, SAMPLE_RATE
from subjects.qwen3_tts.progress import parts
from subjects.qwen3_tts.request import request


@pytest.mark.parametrize("frames", [1, 5])
def test_frames_and_their_decoding_begin_as_often_as_is_told(engine, frames):
    plan = engine.resolve(request(frames * FRAME_SAMPLES / SAMPLE_RATE))
    of_frames, decoding = parts(plan)
    paths = begun(lambda: engine.run(plan))
    assert Counter(paths)[of_frames.begins] == of_frames.times == frames - 1
    inside = paths[paths.index("talker_prefill") + 1 : paths.index(decoding.begins)]
    assert {path.partition("/")[0] for path in inside} <= {of_frames.stage, *of_frames.beside}


def test_nothing_is_told_of_what_ends_by_itself(engine):
    assert parts(engine.resolve(request(None))) == ()
