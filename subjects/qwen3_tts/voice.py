"""The recording of a voice that a Base model speaks with: a file, or noise where none is named."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.errors import MissingPrerequisite
from subjects.qwen3_tts.config import SAMPLE_RATE

NOISE_S = 3.0
LEAST_S, MOST_S = 0.1, 30.0


def samples(path: str | None) -> Tensor:
    """Mono fp32 `[1, N]` at 24 kHz of the first 30 s of a file; of 3 s of noise without one.

    Raises MissingPrerequisite for a file that cannot be read, or is too short to be a voice.
    """
    if path is None:
        return 0.1 * torch.randn(1, round(NOISE_S * SAMPLE_RATE), generator=torch.Generator().manual_seed(0))
    import soundfile
    import soxr

    try:
        rate = soundfile.info(path).samplerate
        sound, _ = soundfile.read(path, frames=round(MOST_S * rate), dtype="float32", always_2d=True)
    except (OSError, soundfile.LibsndfileError) as error:
        raise MissingPrerequisite(f"reference: {path!r} cannot be read: {error}") from None
    if len(sound) < LEAST_S * rate:
        raise MissingPrerequisite(f"reference: {path!r} is under {LEAST_S:g} s; name a longer recording")
    mono = sound.mean(axis=1)
    return torch.from_numpy(mono if rate == SAMPLE_RATE else soxr.resample(mono, rate, SAMPLE_RATE))[None]
