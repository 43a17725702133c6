"""Our networks beside the published package's: what it made once of the cases (`golden.safetensors`), and,
where it is installed (`make test-oracles`), what it makes now of other weights.

Limits are on the relative RMS. They mean something only beside what exceeds them tenfold: each part has
controls, our network with one thing wrong.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from places import ROOT
from safetensors.torch import load_file
from torch import Tensor

from harness.nn import attend, blocks, qwen3
from harness.parity import LIMITS, compare
from subjects.qwen3_tts.models import decoder, speaker
from subjects.qwen3_tts.sampling import GREEDY
from tests.subjects.qwen3_tts import ours
from tests.subjects.qwen3_tts.cases import WIDTHS
from tests.subjects.qwen3_tts.golden import GOLDEN, Published
from tests.subjects.qwen3_tts.ours import Language, Sound

DTYPES = pytest.mark.parametrize("dtype", LIMITS, ids=["fp64", "fp32"])
ABSENT = pytest.mark.skipif(find_spec("qwen_tts") is None, reason="needs the package: make test-oracles")
SEEDS = [pytest.param(0, id="golden"), *(pytest.param(n, id=f"live-{n}", marks=ABSENT) for n in (1, 2))]
UNNOTICED = 10 * LIMITS[torch.float32]

Values = Mapping[str, Tensor]


@pytest.fixture(autouse=True)
def _plain_arithmetic() -> Iterator[None]:
    """No gradients, and one thread: matrices this small take longer to share out than to multiply."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.no_grad():
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module", params=SEEDS)
def published(request: pytest.FixtureRequest) -> tuple[int, Values]:
    """The seed of weights and inputs, and what the package makes of them."""
    seed = request.param
    return seed, Published(torch.float64, seed).values() if seed else load_file(GOLDEN)


@pytest.fixture(scope="module")
def golden() -> Values:
    return load_file(GOLDEN)


def test_golden_values_are_of_the_versions_that_are_installed():
    versions = json.loads(GOLDEN.with_suffix(".json").read_text())["versions"]
    pins = (ROOT / "constraints-oracles.txt").read_text().splitlines()
    assert {f"{name}=={version}" for name, version in versions.items()} <= set(pins)


def distance(found: Values, expected: Values, prefix: str = "") -> float:
    """Of what was found, the worst: a relative RMS, infinite where codes are others."""
    worst = 0.0
    for name, value in found.items():
        reference = expected[prefix + name]
        if value.is_floating_point():
            worst = max(worst, compare(reference, value).relative_rms)
        elif not torch.equal(value, reference):
            worst = torch.inf
    return worst


@DTYPES
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("part", ["stack", "heads", "prompts", "codes"])
def test_the_language_side(part: str, width: str, dtype: torch.dtype, published: tuple[int, Values]):
    seed, expected = published
    found = getattr(Language(WIDTHS[width], dtype, seed), part)()
    assert distance(found, expected, f"{width}/") <= LIMITS[dtype]


Damage = Callable[[Any, pytest.MonkeyPatch], object]


def rope_halves_swapped(network: Any, monkeypatch: pytest.MonkeyPatch, module: Any = blocks) -> None:
    rotate = blocks.rotate
    monkeypatch.setattr(module, "rotate", lambda x, rope: rotate(x.roll(x.shape[-1] // 2, -1), rope))


def shifted(table: Tensor) -> None:
    """Each row in the place of the next."""
    table.copy_(table.roll(1, 0))


def heads_moved_up(model: Language, monkeypatch: pytest.MonkeyPatch) -> None:
    first, *others = model.predictor.lm_head
    model.predictor.lm_head = torch.nn.ModuleList([*others, first])


def text_a_frame_late(model: Language, monkeypatch: pytest.MonkeyPatch) -> None:
    embed = ours.embed

    def late(*prompt: Any) -> Any:
        rows, trailing, pad = embed(*prompt)
        return ours.Embedded(rows, torch.cat((pad[None], trailing)), pad)

    monkeypatch.setattr(ours, "embed", late)


def first_code(model: Language, monkeypatch: pytest.MonkeyPatch, **sampling: Any) -> None:
    monkeypatch.setattr(ours, "GREEDY", replace(GREEDY, **sampling))


LANGUAGE_CONTROLS: dict[tuple[str, str], Damage] = {
    ("stack", "rope halves swapped"): rope_halves_swapped,
    ("stack", "a mask as wide as the sequence"): lambda _, patch: patch.setattr(qwen3, "causal", attend.full),
    ("heads", "heads moved up"): heads_moved_up,
    ("heads", "a shifted codebook"): lambda model, _: shifted(
        model.predictor.model.codec_embedding.parts()[3].weight
    ),
    ("heads", "a dropped bias"): lambda model, _: model.predictor.small_to_mtp_projection.bias.zero_(),
    ("heads", "rope halves swapped"): rope_halves_swapped,
    ("prompts", "a dropped bias"): lambda model, _: model.talker.text_projection.linear_fc1.bias.zero_(),
    ("prompts", "a shifted codebook"): lambda model, _: shifted(model.talker.model.codec_embedding.weight),
    ("codes", "text a frame late"): text_a_frame_late,
    ("codes", "no penalty"): lambda model, patch: first_code(model, patch, first=GREEDY.others),
    ("codes", "an end that may come at once"): lambda model, patch: first_code(
        model, patch, min_new_tokens=0
    ),
}


@pytest.mark.parametrize(("part", "control"), LANGUAGE_CONTROLS)
def test_damage_to_the_language_side_is_noticed(
    part: str, control: str, golden: Values, monkeypatch: pytest.MonkeyPatch
):
    model = Language(WIDTHS["projected"], torch.float64)
    LANGUAGE_CONTROLS[part, control](model, monkeypatch)
    assert distance(getattr(model, part)(), golden, "projected/") > UNNOTICED


@DTYPES
@pytest.mark.parametrize("part", ["speaker", "decoder", "chunked", "streamed"])
def test_the_sound_side(part: str, dtype: torch.dtype, published: tuple[int, Values]):
    seed, expected = published
    assert distance(getattr(Sound(dtype, seed), part)(), expected) <= LIMITS[dtype]


@DTYPES
def test_the_mel(dtype: torch.dtype, published: tuple[int, Values]):
    """The package holds the mel filters in fp32, whatever it computes in."""
    seed, expected = published
    assert distance(Sound(dtype, seed).mel(), expected) <= 1e-6


def without(name: str) -> ours.Damage:
    return lambda state: state[name].zero_() if name in state else None


def book_shifted(state: dict[str, Tensor]) -> None:
    shifted(state["decoder.quantizer.rvq_rest.vq.layers.4._codebook.embedding_sum"])


def padded_with_zeros(patch: pytest.MonkeyPatch) -> None:
    pad = speaker.F.pad
    patch.setattr(speaker.F, "pad", lambda x, ends, mode: pad(x, ends))


BIAS = {
    "speaker": "speaker_encoder.asp.tdnn.conv.bias",
    "decoder": "decoder.upsample.0.0.conv.bias",
}
SOUND_CONTROLS: dict[tuple[str, str], Sound | Callable[[pytest.MonkeyPatch], object]] = {
    ("speaker", "a dropped bias"): Sound(torch.float64, damage=without(BIAS["speaker"])),
    ("speaker", "zeros at the ends"): padded_with_zeros,
    ("mel", "zeros at the ends"): padded_with_zeros,
    ("decoder", "a dropped bias"): Sound(torch.float64, damage=without(BIAS["decoder"])),
    ("decoder", "a mask a frame too wide"): Sound(torch.float64, sliding_window=5),
    ("decoder", "a shifted codebook"): Sound(torch.float64, damage=book_shifted),
    ("decoder", "rope halves swapped"): lambda patch: rope_halves_swapped(None, patch, decoder),
    ("decoder", "usage not held from below"): lambda patch: patch.setattr(decoder, "LEAST_USAGE", 2e-5),
    ("chunked", "less context"): lambda patch: patch.setattr(ours, "CONTEXT", 1),
    ("streamed", "a mask a frame too wide"): Sound(torch.float64, sliding_window=5),
    ("streamed", "rope halves swapped"): lambda patch: rope_halves_swapped(None, patch, decoder),
}


@pytest.mark.parametrize(("part", "control"), SOUND_CONTROLS)
def test_damage_to_the_sound_side_is_noticed(
    part: str, control: str, golden: Values, monkeypatch: pytest.MonkeyPatch
):
    damaged = SOUND_CONTROLS[part, control]
    if not isinstance(damaged, Sound):
        damaged(monkeypatch)
        damaged = Sound(torch.float64)
    assert distance(getattr(damaged, part)(), golden) > UNNOTICED
