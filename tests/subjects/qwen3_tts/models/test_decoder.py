"""Decoder12Hz against its formulas, place by place; the published names; what it costs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import qwen3_tts_reference as reference
import torch
from msgspec.structs import replace
from tiny_decoder12hz import LAST, PUBLISHED, TINY, random_codes, random_tensors, tiny_decoder, tiny_tensors
from torch import Tensor

from harness.checkpoint import on_meta
from harness.nn.folded import fold, stored_shapes
from harness.parity import compare
from subjects.qwen3_tts.config import DecoderConfig
from subjects.qwen3_tts.models import decoder as networks
from subjects.qwen3_tts.models.causal import CausalConv, Upsampling
from subjects.qwen3_tts.models.decoder import Codebooks, Decoder, Start, context_error

LIMIT = 1e-12  # of the relative RMS, in fp64
FRAMES = 11
UNIT = "decoder.2.block.3"


def expected(codes: Tensor, tensors: dict[str, Tensor], config: DecoderConfig = TINY) -> Tensor:
    """The waveform `[n]` of `codes [16, T]`."""
    samples = reference.decoded(
        {name: tensor.numpy() for name, tensor in tensors.items()},
        codes.numpy(),
        ratios=config.upsampling_ratios,
        rates=config.upsample_rates,
        layers=config.num_hidden_layers,
        heads=config.num_attention_heads,
        theta=config.rope_theta,
        window=config.sliding_window,
        eps=config.rms_norm_eps,
    )
    return torch.from_numpy(samples)


@dataclass
class Case:
    """What a control damages: a decoder's tensors, its configuration, its code, or the codes."""

    patch: pytest.MonkeyPatch
    tensors: dict[str, Tensor] = field(default_factory=tiny_tensors)
    config: DecoderConfig = TINY
    codes: Tensor = field(default_factory=lambda: random_codes(FRAMES))

    def error(self) -> float:
        truth = expected(random_codes(FRAMES)[0], tiny_tensors())
        return compare(truth, tiny_decoder(self.tensors, self.config)(self.codes)[0]).relative_rms

    def scale(self, name: str, by: float = 0.0) -> None:
        self.tensors[name] = self.tensors[name] * by

    def window(self, frames: int) -> None:
        self.config = replace(self.config, sliding_window=frames)

    def cut_the_first_samples(self) -> None:
        joined = Start.joined

        def late(start: Start, layer: CausalConv, x: Tensor) -> Tensor:
            x = joined(start, layer, x)
            return x.roll(-layer.reach, -1) if isinstance(layer, Upsampling) else x

        self.patch.setattr(Start, "joined", late)

    def swap(self, first: str, second: str) -> None:
        self.tensors[first], self.tensors[second] = self.tensors[second], self.tensors[first]


CONTROLS: dict[str, Callable[[Case], object]] = {
    "a bias dropped": lambda case: case.scale(f"{UNIT}.conv1.conv.bias"),
    "the last bias dropped": lambda case: case.scale(f"{LAST}.bias"),
    "a window one short": lambda case: case.window(TINY.sliding_window - 1),
    "a window one long": lambda case: case.window(TINY.sliding_window + 1),
    "the first samples cut": Case.cut_the_first_samples,
    "codebooks shifted": lambda case: setattr(case, "codes", case.codes.roll(1, 1)),
    "projections swapped": lambda case: case.swap(
        *(f"quantizer.rvq_{part}.output_proj.weight" for part in ("first", "rest"))
    ),
    "usage of none as it is": lambda case: case.patch.setattr(networks, "LEAST_USAGE", 1e-4),
    "alpha and beta swapped": lambda case: case.swap(f"{UNIT}.act1.alpha", f"{UNIT}.act1.beta"),
    "dilations in another order": lambda case: case.patch.setattr(networks, "DILATIONS", (1, 9, 3)),
    "another theta": lambda case: setattr(case, "config", replace(case.config, rope_theta=1e6)),
    "a layer scale": lambda case: case.scale("pre_transformer.layers.1.mlp_layer_scale.scale", 0.99),
    "a gamma": lambda case: case.scale("upsample.0.1.gamma", 0.99),
}


def test_waveforms_are_those_of_the_formulas(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(monkeypatch)
    assert case.error() < LIMIT
    clipped = tiny_decoder(case.tensors)(case.codes).abs() == 1
    assert 0 < clipped.sum() < 0.1 * clipped.numel()


@pytest.mark.parametrize("control", CONTROLS)
def test_damage_is_noticed(control: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(monkeypatch)
    CONTROLS[control](case)
    assert case.error() > 1e-5


@pytest.mark.parametrize("way", ["product", "convolution"])
def test_either_way_of_a_convolution_on_a_cpu_is_the_same(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    product, layers = CausalConv._product, []
    monkeypatch.setattr(
        CausalConv,
        "_product",
        lambda layer, x: layers.append(layer) or (product(layer, x) if way == "product" else layer.conv(x)),
    )
    decoder, codes = tiny_decoder(), random_codes(2)
    assert compare(expected(codes[0], tiny_tensors()), decoder(codes)[0]).relative_rms < LIMIT
    assert decoder.pre_conv in layers and decoder.decoder[-1] not in layers


def test_a_row_is_what_it_is_alone() -> None:
    decoder, codes = tiny_decoder(), random_codes(FRAMES, batch=3)
    samples = decoder(codes)
    assert samples.shape == (3, TINY.hop * FRAMES)
    for row, alone in zip(samples, codes, strict=True):
        assert compare(decoder(alone[None])[0], row).relative_rms < LIMIT


def test_names_and_shapes_are_the_published_ones() -> None:
    shapes = stored_shapes(on_meta(lambda: Decoder(PUBLISHED)))
    assert len(shapes) == 271 and sum(map(math.prod, shapes.values())) == 114_323_137
    named = {
        "quantizer.rvq_first.input_proj.weight": (256, 512, 1),
        "quantizer.rvq_first.vq.layers.0._codebook.cluster_usage": (2048,),
        "quantizer.rvq_rest.vq.layers.14._codebook.embedding_sum": (2048, 256),
        "quantizer.rvq_rest.output_proj.weight": (512, 256, 1),
        "pre_conv.conv.weight": (1024, 512, 3),
        "pre_transformer.input_proj.bias": (512,),
        "pre_transformer.layers.7.self_attn.o_proj.weight": (512, 1024),
        "pre_transformer.layers.7.mlp_layer_scale.scale": (512,),
        "upsample.1.0.conv.weight": (1024, 1024, 2),
        "upsample.1.0.conv.bias": (1024,),
        "upsample.1.1.dwconv.conv.weight": (1024, 1, 7),
        "upsample.1.1.pwconv2.weight": (1024, 4096),
        "upsample.1.1.gamma": (1024,),
        "decoder.0.conv.weight": (1536, 1024, 7),
        "decoder.1.block.0.alpha": (1536,),
        "decoder.1.block.1.conv.weight": (1536, 768, 16),
        "decoder.1.block.1.conv.bias": (768,),
        "decoder.4.block.4.act2.beta": (96,),
        "decoder.4.block.4.conv2.conv.weight": (96, 96, 1),
        "decoder.5.alpha": (96,),
        "decoder.6.conv.weight": (1, 96, 7),
    }
    assert {name: shapes[name] for name in named} == named


def test_codebooks_projected_ahead_round_as_those_projected_after() -> None:
    """Sums of 15 projected rows in fp32, and the projection of 15 rows' sum, beside the latter in fp64."""
    config = replace(TINY, num_quantizers=16, codebook_dim=512, codebook_size=64)
    books = Codebooks(config)
    tensors = random_tensors(books)
    tensors |= {name: t + 0.1 for name, t in tensors.items() if name.endswith("usage")}
    codes = random_codes(50, config=config)

    def rows(dtype: torch.dtype) -> Tensor:
        w = {name: tensor.to(dtype).numpy() for name, tensor in tensors.items()}
        return torch.from_numpy(
            reference.codes_to_rows({f"quantizer.{n}": x for n, x in w.items()}, codes[0].numpy())
        )

    def read(name: str) -> Tensor:
        return tensors[name].float()

    books.table = torch.nn.Parameter(fold(books, "table", read), requires_grad=False)
    truth = rows(torch.float64)
    ahead, after = compare(truth, books(codes)[0].T), compare(truth, rows(torch.float32))
    assert ahead.relative_rms < 1.2 * after.relative_rms < 1e-6


def test_chunks_of_the_published_way_are_off_by_what_their_context_lacks() -> None:
    decoder, codes = tiny_decoder(), random_codes(24)
    assert context_error(decoder, codes) < LIMIT  # one chunk
    errors = [context_error(decoder, codes, chunk=4, context=context) for context in (0, 2, 8, 24)]
    assert errors[0] > errors[1] > errors[2] > 1e-9 > errors[3]
    assert decoder.chunked(codes, chunk=5, context=1).shape == (1, 24 * TINY.hop)
