"""Reference audio: thirty seconds of a recording that stand for its timbre.

The timbre encoder was trained on clips of one length. Of a longer recording it hears ten seconds from the
front, the middle and the back, so that intro and chorus both count; a shorter one is played again.
Upstream draws the three places at random in each third. Here they are fixed, as in diffusers: a
request gives the same music every time.
"""

from __future__ import annotations

import torch
from torch import Tensor

from acestep.audio.recordings import INAUDIBLE
from acestep.models.rates import SAMPLE_RATE

WINDOW = 10 * SAMPLE_RATE
CLIP = 3 * WINDOW


def windows(wave: Tensor) -> Tensor | None:
    """`[2, 1,440,000]` samples of `wave [2, N]`, N >= 1: three windows of 10 s, joined.

    None when nothing in `wave` reaches 1e-6: silence is no reference.
    """
    if wave.abs().max() < INAUDIBLE:
        return None
    wave = wave.repeat(1, -(-CLIP // wave.shape[1]))
    samples = wave.shape[1]
    places = (0, samples // 3, samples - WINDOW)
    return torch.cat([wave[:, place : place + WINDOW] for place in places], dim=1)
