"""The recording of a voice that a Base model speaks with: a file, or noise where none is named."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.errors import MissingPrerequisite
from harness.sound import length, read_mono
from subjects.loading import ends_early
from subjects.qwen3_tts.config import SAMPLE_RATE
from subjects.qwen3_tts.request import LEAST_REFERENCE_S, MOST_REFERENCE_S

NOISE_S = 3.0
SLACK_S = 0.01  # by which what is read may be shorter than what its header says
MOST_PEAK = 2.0**15  # of samples whose full scale is 1: whole numbers of 16 bits, taken for such


def samples(path: str | None) -> Tensor:
    """Mono fp32 `[1, N]` at 24 kHz of the first 30 s of a file; of 3 s of noise without one.

    Raises MissingPrerequisite for a file that cannot be read to where it says it ends, or is no voice: short,
    silent, not finite, or far beyond full scale.
    """
    if path is None:
        return 0.1 * torch.randn(1, round(NOISE_S * SAMPLE_RATE), generator=torch.Generator().manual_seed(0))
    least_s, most_s = LEAST_REFERENCE_S, MOST_REFERENCE_S
    mono = read_mono("reference", path, SAMPLE_RATE, least_s=least_s, most_s=most_s)
    said_s, there_s = min(length("reference", path).seconds, most_s), len(mono) / SAMPLE_RATE
    if there_s < said_s - SLACK_S:
        raise ends_early("reference", path, there_s, said_s)
    if not 0 < (peak := float(abs(mono).max())) <= MOST_PEAK:
        wrong = f"has samples of {peak:.0e}, where 1 is full scale" if peak else "is silent"
        raise MissingPrerequisite(f"reference: {path!r} {wrong}; name another recording")
    return torch.from_numpy(mono)[None]
