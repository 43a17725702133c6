"""Audio codes: 5 per second, each a point of a 6-dimensional grid of 64,000.

The tokenizer pools five 25 Hz latent frames into one code; the detokenizer turns a code back into
five frames. In between sits finite scalar quantization (FSQ, arXiv 2309.15505): each of six
coordinates is rounded to one of L levels in [-1, 1], so the codebook is arithmetic, not a table.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from acestep.models.condition import Encoder
from acestep.models.configs import DiTConfig
from harness.nn.attend import full
from harness.nn.blocks import Block, RMSNorm, rope_table
from harness.nn.config import BlockConfig


class FSQ(nn.Module):
    """Symmetric levels over [-1, 1]: level k of L stands for `2k/(L-1) - 1`."""

    def __init__(self, width: int, levels: list[int]):
        super().__init__()
        self.levels = levels
        self.project_in = nn.Linear(width, len(levels))
        self.project_out = nn.Linear(len(levels), width)

    def indices(self, x: Tensor) -> Tensor:
        """Code indices `[...]` of features `x [..., width]`, with the soft clamp used in training.

        In fp32 or better, whatever the model's dtype: bf16 is so coarse beside a level that one code in
        twenty would be a neighbour.
        """
        wide = torch.promote_types(x.dtype, torch.float32)
        weight, bias = self.project_in.weight.to(wide), self.project_in.bias.to(wide)
        levels = self._levels(wide, x.device)
        stretch = 1 + 1 / (levels - 1)
        z = ((F.linear(x.to(wide), weight, bias) / stretch).tanh() * stretch).clamp(-1, 1)
        digits = ((levels - 1) * (z + 1) / 2 + 0.5).floor().long()
        return (digits * self._basis(x.device)).sum(-1)

    def decode(self, indices: Tensor) -> Tensor:
        """Features `[..., width]` of code indices `[...]`.

        Grid points are made in fp32 or better and then rounded to the model's dtype, as the codebook
        of the published model was.
        """
        weight = self.project_out.weight
        levels = self._levels(torch.promote_types(weight.dtype, torch.float32), weight.device)
        digits = indices[..., None] // self._basis(indices.device) % levels.long()
        return self.project_out((2 * digits / (levels - 1) - 1).to(weight.dtype))

    def _levels(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        return torch.tensor(self.levels, dtype=dtype, device=device)

    def _basis(self, device: torch.device) -> Tensor:
        return torch.tensor([math.prod(self.levels[:i]) for i in range(len(self.levels))], device=device)


class Pooler(Encoder):
    """Groups of frames `[G, 5, D]` to one vector each `[G, D]`, through a learned first token."""

    def __init__(self, layers: int, config: BlockConfig, window: int):
        super().__init__(config.hidden_size, layers, config, window)
        self.special_token = nn.Parameter(torch.zeros(1, 1, config.hidden_size))

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        x = torch.cat((self.special_token.expand(len(x), -1, -1), self.embed_tokens(x)), dim=1)
        return self.run(x, valid)[:, 0]


class AudioTokenizer(nn.Module):
    """Latents `[B, T, 64]`, T a multiple of 5, to codes `[B, T/5]`; weights published under `tokenizer.`."""

    def __init__(self, config: DiTConfig):
        super().__init__()
        block = config.encoder
        self.window = config.pool_window_size
        self.audio_acoustic_proj = nn.Linear(config.audio_acoustic_hidden_dim, block.hidden_size)
        self.attention_pooler = Pooler(
            config.num_attention_pooler_hidden_layers, block, config.sliding_window
        )
        self.quantizer = FSQ(config.fsq_dim, config.fsq_input_levels)

    def forward(self, latents: Tensor) -> Tensor:
        groups = self.audio_acoustic_proj(latents).unflatten(1, (-1, self.window))
        pooled = self.attention_pooler(groups.flatten(0, 1))
        return self.quantizer.indices(pooled).unflatten(0, (len(latents), -1))


class Detokenizer(nn.Module):
    """Weights as published under `detokenizer.`: code features `[B, n, D]` to latents `[B, 5n, 64]`."""

    def __init__(self, config: DiTConfig):
        super().__init__()
        block = self.config = config.encoder
        self.embed_tokens = nn.Linear(block.hidden_size, block.hidden_size)
        self.special_tokens = nn.Parameter(torch.zeros(1, config.pool_window_size, block.hidden_size))
        self.layers = nn.ModuleList(Block(block) for _ in range(config.num_attention_pooler_hidden_layers))
        self.norm = RMSNorm(block.hidden_size, block.rms_norm_eps)
        self.proj_out = nn.Linear(block.hidden_size, config.audio_acoustic_hidden_dim)

    def forward(self, features: Tensor) -> Tensor:
        batch, codes, _ = features.shape
        x = self.embed_tokens(features).flatten(0, 1)[:, None] + self.special_tokens  # [B·n, 5, D]
        rope = rope_table(torch.arange(x.shape[1], device=x.device), self.config, x.dtype)
        for layer in self.layers:
            x = layer(x, rope, full)
        return self.proj_out(self.norm(x)).reshape(batch, codes * x.shape[1], -1)
