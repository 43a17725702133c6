"""Results of a run: audio, times by stage, counts of the work, what ran. No torch import here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.adjustments import Fallback
from harness.subject import Rates


@dataclass(frozen=True, slots=True)
class Audio:
    """One item. `samples`: 16 bits, mono, `[N]`. `path`: where it was saved."""

    samples: NDArray[np.int16]
    sample_rate: int
    seed: int
    path: Path | None = None

    @property
    def length_s(self) -> float:
        return len(self.samples) / self.sample_rate

    @property
    def peak(self) -> float:
        """The largest magnitude, of 1."""
        return float(np.abs(self.samples.astype(np.int32)).max(initial=0)) / 32_768

    @property
    def rms(self) -> float:
        """Of samples within 1."""
        return float(np.sqrt(np.mean(np.square(self.samples / 32_768)))) if len(self.samples) else 0.0

    @property
    def silent(self) -> bool:
        return self.peak == 0


@dataclass(frozen=True, slots=True)
class Counts:
    """Work done, counted and never estimated: of one item, but for what says otherwise.

    `frames`: of 10 ms, that were synthesized, padding included, summed over the items of a batch. `voiced`:
    frames of pitch.
    """

    audio_s: float = 0.0
    input_samples: int = 0
    chunks: int = 0
    pitch_frames: int = 0
    voiced: int = 0
    hubert_frames: int = 0
    frames: int = 0


@dataclass(frozen=True, slots=True)
class Result(Rates):
    """What a run gave, and what really ran.

    `stages_s`: seconds per stage plus `other`; they sum to `wall_s`. `waves`: fp32 `[B, samples]` at the
    voice's own rate, before loudness, another rate and 16 bits. `f0`: Hz, of the padded recording.
    `environment` is read back from the loaded networks.
    """

    audios: tuple[Audio, ...]
    waves: NDArray[np.float32]
    f0: NDArray[np.float32]
    wall_s: float
    stages_s: Mapping[str, float]
    details_s: Mapping[str, float]
    counts: Counts
    plan: Mapping[str, Any]
    environment: Mapping[str, Any]
    peak_memory_bytes: int = 0
    fallbacks: tuple[Fallback, ...] = ()
    warnings: tuple[str, ...] = ()
