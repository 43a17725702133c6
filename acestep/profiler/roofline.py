"""The roofline of a run: FLOP and bytes, peak rates of the device, and the share achieved. No torch import.

A stage cannot be faster than its arithmetic or than its memory traffic, whichever takes longer:

    floor = max(FLOP / peak FLOP per s, bytes / peak bytes per s)

Reading a prompt, a diffusion step and decoding audio use each weight for hundreds of tokens: arithmetic is
the limit, and the share achieved of it is MFU. Writing a token reads every weight for 2 FLOP per row: memory
is the limit, and the share is MBU. Work that a result does not need (overlapping tiles, masked keys) lowers
the share, as it should: a prediction, which counts that too, has more FLOP. On a device whose peaks are not
known there is no share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from acestep import components
from acestep.effective_plan import EffectivePlan
from acestep.models.configs import DiTConfig
from acestep.result import Counts
from acestep.text.audio_codes import CODES
from acestep.text.tokenizer import TEXT_VOCAB
from acestep.tracing import closed_form
from acestep.tracing.closed_form import Networks
from harness.nn.config import Qwen3Config

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


def prefilled(counts: Counts) -> int:
    """Tokens of the stage lm_prefill; the forced runs of a thought are counted with them, but run later."""
    return min(counts.lm_prefill_tokens, counts.lm_prompt_tokens)


@dataclass(frozen=True, slots=True)
class Conditioning:
    """What conditions are made of beside prompts.

    `decoded`: rows of audio codes; `encoded`: recordings; `clips`: of reference audio; `steps`: of the
    schedule, None for those that were counted.
    """

    decoded: int = 0
    encoded: int = 0
    clips: int = 0
    steps: int | None = None


def loads(
    of: Networks,
    counts: Counts,
    *,
    batch: int = 1,
    passes: int | None = None,
    guided_passes: int = 0,
    lm_guided: bool = False,
    lm_phases: int = 1,
    conditioning: Conditioning = Conditioning(),
) -> tuple[Load, ...]:
    """What the stages of a run have to do, by its counts.

    `passes` of the DiT over each item, one per step unless said otherwise, and how many of them are guided;
    `lm_phases`: how often each prompt was opened; `lm_guided`: codes have guidance, which adds a row to each
    item while they are written. Every item counts as long as the longest, every prompt as the longest.
    """
    stages = []
    if of.lm and counts.lm_prompt_tokens:
        stages += _lm_loads(of, of.lm, counts, batch, lm_guided, lm_phases)
    if of.text and counts.prompts:
        flop = closed_form.qwen3_flop(of.text, counts.caption_tokens)
        read = of.dtype_bytes * closed_form.qwen3_weights(of.text)
        stages.append(Load("text_encode", counts.prompts, "prompt", flop, read))
    if of.dit and counts.dit_steps:
        passes = passes or counts.dit_steps
        size = of.dit, counts.dit_tokens, counts.encoder_tokens
        plain, guided = (closed_form.dit_flop(*size, batch, guided=on) for on in (False, True))
        flop = plain + (guided - plain) * guided_passes / passes
        song = closed_form.vae_decode_flop(of.vae, counts.latent_frames)
        stages += [
            _condition_load(of, of.dit, counts, batch, conditioning, guided=guided_passes > 0),
            Load("diffuse", passes, "step", flop, of.dit_bytes * closed_form.dit_weights(of.dit)),
            Load("vae_decode", batch, "song", song, of.dtype_bytes * closed_form.vae_decoder_weights(of.vae)),
        ]
    return tuple(stages)


def _condition_load(
    of: Networks, dit: DiTConfig, counts: Counts, batch: int, conditioning: Conditioning, *, guided: bool
) -> Load:
    """All that is computed once: of each prompt the lyric encoder and what the steps share, the modulation,
    and what stands for a recording."""
    prompt = closed_form.condition_flop(dit, counts.caption_tokens, counts.lyric_tokens)
    shared = closed_form.dit_condition_flop(
        dit, counts.dit_tokens, counts.encoder_tokens, batch, guided=guided
    )
    codes = counts.audio_codes or -(-counts.latent_frames // dit.pool_window_size)
    flop = (
        counts.prompts * (prompt + shared)
        + closed_form.dit_modulate_flop(dit, conditioning.steps or counts.dit_steps)
        + closed_form.detokenizer_flop(dit, conditioning.decoded * codes)
        + closed_form.tokenizer_flop(dit, conditioning.encoded * codes)
        + closed_form.timbre_flop(dit, conditioning.clips)
    )
    read = closed_form.condition_bytes(dit, of.dtype_bytes, islands=of.islands)
    return Load("condition", 1, "song", flop, read)


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
        conditioning=_conditioning(counts, plan),
    )


def _conditioning(counts: Counts, plan: EffectivePlan) -> Conditioning:
    covered, timbre = components.TOKENIZER in plan.components, components.TIMBRE in plan.components
    rows = plan.config.batch_size if plan.lm_codes or plan.params.audio_codes else 0
    return Conditioning(
        decoded=1 if covered else rows,
        encoded=int(covered),
        clips=counts.encoder_tokens - counts.caption_tokens - counts.lyric_tokens if timbre else 0,
        steps=len(plan.times) + (0.0 in plan.evaluations),
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
