"""Work that grows with length: how it does, on counts of the fake card; what a call counts and times."""

from dataclasses import replace
from functools import partial
from itertools import pairwise

import pytest
import torch

from acestep import scaling
from acestep.models import dit as dit_model
from acestep.models.rates import FRAMES_PER_SECOND
from acestep.subject import SUBJECT
from acestep.text.audio_codes import CODES_PER_SECOND
from acestep.tracing.closed_form import networks
from acestep.weights.layout import DEFAULT_DIT, LMS, TEXT_ENCODER
from harness import cards, spans
from harness.accelerators import Accelerator
from harness.errors import MissingPrerequisite
from harness.nn.attend import full
from harness.nn.qwen3 import BLOCK
from harness.trace.calls import CallCost, predict_calls

SOURCE = "synthetic-tiny"
CARD = cards.find(cards.DEFAULT)
FRAMES = 2000  # beyond the window of the DiT's sliding layers
TOKENS = 64
HALOS = {"vae_encode": 7, "vae_decode": 9}  # frames that a tile hears of each neighbour
# In steps of which the work is whole: frames of a pass, blocks of the cache that steps have filled, tiles.
LENGTHS = {
    "dit_step": [times * FRAMES / FRAMES_PER_SECOND for times in (1, 2, 3, 4)],
    "lm_decode": [(1 + n * BLOCK - len(scaling.PROMPT)) / CODES_PER_SECOND for n in (1, 2, 3, 4)],
    "vae_encode": [],
    **{
        name: [(512 + n * (512 - 2 * halo)) / FRAMES_PER_SECOND for n in (0, 1, 2)]
        for name, halo in HALOS.items()
    },
    "text_encode": [times * TOKENS for times in (1, 2, 3, 4)],
}


def costs(component: str, lengths: list[float], card: cards.Card = CARD) -> list[CallCost | None]:
    """What a component costs at each length."""
    calls = [partial(scaling.call, component=component, length=length) for length in lengths]
    setup = SUBJECT.setup(
        source=SOURCE, lm=LMS[0], lm_backend="pt", quantization="none", compile=False, no_limits=True,
        accelerator=Accelerator("cuda", card.name, card.memory_gib, capability=card.capability),
    )  # fmt: skip
    return list(predict_calls(SUBJECT, setup, card, calls))


def predicted(component: str, lengths: list[float]) -> dict[str, list[int]]:
    """FLOP of a component at each length, by kind."""
    flop = [cost.flop for cost in costs(component, lengths) if cost]
    return {kind: [one[kind] for one in flop] for kind in flop[0]}


def differences(values: list[int], order: int) -> list[int]:
    """Of equally spaced values; those of a polynomial of a lower degree are zero."""
    for _ in range(order):
        values = [b - a for a, b in pairwise(values)]
    return values


def layers(component: str) -> tuple[int, int]:
    """Attention width of a component's blocks, and how many of them see more than a window."""
    of = networks(SOURCE, DEFAULT_DIT, TEXT_ENCODER if component == "text_encode" else LMS[0], dtype_bytes=2)
    config = of.dit if component == "dit_step" else of.lm
    assert config
    count = (
        config.layer_types.count("full_attention") if component == "dit_step" else config.num_hidden_layers
    )
    return config.num_attention_heads * config.head_dim, count


@pytest.mark.parametrize("component", LENGTHS)
def test_attention_grows_by_the_square_of_length_and_all_else_with_it(component):
    """Exact: of a polynomial of degree 2 the second differences are equal, of degree 1 they are zero.

    What they are of attention is 4·A for each query and key more, of the layers that see all: the DiT's
    sliding layers and its cross-attention add nothing to them. A causal pass has half of the pairs. A step of
    codes reads the cache in blocks.
    """
    flop = predicted(component, LENGTHS[component])
    step = {"dit_step": FRAMES // 2, "lm_decode": BLOCK, "text_encode": TOKENS}.get(component, 0)
    if "vae" not in component:
        width, seeing = layers(component)
        pairs = 2 * step**2 if component == "dit_step" else step**2
        assert differences(flop.pop("attention"), 2) == [4 * width * seeing * pairs] * 2
    assert set(flop) == {"convolution" if "vae" in component else "matmul"}
    for values in flop.values():
        assert not any(differences(values, 2)) and values[0] < values[1]


def test_sliding_layers_that_saw_everything_would_be_found(monkeypatch):
    monkeypatch.setattr(dit_model, "sliding", lambda *_: full)
    width, seeing = layers("dit_step")
    found = differences(predicted("dit_step", LENGTHS["dit_step"][:3])["attention"], 2)
    assert min(found) > 4 * width * seeing * 2 * (FRAMES // 2) ** 2


def test_what_a_card_is_too_small_for_costs_nothing_that_is_known():
    """It holds the tiny models and short inputs, and not the keys and values of 17 hours."""
    small = replace(CARD, memory_gib=0.6)
    fits, too_long, fits_again = costs("lm_decode", [1, 60_000, 1], small)
    assert fits and fits == fits_again and too_long is None
    assert costs("lm_decode", [1, 1], replace(CARD, memory_gib=0.45)) == [None, None]  # nor the models


WORK = {
    "lm_decode": {"tokens": CODES_PER_SECOND, "prompt_tokens": 0},
    "dit_step": {"frames": 25, "tokens": 12.5},
    "vae_encode": {"samples": 48_000, "frames": 25, "tiles": 0},
    "vae_decode": {"samples": 48_000, "frames": 25, "tiles": 0},
    "resample": {"samples": 48_000},
    "text_encode": {"tokens": 1},
}


@pytest.mark.parametrize("component", scaling.PREPARED)
def test_the_work_of_a_call_is_its_length_and_only_its_stage_is_timed(component, engine):
    counted = {}
    for length in (2, 4):
        with scaling.call(engine, component, length) as call:
            with spans.record() as times:
                counted[length] = call.run()
            assert set(times.stages()) <= {call.stage, "lm_prefill", spans.OTHER}
    with scaling.call(engine, component, 2) as call:
        seconds, again = call.timed()
    assert seconds > 0 and again == counted[2]
    grown = {name: (counted[4][name] - counted[2][name]) / 2 for name in counted[2]}
    assert grown == WORK[component]


def test_halos_are_those_of_the_networks(engine):
    networks = {"vae_encode": engine.models.vae.encoder, "vae_decode": engine.models.vae.decoder}
    assert {name: network.halo for name, network in networks.items()} == HALOS


def test_the_same_seed_makes_the_same_inputs(engine):
    def latents(seed: int) -> torch.Tensor:
        found = []
        with pytest.MonkeyPatch.context() as patch:
            original = scaling.decode.decode
            patch.setattr(
                scaling.decode, "decode", lambda net, x, *rest: found.append(x) or original(net, x, *rest)
            )
            with scaling.call(engine, "vae_decode", 1, seed=seed) as call:
                call.run()
        return found[0]

    assert torch.equal(latents(1), latents(1)) and not torch.equal(latents(1), latents(2))


def test_without_a_language_model_decoding_is_refused():
    setup = SUBJECT.setup(source=SOURCE, device="cpu", lm=None)
    engine = SUBJECT.load(setup)
    with pytest.raises(MissingPrerequisite, match="lm: "), scaling.call(engine, "lm_decode", 1):
        pass
