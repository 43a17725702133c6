"""The components: networks loaded and moved as one each, and which stage needs which. No torch import here.

    component      of                          needed by
    dit            ace_step.decoder            every generation
    condition      ace_step.encoder            every generation
    vae            vae.decoder                 every generation
    text_encoder   all of it                   every generation
    vae_encoder    vae.encoder                 source and reference audio
    timbre         ace_step.encoder            reference audio
    tokenizer      ace_step.tokenizer          covers of a recording
    detokenizer    quantizer, detokenizer      audio codes
    lm             all of it                   planning and describing

What one request needs is `acestep.resolver.EffectivePlan.components`.
"""

from __future__ import annotations

from collections.abc import Collection

DIT, CONDITION, VAE, TEXT_ENCODER = GENERATION = ("dit", "condition", "vae", "text_encoder")
VAE_ENCODER, TIMBRE, TOKENIZER, DETOKENIZER, LM = "vae_encoder", "timbre", "tokenizer", "detokenizer", "lm"
COMPONENTS = (*GENERATION, VAE_ENCODER, TIMBRE, TOKENIZER, DETOKENIZER, LM)  # in the order they are loaded
ENCODING = (VAE_ENCODER, TOKENIZER, DETOKENIZER)  # a recording to its codes
TEXT = (LM,)  # text modes
PLANNING = (DETOKENIZER, LM)  # audio codes planned by the language model, and their latents


def usual(lm: bool) -> tuple[str, ...]:
    """What most requests need of an engine, with or without a language model: loaded before the first."""
    return (*GENERATION, *(PLANNING if lm else ()))


def offloaded(offload_to_cpu: bool, offload_dit_to_cpu: bool) -> tuple[str, ...]:
    """Components that wait on the host until they are used: the DiT has a switch of its own."""
    return tuple(name for name in COMPONENTS if (offload_dit_to_cpu if name == DIT else offload_to_cpu))


def describe(names: Collection[str], device: str) -> str:
    """In words: offloaded are `names`, of an engine on `device`."""
    if not names:
        return f"every part stays on {device}"
    if device == "cpu":
        return "nothing is offloaded: the device is the host"
    if DIT in names:
        return f"{'every part' if len(names) > 1 else 'the DiT'} is on the host until used"
    return "every part but the DiT is on the host until used"
