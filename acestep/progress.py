"""How the work of a plan is spread over its stages, in arbitrary units: for an order, and for the time left.

On a set-up device decoding audio takes about as long as nine steps of diffusion, planning as long as forty
whatever the batch.
"""

from __future__ import annotations

from acestep.effective_plan import EffectivePlan
from acestep.request import DescriptionParams
from acestep.text.audio_codes import CODES_PER_SECOND
from harness.progress import Part

VAE_STEPS, LM_STEPS = 9, 40


def parts(plan: EffectivePlan) -> tuple[Part, ...]:
    """The stages that take most of a plan's time, in their order."""
    length_s, batch, steps = plan.length_s(), plan.config.batch_size, len(plan.times)
    codes = int(CODES_PER_SECOND * length_s)
    planning = (Part("lm_decode", length_s * LM_STEPS, "sampling", codes),) if plan.lm_codes else ()
    diffusion = Part("diffuse", length_s * batch * steps, "step", steps)
    return *planning, diffusion, Part("vae_decode", length_s * batch * VAE_STEPS)


def of_words(params: DescriptionParams) -> tuple[Part, ...]:
    """The tokens of a text mode, where it is told how many it writes: the lyrics', next to which a thought
    has few. Nothing where the model ends by itself."""
    if not (params.ignore_eos and params.use_constrained_decoding):
        return ()
    return (Part("lm_decode", params.max_lyrics_tokens, "sampling", params.max_lyrics_tokens),)


def work(plan: EffectivePlan) -> float:
    """How much there is to do."""
    return sum(part.work for part in parts(plan))
