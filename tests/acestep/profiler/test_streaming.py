"""A stream is profiled as it is heard."""

from __future__ import annotations

import pytest
from profiler_runs import SHORT

from acestep.profiler import streaming
from acestep.profiler.tables import NONE
from harness.records import writer as output

STREAMED = (*SHORT, "--streaming", "--chunk", "4", "--no-warmup")


def test_a_stream_is_profiled_as_it_is_heard(run, tmp_path):
    path = tmp_path / "profile.json"
    code, out, _ = run(*STREAMED, "--thinking", "--lm-cfg-scale", "1", "--benchmark-output", str(path))
    assert code == 0
    for words in ("TIME COSTS BREAKDOWN", "STREAM", "3 of 4 s", "As made at once         yes, but for "):
        assert words in out
    [item] = output.load(path)[1]
    [sample] = item.samples
    heard = sample.stream
    assert item.status == "ok" and item.requested["chunk_s"] == 4
    assert sum(sample.stages_s.values()) == pytest.approx(sample.wall_s, rel=0.01)
    assert 0 < heard.time_to_first_code_ms < heard.time_to_latents_ms < heard.time_to_first_chunk_ms
    assert sample.first_audio_s == pytest.approx(heard.time_to_first_chunk_ms / 1e3)
    assert len(heard.chunk_latencies_ms) == 2 and heard.offline_error < 5e-5
    assert f"First chunk             {heard.time_to_first_chunk_ms:,.1f} ms\n" in out
    assert f"worst {max(heard.chunk_latencies_ms):,.1f} ms\n" in out


def test_a_stream_that_is_not_what_is_made_at_once_has_failed(run, tmp_path, monkeypatch):
    path = tmp_path / "profile.json"
    monkeypatch.setattr(streaming, "largest_error", lambda chunks, offline: 0.25)
    code, out, _ = run(*STREAMED, "--benchmark-output", str(path))
    problem = "the stream is 0.25 of the peak from what is made at once, over 5e-05"
    assert (
        code == 1
        and f"As made at once         no: {problem}" in out
        and f"First code              {NONE}" in out
    )
    [item] = output.load(path)[1]
    assert (item.status, item.error, item.samples[0].stream.offline_error) == ("invalid", problem, 0.25)
