"""What a record says of a run that was streamed; of one that was not, what it has always said."""

import math

import msgspec
import pytest
from profiles import sample

from harness.records import making
from harness.records import schema as record
from harness.records.schema import Sample
from harness.streaming import Arrivals

LATE = Arrivals((0.5, 0.75, 2.5), (0.5, 0.5, 0.25))


@pytest.mark.parametrize(("error", "written"), [(1e-7, 1e-7), (math.inf, None)])
def test_a_stream_is_written_as_it_was_heard(error: float, written: float | None):
    streamed = making.streamed(sample(3.0), LATE, error, latents_s=0.25)
    assert msgspec.to_builtins(streamed.stream) == {
        "time_to_first_code_ms": None,
        "time_to_latents_ms": 250.0,
        "time_to_first_chunk_ms": 500.0,
        "chunk_latencies_ms": (250.0, 1750.0),
        "underruns": 1,
        "silence_ms": 1000.0,
        "offline_error": written,
    }
    assert (streamed.first_audio_s, streamed.wall_s) == (0.5, 3.0)
    assert msgspec.json.decode(record.encode(streamed), type=Sample) == streamed


def test_a_run_that_was_not_streamed_says_nothing_of_it_and_is_read_by_what_knows_no_streams():
    assert b"stream" not in record.encode(sample(3.0))
