"""A made-up voice whose pitch is known: a gliding tone with harmonics, and noise where it has no voice.

No torch import here.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from subjects.rvc.config import HOP, SAMPLE_RATE

LOW_HZ, HIGH_HZ = 110.0, 220.0
GLIDE_S = 3.0  # from one to the other and back
SYLLABLE_S, BREATH_S = 1.0, 0.2  # of each second, so much has no voice
HARMONICS = 8


class Voice(NamedTuple):
    """Samples `[N]` of 16 kHz, fp32, and the pitch in Hz of each frame of 160 of them, 0 where unvoiced."""

    samples: NDArray[np.float32]
    f0: NDArray[np.float64]


def voice(duration_s: float, seed: int = 0) -> Voice:
    """The same on every run, and a longer one begins as a shorter one does."""
    t = np.arange(round(duration_s * SAMPLE_RATE)) / SAMPLE_RATE
    share = (1 - np.cos(2 * np.pi * t / GLIDE_S)) / 2
    pitch = LOW_HZ * (HIGH_HZ / LOW_HZ) ** share
    cycles = np.cumsum(pitch / SAMPLE_RATE) % 1
    tone = sum(np.sin(2 * np.pi * number * cycles) / number for number in range(1, HARMONICS + 1))
    voiced = t % SYLLABLE_S >= BREATH_S
    noise = np.random.RandomState(seed).standard_normal(len(t))
    samples = np.where(voiced, 0.25 * tone + 0.002 * noise, 0.05 * noise)
    return Voice(samples.astype(np.float32), np.where(voiced, pitch, 0.0)[::HOP])
