"""Results of a run: audio, times by stage, counts of the work, what ran. No torch import here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.adjustments import Fallback
from harness.subject import Rates

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Audio:
    """One item. `tensor`: fp32 CPU `[1, samples]` in [-1, 1]. `path`: where it was saved."""

    tensor: Tensor
    sample_rate: int
    seed: int
    peak: float
    rms: float
    path: Path | None = None

    @property
    def length_s(self) -> float:
        return self.tensor.shape[-1] / self.sample_rate

    @property
    def silent(self) -> bool:
        return self.peak == 0


@dataclass(frozen=True, slots=True)
class Counts:
    """Work done, counted and never estimated; tokens and codes are summed over the items of a batch.

    `talker_tokens`: of passes of one row each, so all but the first of each item, which comes of the prefill.
    """

    audio_s: float = 0.0  # of the longest item
    frames: int = 0  # of the longest item, the one in which it ended by itself included
    text_tokens: int = 0
    prompt_rows: int = 0
    talker_tokens: int = 0
    predictor_codes: int = 0
    decoded_frames: int = 0  # context that is decoded again included


@dataclass(frozen=True, slots=True)
class Result(Rates):
    """What a run gave, and what really ran.

    `stages_s`: seconds per stage plus `other`; they sum to `wall_s`. `first_chunk_stages_s`: those of the
    time to the first piece of a stream; empty of what was made at once. `codes`: int64 CPU `[16, frames]` of
    each item. `environment` is read back from the loaded networks.
    """

    audios: tuple[Audio, ...]
    codes: tuple[Tensor, ...]
    wall_s: float
    stages_s: Mapping[str, float]
    details_s: Mapping[str, float]
    counts: Counts
    plan: Mapping[str, Any]
    environment: Mapping[str, Any]
    peak_memory_bytes: int = 0
    first_chunk_stages_s: Mapping[str, float] = field(default_factory=dict)
    fallbacks: tuple[Fallback, ...] = ()
    warnings: tuple[str, ...] = ()
