"""The log-mel that RMVPE reads: 128 bands from 30 Hz to 8 kHz, a frame every 160 samples of 16 kHz."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.errors import UsageError
from harness.mel import HTK, filters, magnitudes
from subjects.rvc.config import HOP, SAMPLE_RATE
from subjects.rvc.request import PADDINGS, ZERO

BANDS = 128
SIZE = 1_024  # samples under a window
LOW_HZ, HIGH_HZ = 30.0, 8_000.0
LEAST = 1e-5  # of a band, before the logarithm


def log_mel(samples: Tensor) -> Tensor:
    """Natural logarithms `[B, N // 160 + 1, 128]` of the bands of `samples [B, N]`, in their dtype.

    Bands are weighted magnitudes, on the HTK scale. Windows are Hann's, periodic, and frame i's is centred at
    sample 160·i: 512 samples are reflected at either end. Raises UsageError for 512 samples or fewer, which
    there is nothing to reflect of.
    """
    edge = SIZE // 2
    if samples.shape[-1] <= edge:
        raise UsageError(
            f"audio: {samples.shape[-1]} samples are too short for a log-mel; give more than {edge} at 16 kHz"
        )
    window = torch.hann_window(SIZE, dtype=torch.float64).to(samples)
    spectra = magnitudes(F.pad(samples, (edge, edge), mode="reflect"), window, HOP)
    rows = filters(HTK, BANDS, SIZE, SAMPLE_RATE, LOW_HZ, HIGH_HZ).to(samples)
    return (spectra @ rows.T).clamp_(min=LEAST).log_()


def padded(mel: Tensor, grid: int, padding: str = ZERO) -> Tensor:
    """`mel [B, T, M]`, its end padded to a multiple of `grid` frames.

    `padding`: "zero", as the published pipeline does, though a zero is a loud band; or "reflect", which
    raises UsageError where there are too few frames to reflect.
    """
    frames = mel.shape[1]
    more = -frames % grid
    if padding not in PADDINGS:
        raise UsageError(f"padding: {padding!r} is not known; use one of {', '.join(PADDINGS)}")
    if padding == ZERO or not more:
        return F.pad(mel, (0, 0, 0, more))
    if more >= frames:
        raise UsageError(
            f"padding: {frames} frames are too few to reflect {more}; use zero or a longer recording"
        )
    return torch.cat((mel, mel[:, -more - 1 : -1].flip(1)), dim=1)
