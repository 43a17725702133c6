"""Finishing: from a decoded waveform to the one that is kept, on the host and in fp32.

    splice          outside a painted region the recording itself, crossfaded into what was decoded
    normalisation   every item to one peak
    fades           linear, in and out

In this order, as upstream: what is put back is as loud as what was painted, and a fade begins at zero. With
all of it off nothing is computed and nothing is copied.
"""

from __future__ import annotations

import torch
from torch import Tensor

from acestep.audio.waveform import is_silent, levels
from acestep.request import GenerationParams

FAINTEST = 1e-6  # a peak below it is left as it is: there is nothing to make louder


def spliced(
    waves: Tensor,
    recording: Tensor,
    region: tuple[int, int],
    crossfade: int,
    start: int = 0,
    samples: int = 0,
) -> Tensor:
    """`waves [B, 2, N]` within the samples `[a, b)` of `region`, and outside them `recording [2, M]`.

    Over `crossfade` samples before and after the region, or as many as there are, the two are mixed: n of
    them have the shares 1/(n + 1) to n/(n + 1) of `waves`. Behind the end of the recording `waves` go on.
    A piece alone: `waves` are those from `start`, of `samples` in all.
    """
    end = min(samples or waves.shape[-1], recording.shape[-1])
    enter, leave = (min(sample, end) for sample in region)
    fade_in, fade_out = max(enter - crossfade, 0), min(leave + crossfade, end)
    mixed = waves.clone()
    for first, last, share in (
        (0, fade_in, None),
        (fade_in, enter, _inner(enter - fade_in)),
        (leave, fade_out, _inner(fade_out - leave).flip(0)),
        (fade_out, end, None),
    ):
        here, there = _overlap(first, last, start, waves.shape[-1])
        kept = recording[:, first:last][:, there]
        if share is not None:
            kept = share[there] * waves[..., here] + (1 - share[there]) * kept
        mixed[..., here] = kept
    return mixed


def _overlap(first: int, last: int, start: int, samples: int) -> tuple[slice, slice]:
    """What `[first, last)` has in common with `samples` from `start`: its place in them, and in itself."""
    low = max(first, start)
    high = max(min(last, start + samples), low)
    return slice(low - start, high - start), slice(low - first, high - first)


def _inner(count: int) -> Tensor:
    """`count` values that rise evenly between 0 and 1, which are none of them."""
    return torch.linspace(0, 1, count + 2)[1:-1]


def normalised(wave: Tensor, peak: float, level_db: float) -> Tensor:
    """`wave [2, N]`, whose peak is `peak`, at a peak of `level_db` dB of full scale: times 10^(dB/20) / peak.

    One that does not reach 1e-6 is left as it is.
    """
    if peak < FAINTEST:
        return wave
    # A quotient is never above 1, a product with 1/peak may be.
    return (wave / peak).mul_(10 ** (level_db / 20))


def faded(wave: Tensor, fade_in: int, fade_out: int, start: int = 0, samples: int = 0) -> Tensor:
    """`wave [..., N]` times a line from 0 to 1 over the first samples and one from 1 to 0 over the last.

    A fade is no longer than the waveform; where the two meet both hold. A piece alone: `wave` is that from
    `start`, of `samples` in all.
    """
    samples = samples or wave.shape[-1]
    rise, fall = min(fade_in, samples), min(fade_out, samples)
    wave = wave.clone()
    for first, line in ((0, torch.linspace(0, 1, rise)), (samples - fall, torch.linspace(1, 0, fall))):
        here, there = _overlap(first, first + len(line), start, wave.shape[-1])
        wave[..., here] *= line[there]
    return wave


def fades(params: GenerationParams, sample_rate: int) -> tuple[int, int]:
    """Samples that `params` fade in and out."""
    seconds = params.fade_in_duration, params.fade_out_duration
    return round(seconds[0] * sample_rate), round(seconds[1] * sample_rate)


def finish(wave: Tensor, params: GenerationParams, sample_rate: int) -> tuple[Tensor, float, float, bool]:
    """`wave [2, N]` normalised and faded as `params` say, its peak, its RMS, and whether it is silent.

    It is silent by what was decoded: noise below hearing, made as loud as music, is none.
    """
    peak, rms = levels(wave)
    silent = is_silent(peak, rms)
    finished = wave
    if params.enable_normalization:
        finished = normalised(finished, peak, params.normalization_db)
    lines = fades(params, sample_rate)
    if any(lines):
        finished = faded(finished, *lines)
    if finished is not wave:
        peak, rms = levels(finished)
    return finished, peak, rms, silent
