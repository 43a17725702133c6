"""The diffusion transformer: 25 Hz latents in, their velocity out.

One call denoises nothing by itself; it predicts v = noise - data for latents at time t. What depends
only on the schedule or only on the conditions is computed outside the step loop:

    modulate(t)      once per schedule     every layer's shift, scale and gate for every step
    condition(...)   once per generation   cross-attention K/V, RoPE, the band, the context half of
                                           patchify (two thirds of its input never change)
    velocity(...)    once per step         what is left: 4·A·H + MLP per token and layer

Shapes: B batch, T latent frames, S = ceil(T/2) tokens, E encoder tokens, H width, D encoder width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from acestep.models.blocks import MLP, Attend, Attention, RMSNorm, Rope, full, rope_table, sliding
from acestep.models.configs import DiTConfig

SINUSOID_SIZE = 256


class TimeEmbedding(nn.Module):
    """Embeds times `[N]` in [0, 1]: `(temb [N, H], modulation [N, 6, H])`."""

    def __init__(self, hidden: int):
        super().__init__()
        self.linear_1 = nn.Linear(SINUSOID_SIZE, hidden)
        self.linear_2 = nn.Linear(hidden, hidden)
        self.time_proj = nn.Linear(hidden, 6 * hidden)

    def forward(self, t: Tensor) -> tuple[Tensor, Tensor]:
        half = SINUSOID_SIZE // 2
        wide = torch.promote_types(t.dtype, torch.float32)
        frequency = torch.exp(-math.log(10_000) / half * torch.arange(half, device=t.device, dtype=wide))
        angle = (t * 1000)[:, None] * frequency  # t·1000 rounds in t's dtype, as it did in training
        sinusoid = torch.cat((angle.cos(), angle.sin()), dim=-1).to(t.dtype)
        temb = self.linear_2(F.silu(self.linear_1(sinusoid)))
        return temb, self.time_proj(F.silu(temb)).unflatten(-1, (6, -1))


class DiTLayer(nn.Module):
    """Modulated self-attention, plain cross-attention, modulated MLP."""

    def __init__(self, config: DiTConfig):
        super().__init__()
        self.self_attn_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config)
        self.cross_attn_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.cross_attn = Attention(config)
        self.mlp_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = MLP(config.hidden_size, config.intermediate_size)
        self.scale_shift_table = nn.Parameter(torch.zeros(1, 6, config.hidden_size))

    def forward(
        self, x: Tensor, modulation: Tensor, rope: Rope, attend: Attend, cross: tuple[Tensor, Tensor]
    ) -> Tensor:
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = modulation
        x = x + gate_1 * self.self_attn(self.self_attn_norm(x) * scale_1 + shift_1, rope, attend)
        query = self.cross_attn.query(self.cross_attn_norm(x))
        x = x + self.cross_attn.output(full(query, *cross))
        return x + gate_2 * self.mlp(self.mlp_norm(x) * scale_2 + shift_2)


@dataclass(frozen=True)
class Modulation:
    """Per-step constants of a schedule of N times; scales already hold their 1."""

    layers: Tensor  # [N, L, 6, H]: shift, 1 + scale, gate of attention, then of the MLP
    out: Tensor  # [N, 2, H]: shift, 1 + scale before the output projection


@dataclass(frozen=True)
class Conditions:
    """Per-generation constants."""

    frames: int
    context: Tensor  # [B, S, H]: patchified source latents and mask, with the patchify bias
    patch: Tensor  # [H, 2·64]: the half of the patchify weight that meets x
    cross: list[tuple[Tensor, Tensor]]  # per layer K and V [B, m, E, d]
    rope: Rope
    sliding: Attend


class DiT(nn.Module):
    """Weights as published under `decoder.` in the checkpoint file."""

    def __init__(self, config: DiTConfig):
        super().__init__()
        self.config = config
        hidden = config.hidden_size
        # The published names put each convolution at position 1 of a sequence of three.
        self.proj_in = nn.ModuleDict(
            {"1": nn.Conv1d(config.in_channels, hidden, config.patch_size, config.patch_size)}
        )
        self.proj_out = nn.ModuleDict(
            {
                "1": nn.ConvTranspose1d(
                    hidden, config.audio_acoustic_hidden_dim, config.patch_size, config.patch_size
                )
            }
        )
        self.time_embed = TimeEmbedding(hidden)
        self.time_embed_r = TimeEmbedding(hidden)
        self.condition_embedder = nn.Linear(config.encoder.hidden_size, hidden)
        self.layers = nn.ModuleList(DiTLayer(config) for _ in range(config.num_hidden_layers))
        self.norm_out = RMSNorm(hidden, config.rms_norm_eps)
        self.scale_shift_table = nn.Parameter(torch.zeros(1, 2, hidden))

    @property
    def _blocks(self) -> list[DiTLayer]:
        return cast(list[DiTLayer], list(self.layers))

    def modulate(self, times: Tensor) -> Modulation:
        """Shift, scale and gate of every layer at each of `times [N]` (model dtype).

        The second embedding sees t - r, which is 0 at inference.
        """
        temb, projection = self.time_embed(times)
        temb_r, projection_r = self.time_embed_r(torch.zeros_like(times[:1]))
        temb, projection = temb + temb_r, projection + projection_r
        tables = torch.stack([layer.scale_shift_table for layer in self._blocks], dim=1)  # [1, L, 6, H]
        layers = tables + projection[:, None]
        layers[:, :, [1, 4]] += 1
        out = self.scale_shift_table + temb[:, None]
        out[:, 1] += 1
        return Modulation(layers, out)

    def condition(self, context: Tensor, encoded: Tensor) -> Conditions:
        """Everything a generation's steps share.

        `context [B, T, 128]`: source latents and chunk mask. `encoded [1 or B, E, D]`: packed
        condition tokens; one row serves a whole batch of equal prompts.
        """
        batch, frames, channels = context.shape
        conv = cast(nn.Conv1d, self.proj_in["1"])
        weight = conv.weight.transpose(1, 2)  # [H, 2, 192], context channels first
        patches = _patches(context)
        tokens = patches.shape[1]
        device, dtype = context.device, context.dtype
        encoded = self.condition_embedder(encoded)
        cross = [layer.cross_attn.key_value(encoded) for layer in self._blocks]
        return Conditions(
            frames=frames,
            context=F.linear(patches, weight[..., :channels].flatten(1), conv.bias),
            patch=weight[..., channels:].flatten(1),
            cross=[(k.expand(batch, -1, -1, -1), v.expand(batch, -1, -1, -1)) for k, v in cross],
            rope=rope_table(torch.arange(tokens, device=device), self.config, dtype),
            sliding=sliding(batch, tokens, self.config.sliding_window, dtype, device),
        )

    def velocity(self, x: Tensor, conditions: Conditions, modulation: Modulation, step: int) -> Tensor:
        """Velocity `[B, T, 64]` of latents `x [B, T, 64]` at the step's time."""
        hidden = conditions.context + F.linear(_patches(x), conditions.patch)
        for layer, kind, table, cross in zip(
            self._blocks, self.config.layer_types, modulation.layers[step], conditions.cross, strict=True
        ):
            attend = conditions.sliding if kind == "sliding_attention" else full
            hidden = layer(hidden, table, conditions.rope, attend, cross)
        shift, scale = modulation.out[step]
        hidden = self.norm_out(hidden) * scale + shift
        conv = cast(nn.ConvTranspose1d, self.proj_out["1"])
        frames = torch.einsum("bsh,hcp->bspc", hidden, conv.weight) + cast(Tensor, conv.bias)
        return frames.flatten(1, 2)[:, : conditions.frames]


def _patches(x: Tensor) -> Tensor:
    """Pairs of frames as tokens: `[B, T, C] -> [B, ceil(T/2), 2·C]`; an odd end gets a zero frame."""
    if x.shape[1] % 2:
        x = F.pad(x, (0, 0, 0, 1))
    return x.unflatten(1, (-1, 2)).flatten(2)
