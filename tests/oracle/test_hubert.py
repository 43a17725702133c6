"""HuBERT against transformers' `HubertModel`, with the same weights."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest
import torch
from golden_rvc import FP32, FP64, HUBERT, HUBERT_9, drawn, golden_tensors
from tiny_decoder12hz import loaded
from tiny_rvc import TINY_HUBERT, golden_network
from torch import Tensor

from harness.checkpoint import on_meta
from harness.nn.folded import stored_shapes
from harness.parity import compare
from subjects.rvc.config import HubertConfig
from subjects.rvc.models import conv, hubert
from subjects.rvc.models.hubert import Hubert

transformers = pytest.importorskip(
    "transformers.models.hubert", reason='needs the oracles: pip install -e ".[oracle]"'
)
LIMITS = {torch.float64: 1e-12, torch.float32: 1e-5}
DTYPES = pytest.mark.parametrize("dtype", LIMITS, ids=["fp64", "fp32"])
SAMPLES = 6000
Patch = pytest.MonkeyPatch


def tensors() -> dict[str, Tensor]:
    return golden_tensors(stored_shapes(on_meta(lambda: Hubert(TINY_HUBERT))))


def samples(dtype: torch.dtype = torch.float64, batch: int = 2) -> Tensor:
    return 0.1 * drawn(5, batch, SAMPLES).to(dtype)


@functools.cache
@torch.no_grad()
def hidden(dtype: torch.dtype) -> tuple[Tensor, ...]:
    """What the oracle makes, after each number of layers."""
    config = transformers.HubertConfig(
        hidden_size=TINY_HUBERT.hidden,
        intermediate_size=TINY_HUBERT.intermediate,
        num_hidden_layers=TINY_HUBERT.layers,
        num_attention_heads=TINY_HUBERT.heads,
        conv_dim=[TINY_HUBERT.conv_dim] * len(TINY_HUBERT.kernels),
        num_conv_pos_embeddings=TINY_HUBERT.position_kernel,
        num_conv_pos_embedding_groups=TINY_HUBERT.position_groups,
    )
    theirs = transformers.HubertModel(config).double()
    theirs.load_state_dict(tensors())
    return theirs.to(dtype).eval()(samples(dtype), output_hidden_states=True).hidden_states


@torch.inference_mode()
def error(dtype: torch.dtype = torch.float64, without: str | None = None, layers: int | None = None) -> float:
    """How far ours is from it, `without` the values of one tensor."""
    damaged = {name: tensor * (name != without) for name, tensor in tensors().items()}
    network = loaded(on_meta(lambda: Hubert(TINY_HUBERT)), damaged, dtype)
    truth = hidden(dtype)[-1 if layers is None else layers]
    return compare(truth, network(samples(dtype), layers)).relative_rms


@DTYPES
@pytest.mark.parametrize("layers", [None, 0, 1])
def test_frames_are_the_oracle_s(dtype: torch.dtype, layers: int | None) -> None:
    assert error(dtype, layers=layers) < LIMITS[dtype]


def shifted(network: hubert.Positions, x: Tensor) -> Tensor:
    return torch.nn.functional.gelu(network.conv(x)[:, 1:])


gelu = torch.nn.functional.gelu
CONTROLS: dict[str, Callable[[Patch], object]] = {
    "GELU by tanh": lambda patch: patch.setattr(hubert.F, "gelu", lambda x: gelu(x, approximate="tanh")),
    "the first position dropped": lambda patch: patch.setattr(hubert.Positions, "forward", shifted),
    "weight norm over the first axis": lambda patch: patch.setattr(conv, "others", lambda dim: [0]),
    "no norm over time": lambda patch: patch.setattr(hubert.TimeNorm, "forward", lambda norm, x: x),
}


@pytest.mark.parametrize("control", CONTROLS)
def test_damage_is_noticed(control: str, monkeypatch: Patch) -> None:
    hidden(torch.float64)
    CONTROLS[control](monkeypatch)
    assert error() > 1e-5


@pytest.mark.parametrize(
    "name",
    [
        "encoder.pos_conv_embed.conv.bias",
        "encoder.layers.1.attention.k_proj.weight",
        "encoder.layers.0.final_layer_norm.bias",
        "feature_projection.projection.bias",
    ],
)
def test_a_tensor_left_out_is_noticed(name: str) -> None:
    assert error(without=name) > 1e-5


def test_names_and_shapes_are_the_published_ones() -> None:
    shapes = stored_shapes(on_meta(lambda: Hubert(HubertConfig())))
    with torch.device("meta"):
        theirs = transformers.HubertModel(transformers.HubertConfig())
    assert shapes == {name: tuple(tensor.shape) for name, tensor in theirs.state_dict().items()}
    assert len(shapes) == 211 and sum(p.numel() for p in theirs.parameters()) == 94_371_712


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("dtype", "limit"), [(torch.float64, FP64), (torch.float32, FP32)], ids=["fp64", "fp32"]
)
@torch.inference_mode()
def test_frames_of_the_published_size_are_the_golden_ones(dtype: torch.dtype, limit: float) -> None:
    network = golden_network(on_meta(lambda: Hubert(HubertConfig())), dtype)
    x = 0.1 * drawn(5, 1, 1600).to(dtype)
    assert HUBERT.error(network(x)) < limit
    assert HUBERT_9.error(network(x, layers=9)) < limit
