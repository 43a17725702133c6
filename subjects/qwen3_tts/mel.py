"""The log-mel that the speaker encoder reads: 128 bands up to 12 kHz, a frame every 256 samples of 24 kHz."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.mel import SLANEY, filters, magnitudes
from subjects.qwen3_tts.config import MEL_BANDS, SAMPLE_RATE

SIZE = 1_024  # samples under a window
HOP = 256
FLOOR = 1e-9  # of a squared magnitude
LEAST = 1e-5  # of a band, before the logarithm


def log_mel(samples: Tensor) -> Tensor:
    """Natural logarithms `[B, N // 256, 128]` of the bands of `samples [B, N]`, in their dtype.

    Windows are Hann's, periodic; 384 samples are reflected at either end, so that frame i is about samples
    256·i to 256·(i + 1). Raises RuntimeError for 384 samples or fewer, which there is nothing to reflect of.
    """
    edge = (SIZE - HOP) // 2
    window = torch.hann_window(SIZE, dtype=torch.float64).to(samples)
    spectra = magnitudes(F.pad(samples, (edge, edge), mode="reflect"), window, HOP, FLOOR)
    rows = filters(SLANEY, MEL_BANDS, SIZE, SAMPLE_RATE, 0.0, SAMPLE_RATE / 2).to(samples)
    return (spectra @ rows.T).clamp_(min=LEAST).log_()
