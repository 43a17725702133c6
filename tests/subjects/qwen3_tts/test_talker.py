"""Talker and code predictor: published names and shapes, and the numbers of their formulas."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pytest
import torch
from plain_speech import PlainSpeech
from tiny_speech import CODES, CPU, GROUPS, IDS, build, configs, speech

from harness.checkpoint import on_meta, parameter_shapes
from harness.nn.packed import unpack
from harness.nn.qwen3 import Cache
from subjects.qwen3_tts.config import CodePredictorConfig, TalkerConfig
from subjects.qwen3_tts.models.code_predictor import CodePredictor
from subjects.qwen3_tts.models.talker import Talker
from subjects.qwen3_tts.prompt import Prompt, Reference, embed, layout

HEADS = {"num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128}
# Of model.safetensors by the talker's width: tensors and parameters of CustomVoice, and of Base but for its
# speaker encoder.
PUBLISHED = {
    1024: (402, 905_788_672, 914_643_008 - 8_854_336),
    2048: (404, 1_916_676_352, 1_928_677_440 - 12_001_088),
}
LAYER = {
    "self_attn.q_proj": (2048, "H"),
    "self_attn.k_proj": (1024, "H"),
    "self_attn.v_proj": (1024, "H"),
    "self_attn.o_proj": ("H", 2048),
    "self_attn.q_norm": (128,),
    "self_attn.k_norm": (128,),
    "mlp.gate_proj": ("3H", "H"),
    "mlp.up_proj": ("3H", "H"),
    "mlp.down_proj": ("H", "3H"),
    "input_layernorm": ("H",),
    "post_attention_layernorm": ("H",),
}
FRAMES = [[5, 6, 7, 8], [9, 10, 11, 12]]
WIDTHS = pytest.mark.parametrize("width", [16, 32])  # without and with a projection before the predictor


@pytest.fixture(autouse=True)
def _inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


def published_shapes(width: int) -> dict[str, tuple[int, ...]]:
    """By the specification of the published files."""
    shapes: dict[str, tuple[int, ...]] = {
        "talker.model.norm.weight": (width,),
        "talker.model.codec_embedding.weight": (3072, width),
        "talker.model.text_embedding.weight": (151_936, 2048),
        "talker.text_projection.linear_fc1.weight": (2048, 2048),
        "talker.text_projection.linear_fc1.bias": (2048,),
        "talker.text_projection.linear_fc2.weight": (width, 2048),
        "talker.text_projection.linear_fc2.bias": (width,),
        "talker.codec_head.weight": (3072, width),
        "talker.code_predictor.model.norm.weight": (1024,),
    }
    for stack, layers, h in (("talker", 28, width), ("talker.code_predictor", 5, 1024)):
        for layer in range(layers):
            for name, sizes in LAYER.items():
                shape = tuple({"H": h, "3H": 3 * h}.get(size, size) for size in sizes)  # type: ignore[arg-type]
                shapes[f"{stack}.model.layers.{layer}.{name}.weight"] = shape  # type: ignore[assignment]
    for code in range(15):
        shapes[f"talker.code_predictor.model.codec_embedding.{code}.weight"] = (2048, width)
        shapes[f"talker.code_predictor.lm_head.{code}.weight"] = (2048, 1024)
    if width != 1024:
        shapes["talker.code_predictor.small_to_mtp_projection.weight"] = (1024, width)
        shapes["talker.code_predictor.small_to_mtp_projection.bias"] = (1024,)
    return shapes


@pytest.mark.parametrize("width", PUBLISHED)
def test_names_shapes_and_counts_are_the_published_ones(width: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.nn.init, "normal_", None)  # what draws a table
    talker = TalkerConfig(
        **HEADS,
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=28,
        vocab_size=3072,
        num_code_groups=16,
        text_vocab_size=151_936,
        text_hidden_size=2048,
    )
    predictor = CodePredictorConfig(
        **HEADS,
        hidden_size=1024,
        intermediate_size=3072,
        num_hidden_layers=5,
        vocab_size=2048,
        num_code_groups=16,
    )
    shapes = parameter_shapes(on_meta(lambda: Talker(talker)), "talker.")
    shapes |= parameter_shapes(on_meta(lambda: CodePredictor(predictor, width)), "talker.code_predictor.")
    assert shapes == published_shapes(width)
    tensors, custom_voice, base = PUBLISHED[width]
    assert len(shapes) == tensors
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == custom_voice == base


Weights = dict[str, np.ndarray]


def plain(width: int, damage: Callable[[Weights], object] = lambda weights: None) -> PlainSpeech:
    weights = {name: value.numpy() for name, value in speech(width).weights.items()}
    damage(weights)
    return PlainSpeech(weights, *configs(width))


def prompt() -> Prompt:
    """A row of every kind."""
    text, reference = [1, 2, 3, 11, 12, 13, 4, 5, 6, 7, 8], Reference([1, 2, 3, 14, 15, 8, 9], FRAMES)
    voice = {"language": "english", "x_vector": True, "reference": reference}
    return layout(text, **voice, streaming=True, ids=IDS)


def errors(width: int, reference: PlainSpeech) -> dict[str, float]:
    """How far both models are from the formulas, by what is compared."""
    talker, predictor, _ = speech(width)
    x_vector = torch.linspace(-1, 1, width, dtype=torch.float64)
    embedded = embed(prompt(), talker, predictor, x_vector)
    rows = reference.rows(prompt(), x_vector.numpy())
    texts = [reference.text(token) for token in (*prompt().trailing, IDS.tts_pad)]
    hidden, plain_hidden = talker(embedded.rows[None])[0], reference.hidden(rows)
    acoustic = predictor.model.codec_embedding(torch.tensor([20, 7, 0]))[:2]
    inputs = torch.cat((hidden[-1:], talker.codec(torch.tensor([3])), acoustic))
    last = predictor(inputs[None])[0, -1]
    pairs = {
        "rows": (embedded.rows, rows),
        "trailing": (torch.cat((embedded.trailing, embedded.pad[None])), texts),
        "hidden": (hidden, plain_hidden),
        "first logits": (talker.logits(hidden, 40), list(map(reference.first_logits, plain_hidden))),
        "other logits": (predictor.lm_head[2](last), reference.other_logits(plain_hidden[-1], [3, 20, 7])),
    }
    return {name: float(np.abs(a.numpy() - np.array(b)).max()) for name, (a, b) in pairs.items()}


@WIDTHS
def test_numbers_are_those_of_the_formulas(width: int):
    far = errors(width, plain(width))
    assert far.pop("first logits") < 1e-5, "which are fp32"
    assert max(far.values()) < 1e-12, far


def _shifted(weights: Weights) -> None:
    name = "talker.code_predictor.model.codec_embedding.{}.weight"
    weights[name.format(0)], weights[name.format(1)] = weights[name.format(1)], weights[name.format(0)]


def _no_bias(layer: str, weights: Weights) -> None:
    weights[f"talker.{layer}.bias"] = np.zeros_like(weights[f"talker.{layer}.bias"])


class SwappedHalves(PlainSpeech):
    def rope(self, x, position, theta):
        return super().rope(np.roll(x, len(x) // 2), position, theta)


@pytest.mark.parametrize(
    ("damage", "sees"),
    [
        (_shifted, {"rows", "hidden", "other logits"}),
        (partial(_no_bias, "text_projection.linear_fc1"), {"rows", "trailing", "hidden"}),
        (partial(_no_bias, "text_projection.linear_fc2"), {"rows", "trailing", "hidden"}),
        (partial(_no_bias, "code_predictor.small_to_mtp_projection"), {"other logits"}),
    ],
    ids=["shifted codebook", "no bias of fc1", "no bias of fc2", "no bias before the predictor"],
)
def test_damage_is_seen(damage: Callable, sees: set[str]):
    far = errors(32, plain(32, damage))
    assert {name for name in sees if far[name] < 1e-3} == set()


def test_swapped_halves_of_rope_are_seen():
    far = errors(16, SwappedHalves(plain(16).weights, *configs(16)))
    assert far["hidden"] > 1e-3 < far["other logits"]
    assert far["rows"] < 1e-12


@WIDTHS
def test_logits_step_by_step_are_those_of_the_formulas(width: int):
    """Over a cache that a frame before has filled."""
    models, reference = speech(width), plain(width)
    predictor = models.predictor
    predictor.prepare(models.talker.model.codec_embedding.weight)
    cache = Cache(predictor.config, 2, GROUPS, torch.float64, CPU)
    lot = torch.Generator().manual_seed(1)
    for _ in range(2):
        hidden = torch.randn(2, width, generator=lot, dtype=torch.float64)
        codes = torch.randint(CODES, (2, GROUPS), generator=lot)
        x = torch.stack((predictor.project(hidden), predictor.input(0, codes[:, 0])), dim=1)
        for index in range(1, GROUPS):
            logits = predictor.logits(index, x, cache)
            expected = [
                reference.other_logits(h.numpy(), row[:index].tolist())
                for h, row in zip(hidden, codes, strict=True)
            ]
            assert np.abs(logits.numpy() - np.array(expected)).max() < 1e-5
            if index < GROUPS - 1:
                x = predictor.input(index, codes[:, index])[:, None]


def test_a_frames_sum_is_one_look_up_where_tables_are_one_memory_and_the_same_where_not():
    models, apart = speech(16), build(16).predictor
    codes = torch.randint(CODES, (5, GROUPS), generator=torch.Generator().manual_seed(2))
    first = models.talker.codec(codes[:, 0])
    together = models.predictor.summed(first, codes[:, 1:])
    assert models.predictor.model.codec_embedding.packed is not None
    unpack(apart)
    assert torch.equal(apart.summed(first, codes[:, 1:]), together)
    assert torch.allclose(together[0], torch.from_numpy(plain(16).frame(codes[0].tolist())))


def test_projected_tables_follow_the_weights():
    """They are computed once, and anew where the weights were cast."""
    talker, predictor, _ = build(32)
    codec = talker.model.codec_embedding.weight
    predictor.prepare(codec)
    tables = predictor._inputs
    predictor.prepare(codec)
    assert predictor._inputs is tables and len(tables) == GROUPS - 1, "nothing follows the last code"
    predictor.float().prepare(codec.float())
    assert {table.dtype for table in predictor._inputs} == {torch.float32}
