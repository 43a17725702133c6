"""The synthesizer against golden values, its published names, and that one row says nothing of another."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import golden_rvc
import pytest
import torch
from golden_rvc import AUDIO, AUDIO_LIMIT, FP32, FP64, LATENT_MEAN, LATENTS
from tiny_decoder12hz import loaded
from tiny_rvc import TINY, Inputs, inputs, tiny_synthesizer
from torch import Tensor, nn

from harness.checkpoint import on_meta
from harness.nn.folded import stored_shapes
from harness.parity import compare
from harness.tensor_files import Shape
from subjects.rvc.config import RATES, SYNTHESIZERS
from subjects.rvc.models import flow, generator, text_encoder
from subjects.rvc.models.synthesizer import Synthesizer

FRAMES, SPEAKER = 16, 3
LIMITS = {torch.float64: FP64, torch.float32: FP32}

golden_tensor = functools.cache(golden_rvc.golden_tensor)  # of three rates most are the same
Patch = pytest.MonkeyPatch


@functools.cache
def golden_synthesizer(rate: str, dtype: torch.dtype) -> Synthesizer:
    network = on_meta(lambda: Synthesizer(SYNTHESIZERS[rate]))
    tensors = {name: golden_tensor(name, shape) for name, shape in stored_shapes(network).items()}
    loaded(network, tensors, dtype)
    return network


def golden_inputs(rate: str, dtype: torch.dtype) -> Inputs:
    return inputs(SYNTHESIZERS[rate], FRAMES, SPEAKER, dtype)


@torch.inference_mode()
def latents(network: Synthesizer, x: Inputs) -> Tensor:
    """`[B, C, T]`."""
    return network.flow(network.latents(x.phone, x.pitch, x.e1), network.voice(x.speaker)).transpose(1, 2)


@torch.inference_mode()
def audio_error(rate: str, dtype: torch.dtype) -> float:
    return AUDIO[rate].error(golden_synthesizer(rate, dtype)(*golden_inputs(rate, dtype)))


@pytest.mark.parametrize("dtype", LIMITS, ids=["fp64", "fp32"])
def test_latents_are_the_golden_ones(dtype: torch.dtype) -> None:
    network, x = golden_synthesizer("32k", dtype), golden_inputs("32k", dtype)
    with torch.inference_mode():
        mean, _ = network.enc_p(x.phone, x.pitch)
    assert LATENT_MEAN.error(mean.transpose(1, 2)) < LIMITS[dtype]
    assert LATENTS.error(latents(network, x)) < LIMITS[dtype]


@pytest.mark.parametrize("rate", RATES)
def test_audio_is_the_golden_one(rate: str) -> None:
    assert audio_error(rate, torch.float32) < AUDIO_LIMIT


@pytest.mark.nightly
@pytest.mark.parametrize("rate", RATES)
def test_audio_in_double_is_the_golden_one(rate: str) -> None:
    assert audio_error(rate, torch.float64) < AUDIO_LIMIT


def zero(patch: Patch, *layers: nn.Module, name: str) -> None:
    for layer in layers:
        patch.setitem(layer._parameters, name, torch.zeros_like(layer.get_parameter(name)))


def leave_v_alone(network: Synthesizer, patch: Patch) -> None:
    name = "dec.ups.1"
    v = golden_tensor(f"{name}.weight_v", stored_shapes(network)[f"{name}.weight_v"])
    patch.setitem(network.get_submodule(name)._parameters, "weight", v.transpose(1, 2).float())


Damage = Callable[[Synthesizer, Patch], None]
DAMAGED_LATENTS: dict[str, Damage] = {
    "a flip left out": lambda network, patch: patch.setattr(flow, "reversed_channels", lambda z: z),
    "a bias dropped": lambda network, patch: zero(patch, network.flow.flows["2"].pre, name="bias"),
    "relative values left out": lambda network, patch: zero(
        patch, network.enc_p.encoder.attn_layers[5], name="emb_rel_v"
    ),
    "another slope": lambda network, patch: patch.setattr(text_encoder, "SLOPE", 0.01),
}
DAMAGED_AUDIO: dict[str, Damage] = {
    "a bias dropped": lambda network, patch: zero(patch, network.dec.resblocks[7].convs1[1], name="bias"),
    "weight norm as v alone": leave_v_alone,
    "the last slope as the others": lambda network, patch: patch.setattr(generator, "LAST_SLOPE", 0.1),
    "no source": lambda network, patch: zero(patch, *network.dec.noise_convs, name="weight"),
}


@pytest.mark.parametrize("damage", DAMAGED_LATENTS)
def test_damage_to_latents_is_noticed(damage: str, monkeypatch: Patch) -> None:
    network, x = golden_synthesizer("32k", torch.float32), golden_inputs("32k", torch.float32)
    DAMAGED_LATENTS[damage](network, monkeypatch)
    assert LATENTS.error(latents(network, x)) > 10 * FP32


@pytest.mark.parametrize("damage", DAMAGED_AUDIO)
def test_damage_to_audio_is_noticed(damage: str, monkeypatch: Patch) -> None:
    DAMAGED_AUDIO[damage](golden_synthesizer("32k", torch.float32), monkeypatch)
    assert audio_error("32k", torch.float32) > 10 * AUDIO_LIMIT


PARAMETERS = {"48k": 28_716_994, "40k": 27_537_346, "32k": 28_057_538}
GENERATOR = {"48k": 15_670_530, "40k": 14_490_882, "32k": 15_011_074}
NAMED: dict[str, Shape] = {
    "enc_p.emb_phone.weight": (192, 768),
    "enc_p.emb_pitch.weight": (256, 192),
    "enc_p.encoder.attn_layers.5.conv_o.weight": (192, 192, 1),
    "enc_p.encoder.attn_layers.0.emb_rel_k": (1, 21, 96),
    "enc_p.encoder.norm_layers_2.5.gamma": (192,),
    "enc_p.encoder.ffn_layers.3.conv_1.weight": (768, 192, 3),
    "enc_p.proj.weight": (384, 192, 1),
    "flow.flows.6.pre.weight": (192, 96, 1),
    "flow.flows.0.post.bias": (96,),
    "flow.flows.2.enc.cond_layer.weight_g": (1152, 1, 1),
    "flow.flows.4.enc.in_layers.2.weight_v": (384, 192, 5),
    "flow.flows.4.enc.res_skip_layers.2.weight_v": (192, 192, 1),
    "dec.m_source.l_linear.weight": (1, 1),
    "dec.conv_pre.weight": (512, 192, 7),
    "dec.cond.weight": (512, 256, 1),
    "dec.noise_convs.3.weight": (32, 1, 1),
    "dec.ups.0.weight_g": (512, 1, 1),
    "dec.ups.3.weight_v": (64, 32, 4),
    "dec.resblocks.11.convs2.2.weight_v": (32, 32, 11),
    "dec.conv_post.weight": (1, 32, 7),
    "emb_g.weight": (109, 256),
}


@pytest.mark.parametrize("rate", RATES)
def test_names_and_shapes_are_the_published_ones(rate: str) -> None:
    network = on_meta(lambda: Synthesizer(SYNTHESIZERS[rate]))
    shapes = stored_shapes(network)
    assert len(shapes) == 457 and sum(map(math.prod, shapes.values())) == PARAMETERS[rate]
    parts = {"enc_p": 6_503_232, "flow": 6_515_328, "dec": GENERATOR[rate], "emb_g": 27_904}
    assert parts == {
        part: sum(map(math.prod, stored_shapes(network.get_submodule(part)).values())) for part in parts
    }
    assert {name: shapes[name] for name in NAMED} == NAMED


def test_folded_a_synthesizer_holds_no_lengths() -> None:
    network = on_meta(lambda: Synthesizer(SYNTHESIZERS["48k"]))
    assert sum(parameter.numel() for parameter in network.parameters()) == 28_694_338


@torch.inference_mode()
def test_a_row_is_what_it_is_alone() -> None:
    network, x = tiny_synthesizer(), inputs(TINY, frames=9, speaker=0)
    others = x._replace(phone=-x.phone, pitch=x.pitch + 1, f0=x.f0.flip(1), speaker=x.speaker + 1, e1=-x.e1)
    batch = Inputs._make(map(torch.cat, zip(x, others, strict=True)))
    rows = network(*batch)
    assert rows.shape == (2, 9 * TINY.hop)
    for row, alone in zip(rows, (x, others), strict=True):
        assert compare(network(*alone)[0], row).relative_rms < 1e-12


@torch.inference_mode()
@pytest.mark.parametrize("frames", [1, 3, 11])
def test_relative_positions_are_those_of_the_formula(frames: int) -> None:
    """Beside attention that looks up each pair of frames: nearer than the window, at it, beyond it."""
    attention = tiny_synthesizer().enc_p.encoder.attn_layers[0]
    x = golden_rvc.drawn(0, 1, frames, TINY.hidden)
    distance = torch.arange(frames) - torch.arange(frames)[:, None]
    near = (distance.abs() <= TINY.window)[..., None]
    place = (distance + TINY.window).clamp(0, 2 * TINY.window)
    keys, values = (near * table[0, place] for table in (attention.emb_rel_k, attention.emb_rel_v))
    q, k, v = (
        layer(x)[0].unflatten(-1, (TINY.heads, -1)).transpose(0, 1)
        for layer in (attention.conv_q, attention.conv_k, attention.conv_v)
    )
    scores = torch.einsum("hid,hijd->hij", q, k[:, None] + keys) / math.sqrt(q.shape[-1])
    heads = torch.einsum("hij,hijd->hid", scores.softmax(-1), v[:, None] + values)
    truth = attention.conv_o(heads.transpose(0, 1).flatten(1))
    assert compare(truth, attention(x)[0]).relative_rms < 1e-12
