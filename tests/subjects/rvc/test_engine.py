"""A conversion: its stages, its lengths, its noise, its options; and what it costs on a card."""

import os
import warnings
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch

from harness.accelerators import Accelerator
from harness.cards import find
from harness.errors import MissingPrerequisite, UsageError
from harness.trace.predict import predict
from subjects.rvc import closed_form
from subjects.rvc import conversion as steps
from subjects.rvc.convert import Conversion, recording
from subjects.rvc.engine import Engine
from subjects.rvc.plan import resolve
from subjects.rvc.request import Request, request
from subjects.rvc.result import Result
from subjects.rvc.setup import Setup
from subjects.rvc.subject import SUBJECT
from subjects.rvc.voices import voice

SHORT_S = 0.2


def run(engine: Engine, save_dir=None, **fields) -> Result:
    return engine.run(engine.resolve(request(**{"duration_s": SHORT_S} | fields)), save_dir)


def test_stages_sum_to_the_wall_and_the_result_is_what_was_asked_for(engine, tmp_path):
    result = run(engine, tmp_path)
    assert [*result.stages_s] == [*SUBJECT.stages, "other"]
    assert sum(result.stages_s.values()) == pytest.approx(result.wall_s)
    plan = engine.resolve(request(SHORT_S))
    assert SUBJECT.check(result, plan) is None
    (audio,) = result.audios
    saved, rate = soundfile.read(audio.path, dtype="int16")
    assert rate == 48_000 and np.array_equal(saved, audio.samples)
    again = run(engine)
    assert np.array_equal(again.audios[0].samples, audio.samples)  # and nothing is drawn that has no seed
    assert SUBJECT.check(replace(result, waves=result.waves[:, 1:]), plan) is not None
    assert SUBJECT.check(replace(result, waves=result.waves * np.nan), plan) is not None


def test_items_of_a_batch_are_what_each_is_alone(engine):
    both = run(engine, batch_size=2, seed=5)
    for item, seed in enumerate((5, 6)):
        alone = run(engine, seed=seed).waves[0]
        assert np.abs(alone - both.waves[item]).max() < 1e-5 * np.abs(alone).max()
    assert np.abs(both.waves[0] - both.waves[1]).max() > 0.01


def test_noise_is_drawn_in_the_published_order(engine):
    """e1, one number of no effect, eps: as three draws of torch's own generator."""
    plan = engine.resolve(request(SHORT_S, rms_mix_rate=1.0))
    conversion = Conversion(engine.models, plan)
    with torch.inference_mode():
        conversion.run(None)
    synthesizer, frames = engine.models.synthesizer, conversion.counts.frames
    torch.manual_seed(plan.request.seed)
    e1 = torch.randn(1, synthesizer.config.inter, frames)
    torch.rand(1, 1)
    eps = torch.randn(1, frames * synthesizer.config.hop, 1)
    samples = steps.highpassed(steps.levelled(voice(SHORT_S).samples))
    padded = torch.from_numpy(steps.padded(samples, False).astype(np.float32))[None]
    from subjects.rvc import pitch

    with torch.inference_mode():
        f0 = pitch.estimate(engine.models.rmvpe, padded)[:, :frames]
        phone = engine.models.hubert(padded).repeat_interleave(2, dim=1)[:, :frames]
        wave = synthesizer(phone, pitch.coarse(f0), f0, torch.zeros(1, dtype=torch.long), e1, eps)
    expected = wave[0, 48_000:-48_000].numpy()
    error = np.abs(conversion.waves[0] - expected).max() / np.abs(expected).max()
    assert error < 1e-5


def test_a_long_recording_is_cut_and_its_length_is_met(engine, monkeypatch):
    monkeypatch.setattr(steps, "CUTTING", short := steps.Cutting(pad=1, query=1, center=3, most=3))
    for function in (steps.quiet_points, steps.padded, steps.chunks, steps.output_samples):
        monkeypatch.setattr(function, "__defaults__", (short,))

    def piece(conversion: Conversion, chunk: steps.Chunk, *rest: object) -> np.ndarray:
        """The number of each sample, as the generator's samples lie in the padded recording."""
        start, count = 3 * chunk.start, 480 * steps.frames_of(chunk)
        return np.arange(start, start + count, dtype=np.float32)[None]

    monkeypatch.setattr(Conversion, "_piece", piece)
    exact, published = (run(engine, duration_s=5.0, length=length) for length in ("exact", "reference"))
    assert exact.counts.chunks == 2
    assert np.array_equal(exact.waves[0], np.arange(48_000, 48_000 + 5 * 48_000))
    assert 0 < 5 * 48_000 - published.waves.shape[1] <= 4 * 480


def test_pieces_of_a_long_recording_are_joined_at_its_quiet_point(engine, monkeypatch, tmp_path):
    """With the networks themselves: each side of the cut is the inside of its piece, as it came."""
    short = steps.Cutting(pad=1, query=1, center=2, most=2)
    for function in (steps.quiet_points, steps.chunks, steps.output_samples):
        monkeypatch.setattr(function, "__defaults__", (short,))
    pieces, convert = [], Conversion._piece
    monkeypatch.setattr(Conversion, "_piece", lambda *rest: pieces.append(wave := convert(*rest)) or wave)
    audio, length_s = "examples/audio/sung.ogg", 3.0
    result = run(engine, tmp_path, audio=audio, duration_s=length_s, length="exact", rms_mix_rate=1.0)
    samples = recording(engine.resolve(request(length_s, audio=audio)))
    (point,) = steps.quiet_points(steps.highpassed(steps.levelled(samples)))
    first, second = (piece[:, 48_000:-48_000] for piece in pieces)
    assert first.shape[1] == 3 * point and result.counts.chunks == 2
    assert np.array_equal(result.waves[:, : 3 * point], first)
    assert np.array_equal(result.waves[:, 3 * point :], second[:, : 3 * (len(samples) - point)])
    written, _ = soundfile.read(result.audios[0].path, dtype="int16")
    assert len(written) == result.waves.shape[1] == 3 * len(samples)


def test_pitch_is_shifted_and_a_recording_is_read(engine):
    low, high = run(engine).f0, run(engine, transpose=12.0).f0
    np.testing.assert_allclose(high, 2 * low, rtol=1e-6)
    result = run(engine, audio="examples/audio/loop.flac", resample_hz=16_000)  # stereo, 44.1 kHz
    assert result.plan["sample_rate"] == result.audios[0].sample_rate == 16_000
    assert len(result.audios[0].samples) == pytest.approx(result.waves.shape[1] / 3, abs=1)


def test_an_index_is_mixed_in(engine, tmp_path):
    path = tmp_path / "index.npy"
    np.save(path, np.random.RandomState(0).standard_normal((20, 32)).astype(np.float32))
    plain, mixed = run(engine), run(engine, index=str(path))
    assert np.abs(plain.waves - mixed.waves).max() > 1e-3
    none = run(engine, index=str(path), index_rate=0.0)
    assert np.abs(plain.waves - none.waves).max() < 1e-5


def test_a_recording_shorter_than_its_header_says_is_refused_with_what_there_is(engine, tmp_path):
    path = tmp_path / "cut.mp3"
    soundfile.write(path, voice(3.0).samples, 16_000)
    assert len(recording(engine.resolve(request(None, audio=str(path))))) == pytest.approx(48_000, abs=2)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(MissingPrerequisite, match=r"ends after .* s of the 3\.00 s") as raised:
        recording(engine.resolve(request(None, audio=str(path))))
    there_s = float(str(raised.value).rpartition("--duration ")[2].split()[0])
    assert 1 < there_s < 2 and len(recording(engine.resolve(request(there_s, audio=str(path)))))


def test_samples_that_are_not_numbers_are_told_by_the_check_alone():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        steps.sixteen_bits(np.array([0.0, np.nan], np.float32))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"speaker": 4}, "speaker: 4 is not allowed"),
        ({"protect": 0.6}, "protect: 0.6 is not allowed"),
        ({"length": "any"}, "length: 'any' is not allowed"),
        ({"duration_s": 0.01}, "duration_s: 0.01 is not allowed"),
    ],
)
def test_what_is_not_allowed_is_refused(engine, fields, message):
    with pytest.raises(UsageError, match=message):
        engine.resolve(request(**{"duration_s": SHORT_S} | fields))


def test_what_is_not_done_is_told_or_refused():
    setup = Setup.choose("synthetic-tiny", device="cpu")
    asked = Request(audio="examples/audio/voice.ogg", duration_s=10.0, index_rate=0.5)
    plan = resolve(asked, setup)
    assert [change.field for change in plan.adjustments] == ["index_rate", "duration_s"]
    assert plan.request.index_rate is None and plan.request.duration_s == pytest.approx(4.0, abs=0.01)
    with pytest.raises(UsageError, match="strict"):
        resolve(asked, replace(setup, strict=True))
    with pytest.raises(MissingPrerequisite, match="cannot be read"):
        resolve(replace(asked, audio="/nowhere.wav"), setup)


def test_a_prediction_counts_the_closed_forms():
    card = find("h200")
    there = Accelerator("cuda", card.name, card.memory_gib, capability=card.capability)
    setup = Setup.choose("synthetic-tiny", accelerator=there)
    cost = predict(SUBJECT, resolve(request(0.5), setup), card)
    stages = {stage.stage: stage for stage in cost.stages}
    configs, samples = setup.configs, 40_000
    frames = 2 * steps.hubert_frames(samples)
    mel = 2 * (samples // 160 + 1) * 513 * 128  # bins of each frame, times the filters
    assert stages["pitch"].work.flop == closed_form.rmvpe_work(configs.rmvpe, 256).flop + mel
    assert stages["features"].work.flop == closed_form.hubert_work(configs.hubert, samples).flop
    for stage, work in (
        ("text_encode", closed_form.text_encoder_work),
        ("flow", closed_form.flow_work),
        ("generate", closed_form.generator_work),
    ):
        expected = work(configs.synthesizer, frames).flop
        assert stages[stage].work.flop == pytest.approx(expected, rel=0.001), stage
    assert stages["pitch"].work.launches < 200  # a GRU of 256 steps is one kernel


def test_a_recording_without_sound_is_refused(engine, tmp_path):
    path = tmp_path / "silent.wav"
    soundfile.write(path, np.zeros(8_000), 8_000)
    with pytest.raises(MissingPrerequisite, match=r"audio: .*silent\.wav. is silent for 0\.2 s"):
        run(engine, tmp_path / "out", audio=str(path))
    assert not (tmp_path / "out").exists()
