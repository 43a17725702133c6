"""The networks one by one, as `harness.subject.Component`: inputs, a call, its cost.

Bytes of a call are those of weights as often as they are read, of what goes in and of what comes out.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from harness.nn.qwen3 import Cache
from harness.subject import Component
from subjects.qwen3_tts import checkpoint, closed_form, weights
from subjects.qwen3_tts.checkpoint import Configs
from subjects.qwen3_tts.config import FRAME_SAMPLES
from subjects.qwen3_tts.layout import BASE, CODES, SYNTHETIC, VARIANTS
from subjects.qwen3_tts.models.code_predictor import CodePredictor
from subjects.qwen3_tts.models.talker import Talker


def components(source: str) -> dict[str, Component]:
    """Talker, code predictor, decoder, and of a Base model the speaker encoder; made-up: 0.6B-Base.

    Raises CheckpointError for a bad config.json.
    """
    model = (
        next(name for name, (_, kind) in VARIANTS.items() if kind == BASE) if source in SYNTHETIC else None
    )
    configs = checkpoint.read(source, model)
    parts = [_talker(source, configs), _predictor(source, configs), _decoder(source, configs)]
    if configs.speaker:
        parts.append(_speaker(source, configs))
    return {part.name: part for part in parts}


def _talker(source: str, configs: Configs) -> Component:
    config = configs.talker

    def run(network: Talker, x: Tensor) -> Tensor:
        return network.logits(network(x)[:, -1], config.vocab_size)

    return Component(
        name="talker",
        config=config,
        unit="rows",
        build=_build(source, configs, "talker"),
        inputs=lambda rows, generator: (torch.randn(1, rows, config.hidden_size, generator=generator),),
        run=run,
        work=lambda rows, element_bytes: (
            closed_form.prefill_flop(config, rows),
            element_bytes
            * (closed_form.talker_weights(config) + rows * config.hidden_size + config.vocab_size),
        ),
    )


def _predictor(source: str, configs: Configs) -> Component:
    config, width = configs.predictor, configs.talker.hidden_size
    groups = config.num_code_groups

    def run(network: CodePredictor, hidden: Tensor, codes: Tensor) -> Tensor:
        """Logits `[frames, V]` of the last code, of frames side by side."""
        cache = Cache(config, len(hidden), groups, hidden.dtype, hidden.device)
        x = torch.stack((network.project(hidden), network.input(0, codes[:, 0])), dim=1)
        logits = network.logits(1, x, cache)
        for index in range(2, groups):
            x = network.input(index - 1, codes[:, index - 1])[:, None]
            logits = network.logits(index, x, cache)
        return logits

    return Component(
        name="code_predictor",
        config=config,
        unit="frames side by side",
        build=_build(source, configs, "code_predictor"),
        inputs=lambda frames, generator: (
            torch.randn(frames, width, generator=generator),
            torch.randint(config.vocab_size, (frames, groups), generator=generator),
        ),
        run=run,
        work=lambda frames, element_bytes: (
            frames * closed_form.frame_flop(config, width),
            element_bytes * (closed_form.frame_weights(config, width) + frames * (width + config.vocab_size)),
        ),
    )


def _decoder(source: str, configs: Configs) -> Component:
    config = configs.decoder

    def work(frames: int, element_bytes: int) -> tuple[int, int]:
        values = frames * (config.num_quantizers * config.codebook_dim + FRAME_SAMPLES)
        flop = closed_form.decoder_flop(config, frames, closed_form.window_pairs(config, frames))
        return flop, element_bytes * (closed_form.decoder_weights(config) + values)

    return Component(
        name="decoder",
        config=config,
        unit="frames",
        build=_build(source, configs, "decoder"),
        inputs=lambda frames, generator: (
            torch.randint(CODES, (1, config.num_quantizers, frames), generator=generator),
        ),
        run=lambda network, codes: network(codes),
        work=work,
    )


def _speaker(source: str, configs: Configs) -> Component:
    config = configs.speaker
    assert config is not None
    return Component(
        name="speaker_encoder",
        config=config,
        unit="mel frames",
        build=_build(source, configs, "speaker_encoder"),
        inputs=lambda frames, generator: (torch.randn(1, frames, config.mel_dim, generator=generator),),
        run=lambda network, mel: network(mel),
        work=lambda frames, element_bytes: (
            closed_form.speaker_flop(config, frames),
            element_bytes * (closed_form.speaker_weights(config) + frames * config.mel_dim + config.enc_dim),
        ),
    )


def _build(source: str, configs: Configs, name: str) -> Callable[[torch.device, torch.dtype], nn.Module]:
    """What gives the network `name` the source's weights."""
    return partial(weights.network, weights.open_source(source, configs.variant), configs, name)
