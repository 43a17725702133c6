"""Salience to Hz against the formula, coarse pitch, and how right the decoder is where salience is ideal."""

from __future__ import annotations

import math

import pytest
import torch
from tiny_rmvpe import network
from torch import Tensor

from harness.errors import UsageError
from subjects.rvc import pitch
from subjects.rvc.accuracy import VOICES, Accuracy, accuracy, ideal_salience
from subjects.rvc.config import RMVPEConfig
from subjects.rvc.mel import log_mel, padded
from subjects.rvc.pitch import coarse, decode, estimate

FRAMES = 400
SMALL = RMVPEConfig(channels=1, levels=2, blocks=1, intermediate=1, gru=2)


def expected(salience: list[float], threshold: float = 0.03, around: int = 4) -> float:
    best = max(range(360), key=salience.__getitem__)
    if salience[best] <= threshold:
        return 0.0
    near = range(max(best - around, 0), min(best + around + 1, 360))
    weights = math.fsum(salience[place] for place in near)
    cents = math.fsum(salience[place] * (20 * place + 1997.3794084376191) for place in near) / weights
    return 10 * 2 ** (cents / 1200)


def salience() -> Tensor:
    """Noise whose greatest is at each bin in turn, the last two frames about the threshold."""
    values = torch.rand(1, 362, 360, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values[0, range(360), range(360)] = 1.1
    values[0, 360:] *= 0.03 / values[0, 360:].amax(-1, keepdim=True)
    values[0, 361] *= 1.001
    return values


def test_pitch_is_the_mean_of_the_bins_around_the_greatest() -> None:
    values = salience()
    hz = decode(values)[0].tolist()
    truth = [expected(row) for row in values[0].tolist()]
    assert max(abs(a - b) / (b or 1) for a, b in zip(hz, truth, strict=True)) < 1e-12
    assert hz[360] == 0 < hz[361]
    other = [expected(row, around=3) for row in values[0].tolist()]
    assert max(abs(a - b) / (b or 1) for a, b in zip(hz, other, strict=True)) > 1e-4  # the control
    for narrow in (values.float(), values.bfloat16()):
        truth = [expected(row) for row in narrow[0].tolist()]
        hz = decode(narrow)[0].tolist()  # in fp32, whatever the salience is in
        assert max(abs(a - b) / (b or 1) for a, b in zip(hz, truth, strict=True)) < 2e-6


def test_pitch_is_between_32_and_2005_hz() -> None:
    hz = decode(torch.eye(360, dtype=torch.float64)[None, [0, 359]])[0].tolist()
    assert [round(value, 2) for value in hz] == [31.7, 2005.5]
    assert decode(torch.zeros(1, 2, 360)).tolist() == [[0, 0]]


def test_coarse_pitch_is_even_in_mel_from_50_to_1100_hz() -> None:
    hz = torch.tensor([0.0, 49, 50, 51, 100, 220, 440, 1000, 1100, 1500])
    assert coarse(hz).tolist() == [1, 1, 1, 1, 20, 60, 122, 238, 255, 255]
    assert coarse(hz).dtype == torch.int64


@pytest.mark.parametrize("voice", VOICES)
def test_the_decoder_is_right_of_ideal_salience(voice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    f0 = VOICES[voice](FRAMES)
    errors = accuracy(f0, decode(ideal_salience(f0)))
    assert errors.cents_max is not None and errors.cents_max < 0.2
    assert errors.voiced_f1 == 1
    monkeypatch.setattr(pitch, "AROUND", 0)  # the greatest bin alone
    worse = accuracy(f0, decode(ideal_salience(f0)))
    assert worse.cents_max is not None and worse.cents_max > 2
    assert accuracy(f0, decode(ideal_salience(f0), threshold=1.0)) == Accuracy(None, None, 0.0)


def test_voices_are_what_they_are_called() -> None:
    sine, chirp, phrases = (VOICES[voice](FRAMES) for voice in ("sine", "chirp", "voiced/unvoiced"))
    assert set(sine.tolist()) == {220.0}
    assert (chirp[[0, -1]] - torch.tensor([80.0, 800.0])).abs().max() < 1e-9
    assert ((phrases > 0).sum() / FRAMES).item() == pytest.approx(0.6)


def test_accuracy_is_of_frames_that_both_call_voiced() -> None:
    reference = torch.tensor([100.0, 100, 100, 100, 0, 0])
    estimate = torch.tensor([100 * 2 ** (3 / 1200), 100 * 2 ** (-4 / 1200), 0, 0, 500, 0])
    errors = accuracy(reference, estimate)
    assert errors.cents_rms == pytest.approx(math.sqrt(12.5), rel=1e-4)
    assert errors.cents_max == pytest.approx(4, rel=1e-4)
    assert errors.voiced_f1 == pytest.approx(2 * 2 / (4 + 3))
    assert accuracy(torch.zeros(3), torch.zeros(3)) == Accuracy(None, None, None)


@pytest.mark.parametrize("samples", [513, 4_000, 5_119])
def test_an_estimate_has_a_frame_for_160_samples_whatever_the_pieces(samples: int) -> None:
    rmvpe = network(SMALL)
    recording = torch.randn(2, samples, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    hz = estimate(rmvpe, recording)
    assert hz.shape == (2, samples // 160)
    mel = padded(log_mel(recording), rmvpe.grid)
    assert torch.equal(hz, decode(rmvpe(mel))[:, : samples // 160])
    assert (estimate(rmvpe, recording, chunk=4) - hz).abs().max() < 1e-6
    assert torch.equal(estimate(rmvpe, recording, threshold=1.0), torch.zeros_like(hz))


def test_what_cannot_be_reflected_is_refused() -> None:
    recording = torch.zeros(1, 513, dtype=torch.float64)  # 4 frames, of which none is missing
    assert estimate(network(SMALL), recording, padding="reflect").shape == (1, 3)
    with pytest.raises(UsageError, match="padding: 4 frames are too few to reflect 4"):
        estimate(network(RMVPEConfig(channels=1, levels=3, blocks=1, intermediate=1, gru=2)), recording,
                 padding="reflect")  # fmt: skip
