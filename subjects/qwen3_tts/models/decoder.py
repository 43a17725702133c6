"""Decoder12Hz: 16 codes a frame to a waveform of 24 kHz, 1,920 samples a frame. Causal throughout.

    codes ─▶ sums of codebook rows ─▶ convolution ─▶ transformer ─▶ 2 x (upsample by 2, ConvNeXt)
          ─▶ convolution ─▶ 4 x (Snake, upsample by 8, 5, 4, 3; 3 residual units) ─▶ Snake, convolution ─▶ ±1

Decoding costs 4.96 GFLOP a frame, 62 GFLOP per second of audio: all but 2 % of it convolutions.

A layer that looks back asks a `Past` (`causal`) for what was there before its input. At the start of an
utterance that is nothing; in a stream (`decoder_state`) it is what the last step kept. All else is the same
computation.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import repeat

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.nn.attend import Attend, sliding
from harness.nn.blocks import MLP, RMSNorm, Rope, add_scaled, rope_table, rotate
from harness.nn.folded import Folded, Read, wide
from harness.nn.packed import Packed
from harness.nn.snake import LOGS, Snake, unlogged
from harness.parity import compare
from harness.tensor_files import Shape
from subjects.qwen3_tts.config import DecoderConfig
from subjects.qwen3_tts.models.causal import CausalConv, Past, Upsampling

DILATIONS = (1, 3, 9)
LEAST_USAGE = 1e-5  # of a codebook's entry, by which its sum is divided
CHUNK, CONTEXT = 300, 25  # frames that the published package decodes at once, and repeats before them


class Start:
    """The past of an utterance's first frame: zeros before a convolution, and no keys."""

    def __init__(self, config: DecoderConfig):
        self._config = config

    def joined(self, layer: CausalConv, x: Tensor) -> Tensor:
        return F.pad(x, (layer.reach, 0))

    def attention(self, x: Tensor) -> tuple[Rope, Iterable[Attend]]:
        batch, frames, _ = x.shape
        rope = rope_table(torch.arange(frames, device=x.device), self._config, x.dtype)
        before = self._config.sliding_window - 1
        return rope, repeat(sliding(batch, frames, before, x.dtype, x.device, ahead=False))


class SnakeBeta(Snake, Folded):
    """Snake, whose parameters are stored as logarithms `[C]`."""

    def stored(self) -> dict[str, Shape]:
        return {log: (self.gain.numel(),) for log in LOGS.values()}

    def folded(self, name: str, read: Read) -> Tensor:
        return unlogged(name, read(LOGS[name]))


class Codebooks(Folded):
    """Residual vector quantizer, backwards: a frame is the sum of a row of each codebook.

    Stored are two quantizers, of the first code and of the others: of each entry the sum of the vectors that
    chose it and how many those were, and a projection. `table [16·size, D]` has the projected means, one book
    below the other.
    """

    def __init__(self, config: DecoderConfig):
        super().__init__()
        self.books, self.size = config.num_quantizers, config.codebook_size
        self.table = nn.Parameter(torch.empty(self.books * self.size, config.codebook_dim))

    def forward(self, codes: Tensor) -> Tensor:
        """Frames `[B, T, D]` of `codes [B, 16, T]`, each below the books' size, which is not checked."""
        books = torch.arange(0, len(self.table), self.size, device=codes.device)
        return F.embedding(codes.transpose(1, 2) + books, self.table).sum(2)

    def stored(self) -> dict[str, Shape]:
        width = self.table.shape[1]
        narrow = width // 2
        shapes: dict[str, Shape] = {}
        for part in ("rvq_first", "rvq_rest"):
            shapes[f"{part}.input_proj.weight"] = narrow, width, 1  # of the encoder
            shapes[f"{part}.output_proj.weight"] = width, narrow, 1
        for _, book in self._places():
            shapes[f"{book}.embedding_sum"] = self.size, narrow
            shapes[f"{book}.cluster_usage"] = (self.size,)
        return shapes

    def folded(self, name: str, read: Read) -> Tensor:
        rows = []
        for part, book in self._places():
            sums, usage = wide(read(f"{book}.embedding_sum")), wide(read(f"{book}.cluster_usage"))
            means = sums / usage.clamp(min=LEAST_USAGE)[:, None]
            rows.append(F.linear(means, wide(read(f"{part}.output_proj.weight"))[..., 0]))
        return torch.cat(rows)

    def _places(self) -> list[tuple[str, str]]:
        """The names of each book's quantizer and of the book."""
        places = [("rvq_first", 0), *(("rvq_rest", index) for index in range(self.books - 1))]
        return [(part, f"{part}.vq.layers.{index}._codebook") for part, index in places]


class Attention(Packed):
    """Grouped-query attention of plain heads."""

    joined = ("q_proj", "k_proj", "v_proj")

    def __init__(self, config: DecoderConfig):
        super().__init__()
        self.heads = config.num_attention_heads, config.num_key_value_heads
        width, kv_width = (heads * config.head_dim for heads in self.heads)
        self.q_proj = nn.Linear(config.hidden_size, width, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, kv_width, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, kv_width, bias=False)
        self.o_proj = nn.Linear(width, config.hidden_size, bias=False)

    def forward(self, x: Tensor, rope: Rope, attend: Attend) -> Tensor:
        n, m = self.heads
        heads = self.product(x).unflatten(-1, (n + 2 * m, -1)).transpose(1, 2)
        q, k = rotate(heads[:, : n + m], rope).split(self.heads, dim=1)
        return self.o_proj(attend(q, k, heads[:, n + m :]).transpose(1, 2).flatten(2))


class LayerScale(nn.Module):
    """What a layer adds to the residual stream, scaled per channel."""

    def __init__(self, size: int):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(size))

    def forward(self, stream: Tensor, x: Tensor) -> Tensor:
        return add_scaled(stream, x, self.scale)


class Layer(nn.Module):
    """Pre-norm attention and SwiGLU, each scaled and added to the residual stream `[B, T, H]`."""

    def __init__(self, config: DecoderConfig):
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config)
        self.self_attn_layer_scale = LayerScale(config.hidden_size)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = MLP(config.hidden_size, config.intermediate_size)
        self.mlp_layer_scale = LayerScale(config.hidden_size)

    def forward(self, x: Tensor, rope: Rope, attend: Attend) -> Tensor:
        x = self.self_attn_layer_scale(x, self.self_attn(self.input_layernorm(x), rope, attend))
        return self.mlp_layer_scale(x, self.mlp(self.post_attention_layernorm(x)))


class Transformer(nn.Module):
    """A causal stack in which a frame sees `sliding_window` frames with itself: `[B, T, C] -> [B, T, C]`."""

    def __init__(self, config: DecoderConfig):
        super().__init__()
        self.input_proj = nn.Linear(config.latent_dim, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.output_proj = nn.Linear(config.hidden_size, config.latent_dim)

    def forward(self, x: Tensor, past: Past) -> Tensor:
        x = self.input_proj(x)
        rope, attends = past.attention(x)
        for layer, attend in zip(self.layers, attends, strict=False):
            x = layer(x, rope, attend)
        return self.output_proj(self.norm(x))


class ConvNeXt(nn.Module):
    """Residual block `[B, C, n]` of a convolution in each channel and a wide MLP at each place."""

    def __init__(self, channels: int):
        super().__init__()
        self.dwconv = CausalConv(channels, channels, 7, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.pwconv1 = nn.Linear(channels, 4 * channels)
        self.pwconv2 = nn.Linear(4 * channels, channels)
        self.gamma = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor, past: Past) -> Tensor:
        places = self.norm(self.dwconv(x, past).transpose(1, 2))
        places = self.pwconv2(F.gelu(self.pwconv1(places)))
        return add_scaled(x.transpose(1, 2), places, self.gamma).transpose(1, 2)


class ResidualUnit(nn.Module):
    """`x + conv(snake(dilated conv(snake(x))))`."""

    def __init__(self, channels: int, dilation: int):
        super().__init__()
        self.act1 = SnakeBeta(channels)
        self.conv1 = CausalConv(channels, channels, 7, dilation)
        self.act2 = SnakeBeta(channels)
        self.conv2 = CausalConv(channels, channels, 1)

    def forward(self, x: Tensor, past: Past) -> Tensor:
        return self.conv2(self.act2(self.conv1(self.act1(x), past)), past).add_(x)


class DecoderBlock(nn.Module):
    """Upsample by `stride`, then refine: `[B, C, n] -> [B, C', n·stride]`."""

    def __init__(self, channels: int, out: int, stride: int):
        super().__init__()
        units = (ResidualUnit(out, dilation) for dilation in DILATIONS)
        self.block = nn.ModuleList([SnakeBeta(channels), Upsampling(channels, out, stride, 2), *units])

    def forward(self, x: Tensor, past: Past) -> Tensor:
        snake, *layers = self.block
        x = snake(x)
        for layer in layers:
            x = layer(x, past)
        return x


class Decoder(nn.Module):
    """Weights as published below `decoder.`, folded (`harness.nn.folded`)."""

    def __init__(self, config: DecoderConfig):
        super().__init__()
        self.config = config
        latent, stages = config.latent_dim, range(len(config.upsample_rates))
        self.quantizer = Codebooks(config)
        self.pre_conv = CausalConv(config.codebook_dim, latent, 3)
        self.pre_transformer = Transformer(config)
        self.upsample = nn.ModuleList(
            nn.ModuleList([Upsampling(latent, latent, ratio, 1), ConvNeXt(latent)])
            for ratio in config.upsampling_ratios
        )
        widths = [config.decoder_dim // 2**stage for stage in (*stages, len(stages))]
        blocks = map(DecoderBlock, widths, widths[1:], config.upsample_rates)
        self.decoder = nn.ModuleList([CausalConv(latent, widths[0], 7), *blocks])
        self.decoder.extend([SnakeBeta(widths[-1]), CausalConv(widths[-1], 1, 7)])

    def forward(self, codes: Tensor, past: Past | None = None) -> Tensor:
        """Waveforms `[B, 1920·T]` within ±1 of `codes [B, 16, T]`, int64, behind `past` or from the start."""
        past = past or Start(self.config)
        x = self.pre_conv(self.quantizer(codes).transpose(1, 2), past)
        x = self.pre_transformer(x.transpose(1, 2), past).transpose(1, 2)
        for stage in self.upsample:
            for layer in stage.children():
                x = layer(x, past)
        *layers, snake, last = self.decoder
        for layer in layers:
            x = layer(x, past)
        return last(snake(x), past)[:, 0].clamp_(-1, 1)

    def chunked(self, codes: Tensor, chunk: int = CHUNK, context: int = CONTEXT) -> Tensor:
        """The same from independent chunks, as the published package does: exact up to one chunk only.

        Each is decoded behind `context` frames of the chunk before, whose samples are cut off. It would see
        580, and what those change is missing (`context_error`).
        """
        pieces = []
        for start in range(0, codes.shape[-1], chunk):
            before = min(context, start)
            pieces.append(self(codes[..., start - before : start + chunk])[:, before * self.config.hop :])
        return torch.cat(pieces, dim=-1)


def context_error(decoder: Decoder, codes: Tensor, chunk: int = CHUNK, context: int = CONTEXT) -> float:
    """The relative RMS by which `Decoder.chunked` is off, of one pass over `codes [B, 16, T]`."""
    return compare(decoder(codes), decoder.chunked(codes, chunk, context)).relative_rms
