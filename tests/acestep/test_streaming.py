"""Audio in pieces: what is made at once, to whoever reads it, for as long as it is read."""

import time
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from recorders import recording_cpu
from short_music import METADATA, SEEDED, SHORT
from tiny_vae import SMALL_HOP, Refusal, one_pass, random_latents, relative_error, small_decoder
from torch import Tensor

from acestep import GenerationConfig, GenerationParams
from acestep.audio import waveform
from acestep.audio.decode import Song, decode
from acestep.audio.tile import Tiles
from acestep.engine import Engine
from acestep.lm.planner import Planner
from acestep.models.vae import OobleckDecoder
from acestep.resolver import streamed
from acestep.streaming import pieces
from harness.errors import UsageError
from harness.memory import GIB
from harness.spans import record, span, stage
from harness.tiling import next_tile

RATE = 48_000
PLENTY = SimpleNamespace(free_bytes=lambda: 64 * GIB)
PARAMS = GenerationParams(caption="a waltz", **SHORT | METADATA)
PAIR = GenerationConfig(batch_size=2, seeds=(1, 2))
FADES = {"fade_in_duration": 1.5, "fade_out_duration": 4.5}
CODES = "<|audio_code_7|><|audio_code_41|>" * 13
REPAINT = {"task_type": "repaint", "repainting_start": 1.1, "repainting_end": 3.3, "duration": None}


@pytest.fixture
def level(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is made at once is as loud as it was decoded, too."""
    monkeypatch.setattr(waveform, "protect", lambda audio: audio)


@pytest.fixture
def in_use(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The parts that are on the device because they are being used."""
    names: list[str] = []
    using = engine.models.residency.using

    @contextmanager
    def counted(*parts: str):
        with using(*parts):
            names.extend(parts)
            try:
                yield
            finally:
                for part in parts:
                    names.remove(part)

    monkeypatch.setattr(engine.models.residency, "using", counted)
    return names


def whole(stream) -> Tensor:
    return torch.cat([chunk.samples for chunk in stream], dim=-1)


@pytest.mark.parametrize(
    ("fields", "config", "chunk_s"),
    [
        (FADES, PAIR, 0.7),
        ({"thinking": True}, SEEDED, 2.0),
        ({"task_type": "cover", "audio_codes": CODES, "duration": None}, SEEDED, 600),
        (REPAINT, PAIR, 0.9),
    ],
    ids=["fades", "thinking", "cover", "repaint"],
)
def test_the_chunks_are_what_is_made_at_once(engine: Engine, level, tmp_path, fields, config, chunk_s: float):
    if "repainting_start" in fields:
        path = tmp_path / "recording.wav"
        soundfile.write(path, np.random.default_rng(0).uniform(-0.4, 0.4, int(5.2 * RATE)), RATE)
        fields = fields | {"src_audio": str(path)}
    params, codes = replace(PARAMS, **fields), []
    stream = engine.stream(params, config, chunk_s=chunk_s, on_code=codes.append)
    chunks = list(stream)
    samples, result = torch.cat([chunk.samples for chunk in chunks], dim=-1), stream.result
    at_once = engine.generate(params, config)
    assert result is not None and result.counts.audio_s == at_once.counts.audio_s
    expected = torch.stack([item.tensor for item in at_once.audios])
    assert samples.shape == expected.shape and relative_error(samples, expected) < 1e-5
    assert torch.equal(samples, torch.stack([item.tensor for item in result.audios]))
    assert len({chunk.samples.shape for chunk in chunks[:-1]}) <= 1
    assert result.counts.vae_tiles <= len(chunks) * config.batch_size
    assert list(result.stages_s) == list(at_once.stages_s)
    assert sum(result.stages_s.values()) == pytest.approx(result.wall_s)
    assert codes == list(range(1, result.counts.audio_codes + 1)) if params.thinking else not codes
    times = [stream.first_code_s or 0.0, stream.latents_s, *(chunk.t_s for chunk in chunks)]
    assert times == sorted(times) and (stream.first_code_s is None) is not params.thinking


def test_an_item_that_is_over_is_followed_by_silence(engine: Engine, level, monkeypatch):
    lengths = lambda _, loop, params, user, *rest: (replace(user, duration=6), replace(user, duration=7))  # noqa: E731
    monkeypatch.setattr(Planner, "_think", lengths)
    params = replace(PARAMS, duration=None, bpm=None, fade_out_duration=1.0)
    samples, at_once = whole(engine.stream(params, PAIR)), engine.generate(params, PAIR)
    short, long = (item.tensor for item in at_once.audios)
    assert (short.shape[1], long.shape[1]) == (6 * RATE, 7 * RATE)
    assert relative_error(samples[0, :, : 6 * RATE], short) < 1e-5
    assert not samples[0, :, 6 * RATE :].any() and relative_error(samples[1], long) < 1e-5


def test_what_runs_between_chunks_is_not_in_the_engines_state(engine: Engine):
    with record() as times, span("reading"):
        stream = engine.stream(PARAMS, SEEDED, chunk_s=2)
        for chunk in stream:
            assert not torch.is_inference_mode_enabled() and stage() == "reading"
            with span("play"):
                scale = torch.ones(1, requires_grad=True)
                (scale * chunk.samples.square().mean()).backward()
                chunk.samples.zero_()
    assert list(times.stages()) == ["reading", "other"] and list(times.details()) == ["reading/play"]
    assert stream.result and stream.result.audios[0].tensor.any()


def test_the_readers_time_is_in_no_stage_but_in_what_a_listener_waits(engine: Engine, monkeypatch):
    now, away_s = time.perf_counter, [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now() + away_s[0])
    stream, arrived = engine.stream(PARAMS, SEEDED, chunk_s=2), []
    away_s[0] += 1e6  # nor is what passes before it begins
    for chunk in stream:
        arrived.append(chunk.t_s)
        away_s[0] += 1e6
    assert stream.result and sum(stream.result.stages_s.values()) == pytest.approx(stream.result.wall_s)
    assert 0 < stream.result.wall_s < 1e6
    assert [int(t_s // 1e6) for t_s in arrived] == [0, 1, 2]


@pytest.mark.parametrize("how", ["break", "close", "raise"])
def test_a_stream_that_is_left_early_leaves_the_engine_as_it_was(engine: Engine, in_use, how: str):
    def read() -> None:
        if how == "break":
            for _ in engine.stream(PARAMS, SEEDED):
                assert in_use
                break
            return
        with engine.stream(PARAMS, SEEDED) as stream:
            next(stream)
            if how == "raise":
                raise ZeroDivisionError
            stream.close()
            assert not in_use and next(stream, None) is None and stream.result is None

    with record() as times:
        try:
            read()
        except ZeroDivisionError:
            assert how == "raise"
        assert not in_use and not torch.is_inference_mode_enabled()
        with span("after"):
            assert stage() == "after"
    assert list(times.stages()) == ["after", "other"]


def test_an_error_ends_it(engine: Engine, in_use, monkeypatch: pytest.MonkeyPatch):
    stream = engine.stream(PARAMS, SEEDED)
    next(stream)
    monkeypatch.setattr(Tiles, "__call__", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        list(stream)
    assert not in_use and next(stream, None) is None and stream.result is None


def test_tiles_of_short_pieces_are_recorded_and_dropped_where_it_ends(engine: Engine, monkeypatch):
    monkeypatch.setattr(engine.models, "met", set())
    expected, recorder = whole(engine.stream(PARAMS, SEEDED, chunk_s=0.3)), recording_cpu(monkeypatch)
    plan = engine.resolve(PARAMS, SEEDED)
    plan = replace(plan, setup=replace(engine.setup, graphs=True))
    stream = engine.run_stream(plan, chunk_s=0.3)
    chunks = list(stream)
    assert stream.result and recorder.replays[-1] == stream.result.counts.vae_tiles > 1
    assert relative_error(torch.cat([chunk.samples for chunk in chunks], dim=-1), expected) < 1e-5
    for _ in engine.run_stream(plan, chunk_s=0.3):
        assert recorder.alive
        break
    assert not recorder.alive


def test_four_minutes_begin_before_a_tenth_of_them_is_decoded(engine: Engine):
    frames, halo, decoded = 6000, engine.models.vae.decoder.halo, []
    latents = torch.randn(1, frames, 64, generator=torch.Generator().manual_seed(0))
    hook = engine.models.vae.decoder.register_forward_pre_hook(
        lambda _, arguments: decoded.append(arguments[0].shape[-1])
    )
    decoding = engine.generation(engine.resolve(PARAMS, SEEDED)).decoding
    with torch.inference_mode(), decoding.songs([latents], RATE) as [song]:
        song.reach(25)
    hook.remove()
    at_once, done = 0, 0
    while done < frames:
        done, at_once = next_tile(done, frames, 512, halo).keep_to, at_once + 512
    assert decoded == [25 + 2 * halo] and sum(decoded) < 0.1 * at_once


def test_what_needs_the_whole_is_told(engine: Engine):
    params = replace(PARAMS, enable_normalization=True, normalization_db=-3.0)
    stream = engine.stream(params, SEEDED, chunk_s=3)
    loudest = whole(stream).abs().max().item()
    assert stream.result and stream.result.plan["adjustments"][-1]["field"] == "enable_normalization"
    assert stream.result.warnings == (
        "enable_normalization: True needs the peak of the whole audio, and it is streamed; using False",
        f"seed 1: a peak of {loudest:.2f} of full scale, which a stream is not turned down for",
    )
    assert stream.result.audios[0].peak == pytest.approx(loudest) and loudest > 1
    assert not any("peak" in warning for warning in engine.generate(params, SEEDED).warnings)
    plan = engine.resolve(params, SEEDED)
    strict = replace(plan, setup=replace(engine.setup, strict=True))
    with pytest.raises(UsageError, match=r"enable_normalization: True needs the peak .* ask for False"):
        streamed(strict, 1.0)


@pytest.mark.parametrize("chunk_s", [0, 0.009, 601, float("nan"), "1"])
def test_chunks_have_bounds(engine: Engine, chunk_s):
    with pytest.raises(UsageError, match=r"chunk_s: .* is not allowed; use a number from 0.01 to 600"):
        engine.stream(PARAMS, SEEDED, chunk_s=chunk_s)


# The VAE's part by itself, on a decoder that is small enough for hundreds of songs.


@pytest.fixture(scope="module")
def small() -> OobleckDecoder:
    return small_decoder()


def in_pieces(decoder: OobleckDecoder, songs: list[Tensor], lengths: list[int], chunk: int) -> list[Tensor]:
    """The audio of `songs` in pieces of `chunk` samples, put together again."""
    longest = -(-chunk // SMALL_HOP) + 2 * decoder.halo
    making = [Song(Tiles(decoder), latents, SMALL_HOP, PLENTY, longest) for latents in songs]
    kept: list[list[Tensor]] = [[] for _ in songs]
    with torch.inference_mode():
        for _, waves in pieces(making, lengths, chunk, SMALL_HOP):
            for parts, wave in zip(kept, waves, strict=True):
                parts.append(wave.clone())
    return [torch.cat(parts, dim=-1) for parts in kept]


@settings(max_examples=2 * settings.default.max_examples, deadline=None)
@example(frames=[50, 31], tail=31, chunk=1600, batch=1)
@given(
    frames=st.lists(st.integers(1, 60), min_size=1, max_size=2),
    tail=st.integers(0, SMALL_HOP - 1),
    chunk=st.integers(150, 2500),
    batch=st.integers(1, 3),
)
def test_pieces_are_what_is_decoded_at_once(
    small: OobleckDecoder, frames: list[int], tail: int, chunk: int, batch: int
):
    songs = [random_latents(batch, count) for count in frames]
    lengths = [SMALL_HOP * count - tail for count in frames]
    for latents, samples, audio in zip(songs, lengths, in_pieces(small, songs, lengths, chunk), strict=True):
        with torch.inference_mode():
            whole = decode(small, latents, SMALL_HOP, PLENTY).audio[..., :samples]
        assert audio.shape == (batch, 2, samples) and audio.dtype == torch.float32
        assert relative_error(audio, whole) < 1e-9


def test_pieces_with_less_halo_are_something_else(small: OobleckDecoder, monkeypatch: pytest.MonkeyPatch):
    latents = random_latents(1, 80)
    monkeypatch.setattr(small, "halo", small.halo - 4)
    [audio] = in_pieces(small, [latents], [80 * SMALL_HOP], 320)
    assert relative_error(audio, one_pass(small, latents)) > 1e-7


def test_a_stream_that_runs_out_of_memory_goes_on_with_smaller_tiles(small: OobleckDecoder):
    latents = random_latents(2, 150)
    with Refusal(small, lambda window, count: count == 1 or window.shape[-1] <= 70) as card:
        [audio] = in_pieces(small, [latents], [150 * SMALL_HOP], 100 * SMALL_HOP)
    assert [frames for frames, _ in card.windows[:4]] == [120, 120, 64, 64]
    assert relative_error(audio, one_pass(small, latents)) < 1e-9
