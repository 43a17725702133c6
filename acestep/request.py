"""What is asked for and what comes back: the frozen records every entry point shares.

`GenerationParams` says what the music is, `GenerationConfig` how the run is made, `GenerationResult`
what happened. Field names are those of the upstream API where the field exists there. Validation
happens on construction and names field, value and allowed range. No torch import here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acestep.errors import MissingPrerequisite, UsageError

if TYPE_CHECKING:
    import torch

LANGUAGES = (
    "ar az bg bn ca cs da de el en es fa fi fr he hi hr ht hu id is it ja ko la lt ms ne nl no pa pl pt "
    "ro ru sa sk sr sv sw ta te th tl tr uk ur vi yue zh unknown"
).split()
KEYSCALES = [
    f"{note}{accidental} {mode}"
    for note in "ABCDEFG"
    for accidental in ("", "#", "b", "♯", "♭")
    for mode in ("major", "minor")
]
TIME_SIGNATURES = ["2", "3", "4", "6"]
BPM_RANGE = (30, 300)
DURATION_RANGE_S = (1.0, 600.0)
AUDIO_FORMATS = ["wav", "flac"]
MAX_SEED = 2**32 - 1


def _one_of(name: str, value: object, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise UsageError(f"{name}: {value!r} is not allowed; use one of {', '.join(allowed)}")


def _within(name: str, value: object, low: float, high: float, kind: type = float) -> None:
    number = int if kind is int else (int, float)
    ok = isinstance(value, number) and not isinstance(value, bool) and math.isfinite(value)
    if not ok or not low <= value <= high:  # type: ignore[operator]
        noun = "a whole number" if kind is int else "a number"
        raise UsageError(f"{name}: {value!r} is not allowed; use {noun} from {low:g} to {high:g}")


@dataclass(frozen=True, slots=True)
class GenerationParams:
    """What the music is. Empty metadata (`None`, `""`) is left for the language model to decide.

    Raises UsageError naming the field, the value and what is allowed.
    """

    caption: str = ""
    lyrics: str = "[Instrumental]"
    duration: float = 30.0  # seconds
    bpm: int | None = None
    keyscale: str = ""
    timesignature: str = ""
    vocal_language: str = "unknown"
    instrumental: bool = False
    # Planning by the 5 Hz language model.
    thinking: bool = False  # plan audio codes, 5 per second
    use_cot_metas: bool = True  # fill empty metadata when the LM runs
    use_cot_caption: bool = False  # let the LM rewrite the caption
    use_cot_language: bool = False  # let the LM name the vocal language
    lm_temperature: float = 0.85
    lm_cfg_scale: float = 2.0
    lm_top_k: int = 0  # 0 = off
    lm_top_p: float = 0.9
    lm_repetition_penalty: float = 1.0
    lm_negative_prompt: str = "NO USER INPUT"
    # Diffusion.
    inference_steps: int = 8
    shift: float = 1.0  # turbo snaps it to 1, 2 or 3

    def __post_init__(self) -> None:
        for name in ("caption", "lyrics", "lm_negative_prompt"):
            if not isinstance(getattr(self, name), str):
                raise UsageError(f"{name}: {getattr(self, name)!r} is not text")
        _within("duration", self.duration, *DURATION_RANGE_S)
        if self.bpm is not None:
            _within("bpm", self.bpm, *BPM_RANGE, kind=int)
        if self.keyscale:
            _one_of("keyscale", self.keyscale, KEYSCALES)
        if self.timesignature:
            _one_of("timesignature", self.timesignature, TIME_SIGNATURES)
        _one_of("vocal_language", self.vocal_language, LANGUAGES)
        _within("lm_temperature", self.lm_temperature, 0.0, 2.0)
        _within("lm_cfg_scale", self.lm_cfg_scale, 1.0, 20.0)
        _within("lm_top_k", self.lm_top_k, 0, 1_000_000, kind=int)
        _within("lm_top_p", self.lm_top_p, 0.0, 1.0)
        _within("lm_repetition_penalty", self.lm_repetition_penalty, 0.1, 10.0)
        _within("inference_steps", self.inference_steps, 1, 200, kind=int)
        _within("shift", self.shift, 0.1, 20.0)

    @property
    def metadata_complete(self) -> bool:
        """Whether bpm, keyscale, timesignature and duration are all given (duration always is)."""
        return self.bpm is not None and bool(self.keyscale) and bool(self.timesignature)

    @property
    def wants_metadata(self) -> bool:
        """Whether planning needs its first phase: metadata by chain of thought."""
        return self.use_cot_metas and not self.metadata_complete


@dataclass(frozen=True, slots=True)
class GenerationConfig:
    """How the run is made. `seeds`: one per batch item; None draws them, and the result reports them."""

    batch_size: int = 1
    seeds: tuple[int, ...] | None = None
    audio_format: str = "wav"

    def __post_init__(self) -> None:
        _within("batch_size", self.batch_size, 1, 64, kind=int)
        _one_of("audio_format", self.audio_format, AUDIO_FORMATS)
        if self.seeds is not None:
            if len(self.seeds) != self.batch_size:
                raise UsageError(
                    f"seeds: {len(self.seeds)} given for batch_size {self.batch_size}; give one per item"
                )
            for seed in self.seeds:
                _within("seeds", seed, 0, MAX_SEED, kind=int)


@dataclass(frozen=True, slots=True)
class Audio:
    """One generated item. `tensor`: fp32 CPU `[2, samples]` in [-1, 1]; `path`: where it was saved."""

    tensor: torch.Tensor
    sample_rate: int
    seed: int
    peak: float
    rms: float
    silent: bool
    path: Path | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """Work done, counted and never estimated. All per run; `lm_*` tokens are summed over batch rows."""

    audio_s: float = 0.0  # seconds of audio per item
    latent_frames: int = 0
    dit_tokens: int = 0
    encoder_tokens: int = 0
    dit_steps: int = 0
    vae_tiles: int = 0
    lm_prompt_tokens: int = 0  # tokens of every prompt row, shared prefixes counted once per row
    lm_prefill_tokens: int = 0  # tokens that went through the model in prefill
    lm_decode_steps: int = 0  # one-token forward passes
    lm_decode_tokens: int = 0  # tokens kept from those passes, over batch items (not CFG rows)
    audio_codes: int = 0  # codes per item


@dataclass(frozen=True, slots=True)
class PlanResult:
    """A plan by itself: the same times, counts and environment, without audio.

    `codes`: int64 CPU `[B, 5·seconds]`, None when the request did not ask for them.
    """

    metadata: Mapping[str, Any]
    codes: torch.Tensor | None
    wall_s: float
    stages_s: Mapping[str, float]
    details_s: Mapping[str, float]
    counts: Counts
    environment: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class GenerationResult:
    """What happened: audio, where the time went, what really ran.

    `stages_s`: seconds per top-level stage plus `other`; they sum to `wall_s`. `details_s`: nested
    spans. `steps_s`: each diffusion step (host time). `metadata`: what the DiT was conditioned on.
    `environment`: device, backend, dtype, source of the weights, versions, read back from the run.
    """

    audios: tuple[Audio, ...]
    wall_s: float
    stages_s: Mapping[str, float]
    details_s: Mapping[str, float]
    steps_s: tuple[float, ...]
    counts: Counts
    metadata: Mapping[str, Any]
    environment: Mapping[str, Any]
    peak_memory_bytes: int = 0
    warnings: tuple[str, ...] = field(default=())

    @property
    def rtf(self) -> float:
        """Real-time factor: wall seconds per second of audio of one item; lower is better."""
        return self.wall_s / self.counts.audio_s


EXAMPLE_FIELDS = {
    "think": "thinking",
    "language": "vocal_language",
} | {
    name: name
    for name in ("caption", "lyrics", "bpm", "duration", "keyscale", "timesignature", "inference_steps")
}
EXAMPLE_RUN_FIELDS = ("batch_size", "seed")


def load_example(path: Path) -> tuple[GenerationParams, GenerationConfig]:
    """Read an example request (the JSON of `examples/text2music/`).

    Raises MissingPrerequisite when the file is absent or is not JSON, UsageError for a field that is
    unknown or out of range; both name the file.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        there = ", ".join(sorted(p.name for p in path.parent.glob("*.json"))) or "none"
        raise MissingPrerequisite(f"example {path}: no such file; in {path.parent}: {there}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise MissingPrerequisite(f"example {path}: not JSON: {error}") from None
    if not isinstance(data, dict):
        raise UsageError(f"example {path}: the top level is a {type(data).__name__}, not an object")
    known = [*EXAMPLE_FIELDS, *EXAMPLE_RUN_FIELDS]
    if unknown := sorted(set(data) - set(known)):
        raise UsageError(f"example {path}: unknown field {unknown[0]!r}; allowed: {', '.join(known)}")
    try:
        params = GenerationParams(**{EXAMPLE_FIELDS[k]: v for k, v in data.items() if k in EXAMPLE_FIELDS})
        batch = data.get("batch_size", 1)
        _within("batch_size", batch, 1, 64, kind=int)
        return params, GenerationConfig(batch_size=batch, seeds=item_seeds(data.get("seed", 42), batch))
    except UsageError as error:
        raise UsageError(f"example {path}: {error}") from None


def item_seeds(seed: int, batch_size: int) -> tuple[int, ...]:
    """One seed per batch item from a single one: consecutive, wrapping at 2³².

    Raises UsageError when `seed` is not one.
    """
    _within("seed", seed, 0, MAX_SEED, kind=int)
    return tuple((seed + i) % (MAX_SEED + 1) for i in range(batch_size))
