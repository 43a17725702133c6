"""Configurations as files hold them: HuBERT's `config.json`, the list `config` of a voice, RMVPE's tensors.

A file may come from anybody, so every field has a range. No torch import here.
"""

from __future__ import annotations

from itertools import accumulate
from math import prod
from operator import mul
from typing import Annotated, Literal

from msgspec import Meta
from msgspec.structs import asdict

from harness.nn.config import Heads, Layers, Schema, Width
from subjects.rvc.config import (
    FRAME_RATE,
    HUBERT_FIELD,
    HUBERT_HOP,
    HubertConfig,
    RMVPEConfig,
    SynthesizerConfig,
)

Kernel = Annotated[int, Meta(ge=1, le=255)]


class RMVPESizes(Schema, frozen=True, kw_only=True):
    """`RMVPEConfig` as far as names and shapes of tensors say it."""

    channels: Width
    levels: Annotated[int, Meta(ge=1, le=7)]  # each halves the 128 bands
    blocks: Layers
    intermediate: Layers
    out_channels: Width
    gru: Width

    def config(self) -> RMVPEConfig:
        """The dimensions of the network."""
        return RMVPEConfig(**asdict(self))


class HubertFile(Schema, frozen=True, kw_only=True):
    """As much of HuBERT's `config.json` as shapes it."""

    MODEL_TYPE = "hubert"

    hidden_size: Width
    intermediate_size: Width
    num_hidden_layers: Layers
    num_attention_heads: Heads
    conv_dim: Annotated[list[Width], Meta(min_length=1, max_length=16)]
    conv_kernel: Annotated[list[Kernel], Meta(min_length=1, max_length=16)]
    conv_stride: Annotated[list[Kernel], Meta(min_length=1, max_length=16)]
    num_conv_pos_embeddings: Annotated[int, Meta(ge=2, le=1024)] = 128
    num_conv_pos_embedding_groups: Heads = 16
    layer_norm_eps: Annotated[float, Meta(ge=1e-12, le=0.01)] = 1e-5
    hidden_act: Literal["gelu"] = "gelu"
    feat_extract_norm: Literal["group"] = "group"
    conv_bias: bool = False
    do_stable_layer_norm: bool = False

    def contradiction(self) -> str | None:
        if self.hidden_size % self.num_attention_heads:
            return f"num_attention_heads: {self.num_attention_heads} does not divide {self.hidden_size}"
        if self.hidden_size % self.num_conv_pos_embedding_groups:
            return f"num_conv_pos_embedding_groups: does not divide {self.hidden_size}"
        if not len(self.conv_dim) == len(self.conv_kernel) == len(self.conv_stride):
            return "conv_dim, conv_kernel, conv_stride: are not of one length"
        if len(set(self.conv_dim)) > 1:
            return "conv_dim: convolutions of different widths are not supported"
        if prod(self.conv_stride) != HUBERT_HOP:
            return f"conv_stride: a frame is {prod(self.conv_stride)} samples; {HUBERT_HOP} are needed"
        if (seen := self._field) != HUBERT_FIELD:
            return f"conv_kernel: a frame is made of {seen} samples; {HUBERT_FIELD} are needed"
        if self.conv_bias or self.do_stable_layer_norm:
            return "conv_bias, do_stable_layer_norm: true is not allowed; use false, HuBERT base"
        return None

    @property
    def _field(self) -> int:
        """Samples that a frame is made of: 1 + Σ (k - 1)·(the strides before)."""
        before = accumulate(self.conv_stride, mul, initial=1)
        return 1 + sum((kernel - 1) * step for kernel, step in zip(self.conv_kernel, before, strict=False))

    def config(self) -> HubertConfig:
        """The dimensions of the network."""
        return HubertConfig(
            hidden=self.hidden_size,
            intermediate=self.intermediate_size,
            layers=self.num_hidden_layers,
            heads=self.num_attention_heads,
            conv_dim=self.conv_dim[0],
            kernels=tuple(self.conv_kernel),
            strides=tuple(self.conv_stride),
            position_kernel=self.num_conv_pos_embeddings,
            position_groups=self.num_conv_pos_embedding_groups,
            eps=self.layer_norm_eps,
        )


class VoiceFile(Schema, frozen=True, kw_only=True):
    """The list `config` of a voice, by what stands where (`layout.POSITIONS`)."""

    spec_channels: Width
    segment_size: Annotated[int, Meta(ge=1, le=2**20)]
    inter_channels: Annotated[int, Meta(ge=2, le=4096, multiple_of=2)]  # the flow couples its halves
    hidden_channels: Annotated[int, Meta(ge=1, le=4096)]
    filter_channels: Annotated[int, Meta(ge=1, le=16_384)]
    n_heads: Annotated[int, Meta(ge=1, le=64)]
    n_layers: Annotated[int, Meta(ge=1, le=64)]
    kernel_size: Kernel
    p_dropout: Annotated[float, Meta(ge=0, le=1)]
    resblock: Literal["1"]
    resblock_kernel_sizes: Annotated[list[Kernel], Meta(min_length=1, max_length=8)]
    resblock_dilation_sizes: Annotated[
        list[Annotated[list[Kernel], Meta(min_length=1, max_length=8)]], Meta(min_length=1, max_length=8)
    ]
    upsample_rates: Annotated[list[Annotated[int, Meta(ge=1, le=64)]], Meta(min_length=1, max_length=8)]
    upsample_initial_channel: Annotated[int, Meta(ge=1, le=8192)]
    upsample_kernel_sizes: Annotated[list[Kernel], Meta(min_length=1, max_length=8)]
    spk_embed_dim: Annotated[int, Meta(ge=1, le=65_536)]
    gin_channels: Annotated[int, Meta(ge=1, le=4096)]
    sr: Literal[48_000, 40_000, 32_000]

    def contradiction(self) -> str | None:
        if (hop := prod(self.upsample_rates)) * FRAME_RATE != self.sr:
            return f"upsample_rates: make {hop} samples of a frame; {self.sr} Hz has {self.sr // FRAME_RATE}"
        behind = [prod(self.upsample_rates[stage:]) for stage in range(1, len(self.upsample_rates))]
        if any(stride % 2 and stride > 1 for stride in behind):  # at which the source would be a sample short
            return f"upsample_rates: {self.upsample_rates} make odd numbers of samples behind the first"
        kernels = self.upsample_kernel_sizes
        if len(kernels) != len(self.upsample_rates):
            return f"upsample_kernel_sizes: {len(kernels)} for {len(self.upsample_rates)} upsample_rates"
        if any(k < u or (k - u) % 2 for k, u in zip(kernels, self.upsample_rates, strict=True)):
            return f"upsample_kernel_sizes: {kernels} must be as large as upsample_rates, by even numbers"
        if self.hidden_channels % self.n_heads:
            return f"n_heads: {self.n_heads} does not divide hidden_channels, {self.hidden_channels}"
        if self.upsample_initial_channel % 2 ** len(kernels):
            return f"upsample_initial_channel: is not divided by 2 so often as there are {len(kernels)} rates"
        dilations = self.resblock_dilation_sizes
        if len(dilations) != len(self.resblock_kernel_sizes) or any(d != dilations[0] for d in dilations):
            return "resblock_dilation_sizes: must be one list, for each of resblock_kernel_sizes"
        if not all(size % 2 for size in (self.kernel_size, *self.resblock_kernel_sizes)):
            return "kernel_size, resblock_kernel_sizes: must be odd"
        return None

    def config(self, phone: int, speakers: int) -> SynthesizerConfig:
        """The dimensions of the network, of which tensors say `phone` and `speakers`."""
        return SynthesizerConfig(
            sample_rate=self.sr,
            rates=tuple(self.upsample_rates),
            kernels=tuple(self.upsample_kernel_sizes),
            phone=phone,
            inter=self.inter_channels,
            hidden=self.hidden_channels,
            filter=self.filter_channels,
            heads=self.n_heads,
            layers=self.n_layers,
            kernel=self.kernel_size,
            initial=self.upsample_initial_channel,
            resblock_kernels=tuple(self.resblock_kernel_sizes),
            dilations=tuple(self.resblock_dilation_sizes[0]),
            gin=self.gin_channels,
            speakers=speakers,
        )
