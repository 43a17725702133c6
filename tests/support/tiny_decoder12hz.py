"""A Decoder12Hz of 12 samples a frame in fp64, and the published one's dimensions.

Layer scales and gamma are about 1, so that what a layer adds counts; of each book one entry was never used.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn

from harness.checkpoint import materialise, on_meta
from harness.nn.folded import fold, stored_shapes
from subjects.qwen3_tts.config import DecoderConfig
from subjects.qwen3_tts.models.decoder import Decoder

PUBLISHED = DecoderConfig(
    codebook_dim=512,
    codebook_size=2048,
    num_quantizers=16,
    latent_dim=1024,
    hidden_size=512,
    intermediate_size=1024,
    num_hidden_layers=8,
    num_attention_heads=16,
    num_key_value_heads=16,
    head_dim=64,
    sliding_window=72,
    decoder_dim=1536,
    upsampling_ratios=[2, 2],
    upsample_rates=[8, 5, 4, 3],
)
TINY = DecoderConfig(
    codebook_dim=8,
    codebook_size=7,
    num_quantizers=4,
    latent_dim=6,
    hidden_size=8,
    intermediate_size=12,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=2,
    head_dim=6,
    sliding_window=4,
    decoder_dim=12,
    upsampling_ratios=[2],
    upsample_rates=[3, 2],
)
LAST = f"decoder.{len(TINY.upsample_rates) + 2}.conv"


def random_tensors(module: nn.Module, seed: int = 0) -> dict[str, Tensor]:
    """What a file of `module` could hold, fp64: matrices that keep what they multiply at its size."""
    generator = torch.Generator().manual_seed(seed)

    def draw(name: str, shape: tuple[int, ...]) -> Tensor:
        values = torch.randn(shape, generator=generator, dtype=torch.float64)
        if name.endswith("cluster_usage"):
            return values.square().index_fill_(0, torch.tensor([1]), 0)
        if name.endswith("embedding_sum"):
            return values.index_fill_(0, torch.tensor([1]), 1e-6)  # over 1e-5
        if len(shape) > 1:
            return values / math.sqrt(math.prod(shape[1:]))
        centre = 1.0 if name.endswith(("scale", "gamma", "norm.weight")) else 0.0
        return centre + 0.3 * values

    return {name: draw(name, shape) for name, shape in stored_shapes(module).items()}


def loaded(module: nn.Module, tensors: Mapping[str, Tensor], dtype: torch.dtype = torch.float64) -> nn.Module:
    """`module`, of the meta device, with the values of `tensors` by their stored names."""
    read = partial(fold, module, read=tensors.__getitem__)
    materialise(module, read, device=torch.device("cpu"), dtype=dtype)
    return module


def tiny_tensors() -> dict[str, Tensor]:
    """Of `TINY`; the last convolution is such that a few samples are cut at ±1."""
    tensors = random_tensors(on_meta(lambda: Decoder(TINY)))
    tensors[f"{LAST}.weight"] *= 0.05
    return tensors


def tiny_decoder(tensors: Mapping[str, Tensor] | None = None, config: DecoderConfig = TINY) -> Decoder:
    decoder = loaded(on_meta(lambda: Decoder(config)), tensors or tiny_tensors())
    assert isinstance(decoder, Decoder)
    return decoder


def random_codes(frames: int, batch: int = 1, config: DecoderConfig = TINY, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(config.codebook_size, (batch, config.num_quantizers, frames), generator=generator)
