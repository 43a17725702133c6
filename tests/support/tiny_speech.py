"""The language side of Qwen3-TTS at sizes of a test: random weights in fp64, and ids that go with them."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from harness.checkpoint import materialise, on_meta, parameter_shapes
from subjects.qwen3_tts.config import CodePredictorConfig, TalkerConfig
from subjects.qwen3_tts.models.code_predictor import CodePredictor
from subjects.qwen3_tts.models.talker import Talker
from subjects.qwen3_tts.prompt import ControlIds

CPU = torch.device("cpu")
CODES, GROUPS, HEAD = 24, 4, 8
IDS = ControlIds(
    tts_pad=40,
    tts_bos=41,
    tts_eos=42,
    pad=25,
    bos=26,
    eos=27,
    think=28,
    nothink=29,
    think_bos=30,
    think_eos=31,
    languages={"chinese": 32, "english": 33, "sichuan_dialect": 34},
    speakers={"ryan": 35, "eric": 36},
    dialects={"eric": "sichuan_dialect"},
    groups=GROUPS,
    codes=CODES,
)


class Speech(NamedTuple):
    """Both models, and their weights by published name."""

    talker: Talker
    predictor: CodePredictor
    weights: dict[str, Tensor]


def configs(width: int = 16) -> tuple[TalkerConfig, CodePredictorConfig]:
    """Of a talker of `width` and a predictor of 16, which projects its inputs where they differ."""
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": HEAD, "rope_theta": 1e4}
    talker = TalkerConfig(
        **heads,
        hidden_size=width,
        intermediate_size=24,
        num_hidden_layers=2,
        vocab_size=40,
        num_code_groups=GROUPS,
        text_vocab_size=48,
        text_hidden_size=12,
    )
    predictor = CodePredictorConfig(
        **heads,
        hidden_size=16,
        intermediate_size=20,
        num_hidden_layers=1,
        vocab_size=CODES,
        num_code_groups=GROUPS,
    )
    return talker, predictor


def build(width: int = 16, device: torch.device = CPU) -> Speech:
    """Models in fp64, in which no rounding changes what is drawn."""
    of_talker, of_predictor = configs(width)
    talker: Talker = on_meta(lambda: Talker(of_talker))
    predictor: CodePredictor = on_meta(lambda: CodePredictor(of_predictor, width))
    lot, weights = torch.Generator().manual_seed(0), {}
    for prefix, module in (("talker.", talker), ("talker.code_predictor.", predictor)):
        for name, shape in parameter_shapes(module, prefix).items():
            value = torch.randn(shape, generator=lot, dtype=torch.float64)
            weights[name] = 1 + value / 4 if name.endswith("norm.weight") else value / shape[-1] ** 0.5
        materialise(module, weights.__getitem__, prefix=prefix, device=device, dtype=torch.float64)
    return Speech(talker, predictor, weights)


speech = cache(build)
