"""The speaker encoder against its formulas, place by place; the published names."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import qwen3_tts_reference as reference
import torch
from msgspec.structs import replace
from tiny_decoder12hz import loaded, random_tensors
from torch import Tensor

from harness.checkpoint import on_meta, parameter_shapes
from harness.parity import compare
from subjects.qwen3_tts.config import SpeakerConfig
from subjects.qwen3_tts.models import speaker
from subjects.qwen3_tts.models.speaker import SpeakerEncoder

LIMIT = 1e-12  # of the relative RMS, in fp64
TINY = SpeakerConfig(
    enc_dim=5,
    mel_dim=6,
    enc_channels=[8, 8, 8, 8, 24],
    enc_res2net_scale=4,
    enc_attention_channels=3,
    enc_se_channels=3,
)
FRAMES = 13


def mel(frames: int = FRAMES) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, frames, TINY.mel_dim, generator=generator, dtype=torch.float64)


def tensors() -> dict[str, Tensor]:
    return random_tensors(on_meta(lambda: SpeakerEncoder(TINY)))


def error(config: SpeakerConfig = TINY, without: str | None = None, frames: int = FRAMES) -> float:
    """How far the encoder of `config` is from `TINY`'s formulas, `without` the values of one tensor."""
    w = {name: tensor.numpy() for name, tensor in tensors().items()}
    truth = [
        torch.from_numpy(reference.voice(w, item.T.numpy(), dilations=[2, 3, 4], scale=4))
        for item in mel(frames)
    ]
    damaged = {name: tensor * (name != without) for name, tensor in tensors().items()}
    encoder = loaded(on_meta(lambda: SpeakerEncoder(config)), damaged)
    return compare(torch.stack(truth), encoder(mel(frames))).relative_rms


@pytest.mark.parametrize("frames", [5, FRAMES])
def test_vectors_are_those_of_the_formulas(frames: int) -> None:
    assert error(frames=frames) < LIMIT


@pytest.mark.parametrize(
    "name",
    [
        "blocks.0.conv.bias",
        "blocks.2.res2net_block.blocks.1.conv.bias",
        "blocks.3.se_block.conv2.bias",
        "fc.bias",
    ],
)
def test_a_bias_dropped_is_noticed(name: str) -> None:
    assert error(without=name) > 1e-5


def test_dilations_in_another_order_are_noticed() -> None:
    assert error(replace(TINY, enc_dilations=[1, 2, 4, 3, 1])) > 1e-5


PLAIN_ENDS = SimpleNamespace(pad=lambda x, ends, mode: torch.nn.functional.pad(x, ends))


@pytest.mark.parametrize(("name", "value"), [("F", PLAIN_ENDS), ("LEAST_VARIANCE", 10.0)])
def test_damage_is_noticed(name: str, value: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Zeros beyond the ends, and a variance that is never small."""
    monkeypatch.setattr(speaker, name, value)
    assert error() > 1e-5


@pytest.mark.parametrize(("width", "count"), [(1024, 8_854_336), (2048, 12_001_088)])
def test_names_and_shapes_are_the_published_ones(width: int, count: int) -> None:
    encoder = on_meta(lambda: SpeakerEncoder(SpeakerConfig(enc_dim=width)))
    shapes = parameter_shapes(encoder)
    assert len(shapes) == 76 and sum(p.numel() for p in encoder.parameters()) == count
    named = {
        "blocks.0.conv.weight": (512, 128, 5),
        "blocks.3.tdnn2.conv.bias": (512,),
        "blocks.3.res2net_block.blocks.6.conv.weight": (64, 64, 3),
        "blocks.1.se_block.conv1.weight": (128, 512, 1),
        "mfa.conv.weight": (1536, 1536, 1),
        "asp.tdnn.conv.weight": (128, 4608, 1),
        "asp.conv.weight": (1536, 128, 1),
        "fc.weight": (width, 3072, 1),
    }
    assert {name: shapes[name] for name in named} == named
