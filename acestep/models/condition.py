"""The condition encoder: caption, lyrics and timbre as one sequence of tokens for the DiT.

    lyrics   token-table embeddings [1024] -> 8 blocks, bidirectional
    timbre   reference latents [750 x 64]  -> 4 blocks, the first output is the clip's vector
    caption  text-encoder states [1024]    -> one linear map

Packed in that order, valid tokens first. Blocks alternate sliding (even) and full (odd) attention.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from acestep.models.configs import DiTConfig
from harness.nn.attend import Attend, Biased, full, hide, sliding
from harness.nn.blocks import Block, RMSNorm, rope_table
from harness.nn.config import BlockConfig
from harness.nn.islands import WideLinear, WideRMSNorm


class Encoder(nn.Module):
    """Blocks over embedded inputs `[B, S, features]`, then a norm: `[B, S, D]`."""

    def __init__(self, features: int, layers: int, config: BlockConfig, window: int):
        super().__init__()
        self.config = config
        self.window = window
        self.embed_tokens = nn.Linear(features, config.hidden_size)
        self.layers = nn.ModuleList(Block(config) for _ in range(layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """`valid [B, S]` marks real tokens; None when all are.

        Outputs at padding mean nothing, yet a batch of unequal prompts attends to them in the DiT.
        """
        return self.run(self.embed_tokens(x), valid)

    def run(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        batch, length, _ = x.shape
        rope = rope_table(torch.arange(length, device=x.device), self.config, x.dtype)
        near, far = self._attend(batch, length, valid, x)
        dtype = x.dtype
        for index, layer in enumerate(self.layers):
            x = layer(x, rope, far if index % 2 else near)
        return self.norm(x).to(dtype)

    def _attend(self, batch: int, length: int, valid: Tensor | None, x: Tensor) -> tuple[Attend, Attend]:
        if valid is None or bool(valid.all()):
            return sliding(batch, length, self.window, x.dtype, x.device), full
        # Padding only meets batches of unequal prompts: the dense mask is short and off the hot path.
        position = torch.arange(length, device=x.device)
        distant = (position[:, None] - position).abs() > self.window
        padding = ~valid[:, None, None, :]
        return Biased(hide(padding | distant, x.dtype)), Biased(hide(padding, x.dtype))


class LyricEncoder(Encoder):
    """Embedded lyrics `[B, S, 1024]` to `[B, S, D]`.

    With the published weights the last projection reaches 5e5, from inputs below 1.2e4 (upstream's figures
    of fp32 runs), and the final norm follows. In fp16, which ends at 65,504, both are islands of fp32.
    """

    def __init__(self, features: int, layers: int, config: BlockConfig, window: int):
        super().__init__(features, layers, config, window)
        last = cast(Block, self.layers[-1])
        last.mlp.down_proj = WideLinear(config.intermediate_size, config.hidden_size, bias=False)
        self.norm = WideRMSNorm(config.hidden_size, config.rms_norm_eps)


class TimbreEncoder(Encoder):
    """Clips of reference latents `[N, 750, 64]` to one vector each `[N, D]`.

    Both families publish a learned token. XL reads it before the clip (`prepends`), as position 0 of 751,
    and pools there; 2B never reads it and pools at the first frame. diffusers prepends in neither.
    """

    def __init__(self, features: int, layers: int, config: BlockConfig, window: int, prepends: bool):
        super().__init__(features, layers, config, window)
        self.prepends = prepends
        self.special_token = nn.Parameter(torch.zeros(1, 1, config.hidden_size))

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        x = self.embed_tokens(x)
        if self.prepends:
            x = torch.cat((self.special_token.expand(len(x), -1, -1), x), dim=1)
        return self.run(x, valid)[:, 0]


class ConditionEncoder(nn.Module):
    """Weights as published under `encoder.` in the checkpoint file."""

    def __init__(self, config: DiTConfig):
        super().__init__()
        block = config.encoder
        window = config.sliding_window
        self.text_projector = nn.Linear(config.text_hidden_dim, block.hidden_size, bias=False)
        self.lyric_encoder = LyricEncoder(
            config.text_hidden_dim, config.num_lyric_encoder_hidden_layers, block, window
        )
        self.timbre_encoder = TimbreEncoder(
            config.audio_acoustic_hidden_dim,
            config.num_timbre_encoder_hidden_layers,
            block,
            window,
            prepends=config.is_xl,
        )

    def forward(
        self,
        text: Tensor,
        text_valid: Tensor | None,
        lyrics: Tensor,
        lyrics_valid: Tensor | None,
        timbre: Tensor,
        timbre_valid: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The three branches as one sequence.

        `text [B, Nt, 1024]`, `lyrics [B, Nl, 1024]`, and `timbre [B or 1, N, D]`, already encoded: one
        vector per reference clip, or without any a constant of the checkpoint. `*_valid [B, length]` mark
        what is not padding; None when nothing is. Returns what `pack` does.
        """
        timbre = timbre.expand(len(text), -1, -1)
        return pack(
            (self.lyric_encoder(lyrics, lyrics_valid), lyrics_valid),
            (timbre, timbre_valid),
            (self.text_projector(text), text_valid),
        )


def pack(*parts: tuple[Tensor, Tensor | None]) -> tuple[Tensor, Tensor]:
    """Join sequences `[B, n, D]` with masks `[B, n]` (None: all valid): `([B, sum of n, D], [B, sum of n])`.

    In each row the valid tokens come first, then the others, both in the order they were given.
    """
    tokens = torch.cat([part for part, _ in parts], dim=1)
    masks = [v if v is not None else p.new_ones(p.shape[:2], dtype=torch.bool) for p, v in parts]
    valid = torch.cat(masks, dim=1)
    if all(mask is None for _, mask in parts):
        return tokens, valid
    order = valid.int().argsort(dim=1, descending=True, stable=True)
    return tokens.gather(1, order[..., None].expand_as(tokens)), valid.gather(1, order)
