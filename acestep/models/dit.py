"""The diffusion transformer: 25 Hz latents in, their velocity out.

One call denoises nothing by itself; it predicts v = noise - data for latents at time t. What depends
only on the schedule or only on the conditions is computed outside the step loop:

    modulate(t)      once per schedule     every layer's shift, scale and gate for every step
    condition(...)   once per generation   cross-attention K/V, RoPE, the band, the context half of
                                           patchify (two thirds of its input never change)
    velocity(...)    once per step         what is left: 4·A·H + MLP per token and layer
    velocities(...)  once per guided step  the same, and beside it the velocity under no conditions

Without conditions every encoder token is the same learned vector. A softmax over equal keys averages equal
values, so cross-attention answers every query alike: with one vector per layer, known beforehand.

Shapes: B batch, T latent frames, S = ceil(T/2) tokens, E encoder tokens, H width, D encoder width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from acestep.models.configs import SINUSOID_SIZE, DiTConfig
from harness.nn.attend import Attend, full, sliding
from harness.nn.blocks import MLP, Attention, RMSNorm, Rope, add_scaled, rope_table


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


class Cross(NamedTuple):
    """What a layer's cross-attention meets: keys and values, and its answer where there are no conditions."""

    k: Tensor  # [B, m, E, d]
    v: Tensor  # [B, m, E, d]
    null: Tensor | None  # [1, 1, H]


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

    def forward(self, x: Tensor, modulation: Tensor, rope: Rope, attend: Attend, cross: Cross) -> Tensor:
        """`x [B, S, H]`, or `[2·B, S, H]`: the rows with conditions, then those without."""
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = modulation
        attended = self.self_attn(add_scaled(shift_1, self.self_attn_norm(x), scale_1), rope, attend)
        x = add_scaled(x, attended, gate_1)
        rows = len(cross.k)
        query = self.cross_attn.query(self.cross_attn_norm(x[:rows]))
        x[:rows].add_(self.cross_attn.output(full(query, cross.k, cross.v)))
        if cross.null is not None:
            x[rows:].add_(cross.null)
        return add_scaled(x, self.mlp(add_scaled(shift_2, self.mlp_norm(x), scale_2)), gate_2)

    def cross(self, encoded: Tensor, null: Tensor | None, batch: int) -> Cross:
        """Cross-attention of a `batch` to `encoded [1 or B, E, H]`, and to any number of `null [1, 1, H]`."""
        k, v = (heads.expand(batch, -1, -1, -1) for heads in self.cross_attn.key_value(encoded))
        if null is None:
            return Cross(k, v, None)
        _, value = self.cross_attn.key_value(null)  # [1, m, 1, d]
        shared = self.cross_attn.q_proj.out_features // self.cross_attn.v_proj.out_features
        return Cross(k, v, self.cross_attn.output(value.repeat_interleave(shared, dim=1)))


@dataclass(frozen=True)
class Modulation:
    """Per-step constants of a schedule of N times; scales already hold their 1."""

    layers: Tensor  # [N, L, 6, H]: shift, 1 + scale, gate of attention, then of the MLP
    out: Tensor  # [N, 2, H]: shift, 1 + scale before the output projection

    def at(self, step: int) -> Modulation:
        """That of one time: views `[1, L, 6, H]` and `[1, 2, H]`."""
        return Modulation(self.layers[step : step + 1], self.out[step : step + 1])


@dataclass(frozen=True)
class Conditions:
    """Per-generation constants."""

    frames: int
    context: Tensor  # [B, S, H]: patchified source latents and mask, with the patchify bias
    patch: Tensor  # [H, 2·64]: the half of the patchify weight that meets x
    cross: list[Cross]  # per layer
    rope: Rope
    sliding: Attend


class DiT(nn.Module):
    """Weights as published under `decoder.` in the checkpoint file."""

    def __init__(self, config: DiTConfig):
        super().__init__()
        self.config = config
        hidden = config.hidden_size
        # In the order of the published file, which decides what its shards hold.
        self.layers = nn.ModuleList(DiTLayer(config) for _ in range(config.num_hidden_layers))
        # The published names put each convolution at position 1 of a sequence of three.
        self.proj_in = nn.ModuleDict(
            {"1": nn.Conv1d(config.in_channels, hidden, config.patch_size, config.patch_size)}
        )
        self.time_embed = TimeEmbedding(hidden)
        self.time_embed_r = TimeEmbedding(hidden)
        self.condition_embedder = nn.Linear(config.encoder.hidden_size, hidden)
        self.norm_out = RMSNorm(hidden, config.rms_norm_eps)
        self.proj_out = nn.ModuleDict(
            {
                "1": nn.ConvTranspose1d(
                    hidden, config.audio_acoustic_hidden_dim, config.patch_size, config.patch_size
                )
            }
        )
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

    def condition(self, context: Tensor, encoded: Tensor, null: Tensor | None = None) -> Conditions:
        """Everything a generation's steps share.

        `context [B, T, 128]`: source latents and chunk mask. `encoded [1 or B, E, D]`: packed
        condition tokens; one row serves a whole batch of equal prompts. `null [1, 1, D]`: the token that
        stands for no conditions; guided steps need it.
        """
        batch, frames, channels = context.shape
        conv = cast(nn.Conv1d, self.proj_in["1"])
        weight = conv.weight.transpose(1, 2)  # [H, 2, 192], context channels first
        patches = _patches(context)
        tokens = patches.shape[1]
        device, dtype = context.device, context.dtype
        encoded = self.condition_embedder(encoded)
        rows = batch
        if null is not None:
            null, rows = self.condition_embedder(null), 2 * batch
        return Conditions(
            frames=frames,
            context=F.linear(patches, weight[..., :channels].flatten(1), conv.bias),
            patch=weight[..., channels:].flatten(1),
            cross=[layer.cross(encoded, null, batch) for layer in self._blocks],
            rope=rope_table(torch.arange(tokens, device=device), self.config, dtype),
            sliding=sliding(rows, tokens, self.config.sliding_window, dtype, device),
        )

    def velocity(self, x: Tensor, conditions: Conditions, modulation: Modulation, step: int) -> Tensor:
        """Velocity `[B, T, 64]` of latents `x [B, T, 64]` at the step's time."""
        return self._velocity(self._tokens(x, conditions), conditions, modulation, step)

    def velocities(
        self, x: Tensor, conditions: Conditions, modulation: Modulation, step: int
    ) -> tuple[Tensor, Tensor]:
        """Velocities `[B, T, 64]` of latents `x [B, T, 64]` under the conditions and under none.

        One pass over 2·B rows, so each weight is read once. `conditions` must hold their null branch.
        """
        cond, null = self.both(x, conditions, modulation, step).chunk(2)
        return cond, null

    def both(self, x: Tensor, conditions: Conditions, modulation: Modulation, step: int) -> Tensor:
        """`velocities` as one tensor `[2·B, T, 64]`."""
        assert conditions.cross[0].null is not None, "these conditions were made without their null branch"
        hidden = self._tokens(x, conditions).repeat(2, 1, 1)
        return self._velocity(hidden, conditions, modulation, step)

    def _tokens(self, x: Tensor, conditions: Conditions) -> Tensor:
        return conditions.context + F.linear(_patches(x), conditions.patch)

    def _velocity(self, hidden: Tensor, conditions: Conditions, modulation: Modulation, step: int) -> Tensor:
        for layer, kind, table, cross in zip(
            self._blocks, self.config.layer_types, modulation.layers[step], conditions.cross, strict=True
        ):
            attend = conditions.sliding if kind == "sliding_attention" else full
            hidden = layer(hidden, table, conditions.rope, attend, cross)
        shift, scale = modulation.out[step]
        hidden = add_scaled(shift, self.norm_out(hidden), scale)
        conv = cast(nn.ConvTranspose1d, self.proj_out["1"])
        frames = torch.einsum("bsh,hcp->bspc", hidden, conv.weight) + cast(Tensor, conv.bias)
        return frames.flatten(1, 2)[:, : conditions.frames]


def _patches(x: Tensor) -> Tensor:
    """Pairs of frames as tokens: `[B, T, C] -> [B, ceil(T/2), 2·C]`; an odd end gets a zero frame."""
    if x.shape[1] % 2:
        x = F.pad(x, (0, 0, 0, 1))
    return x.unflatten(1, (-1, 2)).flatten(2)
