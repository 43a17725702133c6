"""What comes out: levels and refusals."""

import pytest
import torch

from acestep.audio import waveform as audio
from harness.errors import BenchError


def test_only_items_that_clip_are_turned_down():
    waves = torch.tensor([[[0.5, -2.0], [1.0, 0.0]], [[0.25, -0.5], [0.0, 0.125]]])
    protected = audio.protect(waves)
    assert torch.equal(protected[0], waves[0] / 2) and torch.equal(protected[1], waves[1])


def test_latents_that_are_no_music_are_refused():
    latents = torch.zeros(1, 128, 64)
    with pytest.raises(BenchError, match="all zero"):
        audio.check_latents(latents)
    latents[0, 5, 5] = 1
    audio.check_latents(latents)
    for bad in (torch.nan, torch.inf):
        latents[0, 6, 6] = bad
        with pytest.raises(BenchError, match="NaN or infinite"):
            audio.check_latents(latents)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "check",
    [
        lambda dtype: audio.check_latents(torch.full((1, 8, 64), torch.nan, dtype=dtype)),
        lambda dtype: audio.check_peak(torch.inf, 7, dtype),
    ],
    ids=["latents", "samples"],
)
def test_nobody_is_advised_the_dtype_that_failed_or_a_flag_that_is_not_there(check, dtype: torch.dtype):
    with pytest.raises(BenchError) as caught:
        check(dtype)
    assert f"in {str(dtype).removeprefix('torch.')}; " in str(caught.value)
    narrow = dtype == torch.float16  # the range of bf16 is that of fp32
    assert ("try --dtype fp32" in str(caught.value)) is narrow
    assert ("weights" in str(caught.value)) is not narrow


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_a_peak_tells_of_one_sample_that_is_not_finite(value: float):
    wave = torch.full((2, 1000), 0.5)
    audio.check_peak(audio.levels(wave)[0], 7, wave.dtype)
    wave[1, 999] = value
    for loud in (wave, audio.protect(wave[None])[0]):
        with pytest.raises(BenchError, match="vae: samples of seed 7 are NaN or infinite in float32; "):
            audio.check_peak(audio.levels(loud)[0], 7, wave.dtype)


def test_latents_are_rescaled_then_shifted():
    latents = torch.randn(2, 5, 64, generator=torch.Generator().manual_seed(0))
    expected = latents.double() * 1.7 - 0.3
    assert torch.allclose(audio.adjusted(latents, 1.7, -0.3).double(), expected, rtol=0, atol=1e-6)
    assert not torch.allclose((latents - 0.3) * 1.7, expected.float(), atol=0.1)  # the other order
    assert audio.adjusted(latents, 1.0, 0.0) is latents


def test_silence_is_a_matter_of_peak_and_rms():
    wave = torch.zeros(2, 48_000)
    assert audio.is_silent(*audio.levels(wave))
    wave[0, 100] = 1e-4
    peak, rms = audio.levels(wave)
    assert peak == pytest.approx(1e-4) and rms == pytest.approx(1e-4 / 96_000**0.5)
    assert not audio.is_silent(peak, rms)
