"""Results of a run: audio or text, times by stage, counts of the work, environment. No torch import here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.adjustments import Fallback
from harness.subject import Rates

if TYPE_CHECKING:
    import torch

    from harness.records.telemetry import Telemetry


@dataclass(frozen=True, slots=True)
class Audio:
    """One generated item.

    `tensor`: fp32 CPU `[2, samples]` in [-1, 1], of a stream as loud as it was decoded; `silent`: before it
    was made louder. `path`: where it was saved; `contents`: encoding and rates of that file. `metadata`: what
    the DiT was conditioned on. `codes`: the audio codes the item was made from, as text, or "".
    """

    tensor: torch.Tensor
    sample_rate: int
    seed: int
    peak: float
    rms: float
    silent: bool
    path: Path | None = None
    contents: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    codes: str = ""


@dataclass(frozen=True, slots=True)
class Counts:
    """Work done, counted and never estimated. All per run; `lm_*` tokens are summed over batch rows."""

    audio_s: float = 0.0  # seconds of audio of the longest item
    latent_frames: int = 0  # of the longest item
    dit_tokens: int = 0
    encoder_tokens: int = 0  # of the longest prompt: lyrics, timbre and caption
    caption_tokens: int = 0  # of the longest prompt, with its metadata
    lyric_tokens: int = 0
    prompts: int = 0  # that the DiT was conditioned on, of all groups of items
    dit_steps: int = 0
    dit_calls: int = 0  # forward passes; a guided step of one batch is one pass over twice the rows
    vae_tiles: int = 0
    vae_tile_frames: int = 0  # of the last tile decoded, halos included
    vae_level: int = 0  # where the ladder of `acestep.audio.decode` was left, the lowest of all groups
    vae_encode_tiles: int = 0
    lm_prompt_tokens: int = 0  # tokens of every prompt row, shared prefixes counted once per row
    lm_prefill_tokens: int = 0  # tokens that went through the model in prefill
    lm_decode_steps: int = 0  # one-token forward passes
    lm_decode_tokens: int = 0  # tokens kept from those passes, over batch items (not CFG rows)
    audio_codes: int = 0  # of the longest item


@dataclass(frozen=True, slots=True)
class PlanResult:
    """A plan by itself: the same times, counts and environment, without audio.

    One entry per item: `metadata`, and `codes` (int64 CPU `[5·seconds]`), None without codes.
    """

    metadata: tuple[Mapping[str, Any], ...]
    codes: tuple[torch.Tensor, ...] | None
    wall_s: float
    stages_s: Mapping[str, float]
    details_s: Mapping[str, float]
    counts: Counts
    environment: Mapping[str, Any]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DescriptionResult:
    """What the language model says of music: the answer of understand, create and format.

    Fields it left open are None or "". `truncated`: the lyrics hit the token limit.
    """

    caption: str
    lyrics: str
    bpm: int | None
    duration: int | None
    keyscale: str
    language: str
    timesignature: str
    genres: str
    instrumental: bool
    truncated: bool
    wall_s: float
    stages_s: Mapping[str, float]
    details_s: Mapping[str, float]
    counts: Counts
    environment: Mapping[str, Any]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GenerationResult(Rates):
    """The result of a generation: audio, times by stage, and what really ran.

    `stages_s`: seconds per top-level stage plus `other`; they sum to `wall_s`. `details_s`: nested
    spans. `steps_s`: each diffusion step (host time). `plan`: the effective plan, clamps included.
    `environment`: device, backend, dtype, source of the weights, versions, read back from the run.
    `telemetry`: energy, clocks and throttling of the card; None of a stream, and without a card of NVIDIA's.
    """

    audios: tuple[Audio, ...]
    wall_s: float
    stages_s: Mapping[str, float]
    details_s: Mapping[str, float]
    steps_s: tuple[float, ...]
    counts: Counts
    plan: Mapping[str, Any]
    environment: Mapping[str, Any]
    peak_memory_bytes: int = 0
    fallbacks: tuple[Fallback, ...] = ()
    warnings: tuple[str, ...] = ()
    telemetry: Telemetry | None = None
