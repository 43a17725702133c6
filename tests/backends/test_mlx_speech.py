"""Qwen3-TTS in MLX beside the published package's values: those that torch's networks are held to as well."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from harness.checkpoint import on_meta
from harness.nn.config import parse_config
from harness.nn.folded import stored_shapes
from harness.parity import LIMITS, compare
from subjects.qwen3_tts.config import CodePredictorConfig, DecoderConfig, TalkerConfig
from subjects.qwen3_tts.models import code_predictor, decoder, talker
from subjects.qwen3_tts.sampling import GREEDY
from tests.subjects.qwen3_tts import cases
from tests.subjects.qwen3_tts.golden import GOLDEN

pytestmark = pytest.mark.skipif(
    find_spec("mlx_lm") is None, reason="mlx-lm is not installed: make test-backends"
)
LIMIT = LIMITS[torch.float32]
WIDTHS = pytest.mark.parametrize("width", cases.WIDTHS)

State = dict[str, Tensor]
Damage = Callable[[State], Any]


@pytest.fixture(scope="module")
def golden() -> State:
    return load_file(GOLDEN)


def state(build: Callable[[], Any], prefix: str, damage: Damage | None = None) -> State:
    """fp32 weights below `prefix`."""
    named = cases.weights(stored_shapes(on_meta(build), prefix))
    weights = {name.removeprefix(prefix): value.float() for name, value in named.items()}
    if damage:
        damage(weights)
    return weights


def language(width: int, damage: Damage | None = None) -> tuple[Any, Any]:
    """MLX's talker and code predictor. `damage`: to the weights of either."""
    from subjects.qwen3_tts.backends.mlx_language import CodePredictor, Talker

    file = cases.config(width)["talker_config"]
    config = parse_config(file, TalkerConfig, "talker")
    predictor = parse_config(file["code_predictor_config"], CodePredictorConfig, "predictor")
    weights = state(lambda: talker.Talker(config), "talker.", damage)
    others = state(lambda: code_predictor.CodePredictor(predictor, width), "talker.code_predictor.", damage)
    return (
        Talker(config, weights.__getitem__),
        CodePredictor(predictor, width, others.__getitem__),
    )


def array(value: Tensor) -> Any:
    import mlx.core as mx

    return mx.array(value.float().numpy())


def off(reference: Tensor, found: Any) -> float:
    return compare(reference, torch.from_numpy(np.array(found))).relative_rms


def stack_off(width: str, golden: State, damage: Damage | None = None) -> float:
    model, _ = language(cases.WIDTHS[width], damage)
    hidden = model.stack(array(cases.rows(cases.WIDTHS[width])))
    return max(
        off(golden[f"{width}/hidden"], hidden),
        off(golden[f"{width}/logits"], model.logits(hidden[:, -1])[..., cases.LOGITS]),
    )


def heads_off(width: str, golden: State, damage: Damage | None = None) -> float:
    import mlx.core as mx

    model, predictor = language(cases.WIDTHS[width], damage)
    hidden, codes = cases.frames(cases.WIDTHS[width])
    tables = [model.codec_embedding, *predictor.tables[:-1]]
    inputs = [array(hidden), *(table[mx.array(codes[:, i].numpy())] for i, table in enumerate(tables))]
    states = predictor(mx.stack(inputs, axis=1))
    heads = [states[:, i] @ head.T for i, head in enumerate(predictor.heads, 1)]
    return off(golden[f"{width}/heads"], mx.stack(heads, axis=1)[..., cases.LOGITS])


def decoder_off(golden: State, damage: Damage | None = None, **sizes: Any) -> float:
    import mlx.core as mx

    from subjects.qwen3_tts.backends.mlx_decoder import Decoder

    config = parse_config(cases.DECODER | sizes, DecoderConfig, "decoder")
    weights = state(lambda: decoder.Decoder(config), "decoder.", damage)
    samples = Decoder(config, weights.__getitem__)(mx.array(cases.codes().numpy()))
    return off(golden["decoder"], samples[:, cases.SAMPLES])


@WIDTHS
def test_the_talker(width: str, golden: State):
    assert stack_off(width, golden) <= LIMIT


@WIDTHS
def test_the_code_predictor(width: str, golden: State):
    assert heads_off(width, golden) <= LIMIT


@WIDTHS
def test_the_likeliest_codes_from_the_caches(width: str, golden: State):
    from subjects.qwen3_tts.backends.mlx_language import frames

    model, predictor = language(cases.WIDTHS[width])
    pad = model.text(torch.tensor(151_671))
    for name in ("voice", "in context"):
        rows, trailing = (array(golden[f"{width}/{name}/{part}"]) for part in ("rows", "trailing"))
        codes = frames(model, predictor, rows, trailing, pad, sampling=GREEDY, stream=torch.Generator())
        assert list(islice(codes, cases.FRAMES)) == golden[f"{width}/{name}/codes"].tolist()


def test_the_decoder(golden: State):
    assert decoder_off(golden) <= LIMIT


def zeroed(name: str) -> Damage:
    return lambda weights: weights[name].zero_() if name in weights else None


def shifted(name: str) -> Damage:
    return lambda weights: weights[name].copy_(weights[name].roll(1, 0)) if name in weights else None


def halves_swapped(weights: State) -> None:
    """Of the queries alone: those of queries and keys together are another angle, not another product."""
    for name in weights:
        if name.endswith("q_norm.weight"):
            weights[name].copy_(weights[name].roll(64, 0))


def test_damage_is_noticed(golden: State):
    book = "quantizer.rvq_rest.vq.layers.4._codebook.embedding_sum"
    distances = [
        stack_off("projected", golden, halves_swapped),
        heads_off("projected", golden, zeroed("small_to_mtp_projection.bias")),
        heads_off("projected", golden, shifted("model.codec_embedding.3.weight")),
        decoder_off(golden, zeroed("upsample.0.0.conv.bias")),
        decoder_off(golden, shifted(book)),
        decoder_off(golden, sliding_window=5),
    ]
    assert min(distances) > 10 * LIMIT, distances
