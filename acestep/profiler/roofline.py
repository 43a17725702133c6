"""The roofline of a run: FLOP and bytes, peak rates of the device, and the share achieved. No torch import.

A stage cannot be faster than its arithmetic or than its memory traffic, whichever takes longer:

    floor = max(FLOP / peak FLOP per s, bytes / peak bytes per s)

Reading a prompt, a diffusion step and decoding audio use each weight for hundreds of tokens: arithmetic is
the limit, and the share achieved of it is MFU. Writing a token reads every weight for 2 FLOP per row: memory
is the limit, and the share is MBU. Work that a result does not need (overlapping tiles, masked keys) lowers
the share, as it should. On a device whose peaks are not known there is no share.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from acestep.effective_plan import EffectivePlan
from acestep.models.rates import FRAMES_PER_SECOND
from acestep.result import Counts
from acestep.text.audio_codes import CODES, CODES_PER_SECOND
from acestep.text.tokenizer import TEXT_VOCAB
from acestep.tracing import closed_form
from acestep.tracing.closed_form import Networks
from harness.flags import one_spelling
from harness.nn.config import Qwen3Config
from harness.text import harmless

# Texts are not tokenised before a run: some paragraphs of lyrics stand in for them.
TYPICAL_PROMPT_TOKENS = 600
UNCONDITIONAL_PROMPT_TOKENS = 35  # without a negative prompt
TYPICAL_ENCODER_TOKENS = 400

PREFIXES = ("", "k", "M", "G", "T", "P", "E")
NONE = "—"
CARD_WIDTHS = (10, 11, 9, 10, 8, 7, 8, 9)  # 79 columns
METRICS = {"lm_prefill": "mfu", "lm_decode": "mbu", "diffuse": "mfu", "vae_decode": "mfu"}


@dataclass(frozen=True, slots=True)
class Ceilings:
    """What a device does at most in the number format of the run; `origin`: data sheet or measurement."""

    flop_per_s: float
    bytes_per_s: float
    origin: str


@dataclass(frozen=True, slots=True)
class Load:
    """What a stage has to do: `times` a `unit`, each of so many FLOP and bytes of memory."""

    stage: str
    times: int
    unit: str
    flop: float
    bytes: float

    def floor_s(self, ceilings: Ceilings) -> float:
        """Seconds that no implementation on the device goes below."""
        return self.times * max(self.flop / ceilings.flop_per_s, self.bytes / ceilings.bytes_per_s)

    def limit(self, ceilings: Ceilings) -> str:
        """What sets the floor."""
        arithmetic = self.flop / ceilings.flop_per_s > self.bytes / ceilings.bytes_per_s
        return "compute" if arithmetic else "memory"


def expected_counts(
    duration_s: float, steps: int, *, codes: bool, batch: int = 1, lm_guided: bool = False
) -> Counts:
    """The counts of a run that is still to come: audio is exact, texts are of typical length.

    `codes`: the language model writes them, with guidance where `lm_guided`.
    """
    frames, written = round(duration_s * FRAMES_PER_SECOND), int(duration_s * CODES_PER_SECOND)
    prompt = TYPICAL_PROMPT_TOKENS + (UNCONDITIONAL_PROMPT_TOKENS if lm_guided else 0)
    prompts = batch * prompt if codes else 0
    return Counts(
        audio_s=duration_s,
        latent_frames=frames,
        dit_tokens=-(-frames // 2),
        encoder_tokens=TYPICAL_ENCODER_TOKENS,
        dit_steps=steps,
        lm_prompt_tokens=prompts,
        lm_prefill_tokens=prompts,
        lm_decode_steps=written - 1 if codes else 0,
        audio_codes=written if codes else 0,
    )


def prefilled(counts: Counts) -> int:
    """Tokens of the stage lm_prefill; the forced runs of a thought are counted with them, but run later."""
    return min(counts.lm_prefill_tokens, counts.lm_prompt_tokens)


def loads(
    of: Networks,
    counts: Counts,
    *,
    batch: int = 1,
    passes: int | None = None,
    guided_passes: int = 0,
    lm_guided: bool = False,
    lm_phases: int = 1,
) -> tuple[Load, ...]:
    """What the stages of a run have to do, by its counts.

    `passes` of the DiT over each item, one per step unless said otherwise, and how many of them are guided;
    `lm_phases`: how often each prompt was opened; `lm_guided`: codes have guidance, which adds a row to each
    item while they are written. Every item counts as long as the longest.
    """
    stages = []
    if of.lm and counts.lm_prompt_tokens:
        stages += _lm_loads(of, of.lm, counts, batch, lm_guided, lm_phases)
    if of.dit and counts.dit_steps:
        passes = passes or counts.dit_steps
        size = of.dit, counts.dit_tokens, counts.encoder_tokens
        plain, guided = (closed_form.dit_flop(*size, batch, guided=on) for on in (False, True))
        flop = plain + (guided - plain) * guided_passes / passes
        song = closed_form.vae_decode_flop(of.vae, counts.latent_frames)
        stages += [
            Load("condition", 1, "song", closed_form.dit_condition_flop(*size), 0),
            Load("diffuse", passes, "step", flop, of.dit_bytes * closed_form.dit_weights(of.dit)),
            Load("vae_decode", batch, "song", song, of.dtype_bytes * closed_form.vae_decoder_weights(of.vae)),
        ]
    return tuple(stages)


def of_plan(of: Networks, counts: Counts, plan: EffectivePlan) -> tuple[Load, ...]:
    """What the stages of a plan have to do, by the counts of its run."""
    params, times = plan.params, plan.evaluations
    guided = [t for t in times if params.cfg_interval_start <= t <= params.cfg_interval_end]
    return loads(
        of,
        counts,
        batch=plan.config.batch_size,
        passes=len(times),
        guided_passes=len(guided) if plan.guided else 0,
        lm_guided=plan.lm_guided,
        lm_phases=max(1, plan.lm_metadata + plan.lm_codes),
    )


def _lm_loads(
    of: Networks, lm: Qwen3Config, counts: Counts, batch: int, guided: bool, phases: int
) -> list[Load]:
    prompt, steps = prefilled(counts), counts.lm_decode_steps
    stages = [Load("lm_prefill", 1, "prompt", closed_form.qwen3_flop(lm, prompt), of.lm_bytes)]
    if steps:
        coding = min(max(counts.audio_codes - 1, 0), steps)
        context = counts.lm_prompt_tokens // (batch * (phases + guided)) + steps // 2
        flop = read = 0
        for times, rows, head_rows in (
            (steps - coding, batch, TEXT_VOCAB),
            (coding, batch * (1 + guided), CODES),
        ):
            flop += times * closed_form.lm_decode_flop(lm, rows, context, head_rows)
            size = rows, context, of.dtype_bytes, head_rows
            read += times * closed_form.lm_decode_bytes(lm, *size, of.lm_bytes)
        stages.append(Load("lm_decode", steps, "token", flop / steps, read / steps))
    return stages


def achieved(
    loads: Sequence[Load], stages_s: Mapping[str, float], ceilings: Ceilings | None
) -> dict[str, float | None]:
    """Shares of the device's peak, 0 to 1, as `lm_decode_mbu`, `diffuse_mfu`, ...; None where unknown."""
    shares: dict[str, float | None] = {}
    for load in loads:
        if metric := METRICS.get(load.stage):
            seconds, share = stages_s.get(load.stage, 0.0), None
            if ceilings and seconds > 0:
                done, most = load.flop, ceilings.flop_per_s
                if metric == "mbu":
                    done, most = load.bytes, ceilings.bytes_per_s
                share = load.times * done / (seconds * most)
            shares[f"{load.stage}_{metric}"] = share
    return shares


class Bottleneck(NamedTuple):
    """The stage that took longest, what that means, and the command that looks closer."""

    stage: str
    sentence: str
    command: str


EXPLAINED = {
    "lm_prefill": ("the language model reads its prompts, all tokens at once", "--llm-debug"),
    "lm_decode": ("the language model writes token by token, and each reads every weight", "--llm-debug"),
    "diffuse": ("every step runs the whole DiT over every token", "--trace=trace.json"),
    "vae_decode": (
        "convolutions up to 48 kHz, over every sample",
        "--trace=trace.json",
    ),
    "offload": ("models move between host and device", "--no-offload"),
}
AROUND = ("work around the large networks", "--detailed")


def bottleneck(stages_s: Mapping[str, float], argv: Sequence[str] = ()) -> Bottleneck:
    """Names the longest stage. `argv`: the flags of the run, which the next command repeats, with one that
    looks closer than they did; with none where they all did.
    """
    stage = max(stages_s, key=lambda name: stages_s[name])
    why, flag = EXPLAINED.get(stage, AROUND)
    share = stages_s[stage] / (sum(stages_s.values()) or 1.0)
    flags = {one_spelling(argument.partition("=")[0]) for argument in argv}
    closer = [f for f in (flag, "--trace=trace.json", "--detailed") if f.partition("=")[0] not in flags]
    command = shlex.join(["python", "profile_inference.py", *argv, *closer[:1]])
    return Bottleneck(stage, f"{stage} takes {share:.0%} of the wall: {why}", command)


def card(
    loads: Sequence[Load],
    device: str,
    ceilings: Ceilings | None,
    stages_s: Mapping[str, float] | None = None,
) -> str:
    """The run by stage: FLOP and bytes of a token, step or song, and the floor. With `stages_s`, what was
    achieved as well.
    """
    lines = [f"{harmless(device)}: {_peaks(ceilings)}"]
    columns = ["stage", "work", "FLOP each", "bytes each", "floor", "limit"]
    rows = [[*_work(load), *_floor(load, ceilings)] for load in loads]
    if stages_s is not None:
        columns += ["took", "achieved"]
        shares = achieved(loads, stages_s, ceilings)
        for load, row in zip(loads, rows, strict=True):
            row += _took(load, stages_s, shares)
    for row in [columns, *rows]:
        cells = (cell.ljust(width) for cell, width in zip(row, CARD_WIDTHS, strict=False))
        lines.append(" ".join(cells).rstrip())
    return "\n".join(lines)


def _peaks(ceilings: Ceilings | None) -> str:
    if ceilings is None:
        return "peaks not known, so no floor and no share; --measure-ceilings measures them"
    arithmetic, memory = _si(ceilings.flop_per_s, "FLOP/s"), _si(ceilings.bytes_per_s, "B/s")
    return f"at most {arithmetic} and {memory} ({ceilings.origin})"


def _work(load: Load) -> list[str]:
    plural = "s" if load.times != 1 else ""
    return [load.stage, f"{load.times} {load.unit}{plural}", _si(load.flop), _si(load.bytes, "B")]


def _floor(load: Load, ceilings: Ceilings | None) -> list[str]:
    return [_ms(load.floor_s(ceilings)), load.limit(ceilings)] if ceilings else [NONE, NONE]


def _took(load: Load, stages_s: Mapping[str, float], shares: Mapping[str, float | None]) -> list[str]:
    metric = METRICS.get(load.stage, "")
    share = shares.get(f"{load.stage}_{metric}")
    took = _ms(stages_s[load.stage]) if load.stage in stages_s else NONE
    return [took, NONE if share is None else f"{share:.1%} {metric.upper()}"]


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:,.3g} ms" if seconds < 0.9995 else f"{seconds:,.2f} s"


def _si(value: float, unit: str = "") -> str:
    """Three digits and a decimal prefix: 3.36 G."""
    power = 0
    while value >= 999.5 and power < len(PREFIXES) - 1:
        value, power = value / 1000, power + 1
    return f"{value:.3g} {PREFIXES[power]}{unit}".rstrip() if value else NONE
