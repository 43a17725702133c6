"""The networks of ACE-Step one by one, as `harness.subject.Component`: inputs, a call, its oracle, its cost.

Bytes of a call are those of the weights, of what goes in and of what comes out, each once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from acestep import oracles
from acestep.components import COMPONENTS
from acestep.models.condition import ConditionEncoder
from acestep.models.configs import DiTConfig, VAEConfig
from acestep.models.dit import DiT
from acestep.models.vae import OobleckDecoder, OobleckEncoder
from acestep.tracing import closed_form
from acestep.weights.layout import DEFAULT_DIT, LMS, TEXT_ENCODER
from acestep.weights.loading import Models
from acestep.weights.sources import open_source
from harness.checkpoint import on_meta
from harness.nn.config import Qwen3Config
from harness.residency import Residency
from harness.subject import Component

FRAMES, TOKENS = "latent frames", "tokens"
TIME = 0.7  # of the DiT's one step
PROMPT_TOKENS = 32  # what it is conditioned on
CAPTION_TOKENS = 16  # before lyrics of a size


def components(source: str) -> dict[str, Component]:
    """DiT, VAE decoder and encoder, text encoder, language model and condition encoder of `source`.

    Raises CheckpointError for a bad config.json.
    """
    networks = closed_form.networks(source, DEFAULT_DIT, LMS[0], dtype_bytes=4)
    text = closed_form.networks(source, None, TEXT_ENCODER, dtype_bytes=4).lm
    assert networks.dit and networks.lm and text
    parts = (
        _dit(source, networks.dit),
        _vae_decoder(source, networks.vae),
        _vae_encoder(source, networks.vae),
        _qwen3("text_encoder", source, text, lambda models: models.text_encoder),
        _qwen3("lm", source, networks.lm, lambda models: models.lm),
        _condition(source, networks.dit),
    )
    return {component.name: component for component in parts}


def _dit(source: str, config: DiTConfig) -> Component:
    latent, context = config.audio_acoustic_hidden_dim, config.in_channels - config.audio_acoustic_hidden_dim
    width, weights = config.encoder.hidden_size, _parameters(lambda: DiT(config))

    def run(network: DiT, x: Tensor, context: Tensor, encoded: Tensor) -> Tensor:
        modulation = network.modulate(torch.tensor([TIME], dtype=x.dtype, device=x.device))
        return network.velocity(x, network.condition(context, encoded), modulation, 0)

    def work(frames: int, element_bytes: int) -> tuple[int, int]:
        tokens = -(-frames // config.patch_size)
        flop = closed_form.dit_modulate_flop(config, steps=1) + closed_form.dit_flop(
            config, tokens, PROMPT_TOKENS
        )
        flop += closed_form.dit_condition_flop(config, tokens, PROMPT_TOKENS)
        values = frames * (2 * latent + context) + PROMPT_TOKENS * width
        return flop, element_bytes * (weights + values)

    return Component(
        name="dit",
        config=config,
        unit=FRAMES,
        build=_build(source, lambda models: models.ace_step.decoder, "dit"),
        inputs=lambda frames, generator: (
            torch.randn(1, frames, latent, generator=generator),
            torch.randn(1, frames, context, generator=generator),
            torch.randn(1, PROMPT_TOKENS, width, generator=generator),
        ),
        run=run,
        work=work,
        oracle=partial(oracles.velocity, config, TIME),
    )


def _vae_decoder(source: str, config: VAEConfig) -> Component:
    weights = _parameters(lambda: OobleckDecoder(config))
    values = config.decoder_input_channels + config.audio_channels * config.hop
    return Component(
        name="vae_decoder",
        config=config,
        unit=FRAMES,
        build=_build(source, lambda models: models.vae.decoder, "vae"),
        inputs=lambda frames, generator: (
            torch.randn(1, config.decoder_input_channels, frames, generator=generator),
        ),
        run=lambda network, latents: network(latents),
        work=lambda frames, element_bytes: (
            closed_form.vae_decode_flop(config, frames),
            element_bytes * (weights + frames * values),
        ),
        oracle=partial(oracles.autoencoder, config, "decoder"),
    )


def _vae_encoder(source: str, config: VAEConfig) -> Component:
    weights = _parameters(lambda: OobleckEncoder(config))
    values = config.audio_channels * config.hop + config.encoder_hidden_size
    return Component(
        name="vae_encoder",
        config=config,
        unit=FRAMES,
        build=_build(source, lambda models: models.vae.encoder, "vae_encoder"),
        inputs=lambda frames, generator: (
            torch.randn(1, config.audio_channels, frames * config.hop, generator=generator),
        ),
        run=lambda network, audio: network(audio),
        work=lambda frames, element_bytes: (
            closed_form.vae_encode_flop(config, frames),
            element_bytes * (weights + frames * values),
        ),
        oracle=partial(oracles.autoencoder, config, "encoder"),
    )


def _qwen3(name: str, source: str, config: Qwen3Config, network_of: Callable[[Models], Any]) -> Component:
    weights, hidden = closed_form.qwen3_weights(config), config.hidden_size
    return Component(
        name=name,
        config=config,
        unit=TOKENS,
        build=_build(source, network_of, name),
        inputs=lambda tokens, generator: (
            torch.randint(config.vocab_size, (1, tokens), generator=generator),
        ),
        run=lambda network, ids: network(ids),
        work=lambda tokens, element_bytes: (
            closed_form.qwen3_flop(config, tokens),
            element_bytes * (weights + 2 * tokens * hidden),
        ),
        oracle=partial(oracles.hidden_states, config),
    )


def _condition(source: str, config: DiTConfig) -> Component:
    text, clip, width = config.text_hidden_dim, config.timbre_fix_frame, config.encoder.hidden_size
    latent, weights = config.audio_acoustic_hidden_dim, _parameters(lambda: ConditionEncoder(config))

    def run(network: ConditionEncoder, caption: Tensor, lyrics: Tensor, recording: Tensor) -> Tensor:
        return network(caption, None, lyrics, None, network.timbre_encoder(recording)[None])[0]

    def work(tokens: int, element_bytes: int) -> tuple[int, int]:
        flop = closed_form.condition_flop(config, CAPTION_TOKENS, tokens) + closed_form.timbre_flop(config)
        prompt = CAPTION_TOKENS + tokens
        return flop, element_bytes * (weights + prompt * text + clip * latent + (prompt + 1) * width)

    return Component(
        name="condition",
        config=config,
        unit=f"{TOKENS} of lyrics",
        build=_build(source, lambda models: models.ace_step.encoder, "condition", "timbre"),
        inputs=lambda tokens, generator: (
            torch.randn(1, CAPTION_TOKENS, text, generator=generator),
            torch.randn(1, tokens, text, generator=generator),
            torch.randn(1, clip, latent, generator=generator),
        ),
        run=run,
        work=work,
        oracle=partial(oracles.condition, config),
    )


def _build(
    source: str, network_of: Callable[[Models], nn.Module], *parts: str
) -> Callable[[torch.device, torch.dtype], nn.Module]:
    """What loads `parts` of the source's models, and gives the network they make up."""

    def build(device: torch.device, dtype: torch.dtype) -> nn.Module:
        lm = LMS[0] if "lm" in parts else None
        residency = Residency(device, COMPONENTS)
        models = Models.open(open_source(source), DEFAULT_DIT, device, lambda stored: dtype, lm, residency)
        models.need(*parts)
        return network_of(models)

    return build


def _parameters(network: Callable[[], nn.Module]) -> int:
    """How many weights a network has; none are made."""
    return sum(parameter.numel() for parameter in on_meta(network).parameters())
