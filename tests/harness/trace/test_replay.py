"""A layer done over leaves the books as tracing it anew does; predictions do not depend on those before."""

from __future__ import annotations

from collections import Counter

import pytest
from allocations import BASE, MIB, cost, setup, song

from acestep.audio.tile_size import VAE_CHUNK
from harness import quantization
from harness.trace import predict as predicting
from harness.trace.fake_card import FakeCard
from harness.trace.replay import CachedTrace
from harness.trace.stage_costs import Work

CASES = {
    "a batch under a window": {"params": song(seconds=30), "batch": 2},
    "language model": {"chosen": setup(lm=True)},
    "guided": {"chosen": setup(dit=BASE)},
    "offloaded": {"chosen": setup(4)},
    "int8": {"chosen": {"quantization": "int8_weight_only"}},
    "out of memory": {"params": song(seconds=60), "cap_bytes": 60 * MIB},
}


def case(name: str) -> dict:
    more = dict(CASES[name])
    if isinstance(more.get("chosen"), dict):
        pytest.importorskip("torchao", reason="torchao is not installed")
        more["chosen"] = setup(**more["chosen"])
    return more


@pytest.fixture(autouse=True)
def traces(monkeypatch) -> dict:
    """Nothing is known of any layer."""
    fresh: dict = {}
    monkeypatch.setattr(predicting, "_traces", fresh)
    return fresh


@pytest.fixture
def performed(monkeypatch) -> list[CachedTrace]:
    """What is done over."""
    done: list[CachedTrace] = []
    replay = FakeCard.replay
    monkeypatch.setattr(FakeCard, "replay", lambda card, trace: (done.append(trace), replay(card, trace))[1])
    return done


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.nightly) if "params" in CASES[name] else name for name in CASES],
)
def test_a_layer_done_over_is_a_layer_traced(name, performed):
    asked = case(name)
    traced = cost(**asked, repeat=False).as_dict()
    assert not performed
    first = cost(**asked).as_dict()
    some = len(performed)
    again = cost(**asked).as_dict()
    assert 0 < some < len(performed) - some
    assert first == traced
    assert again == traced


def test_out_of_memory_in_a_layer_done_over_is_that_of_tracing_it(performed, monkeypatch):
    """The decoder of tiles that do not fit was traced before: each fallback is the same."""
    monkeypatch.setenv(VAE_CHUNK, "256")
    params = song(seconds=30)
    decoding = next(stage for stage in cost(params=params).stages if stage.stage == "vae_decode")
    performed.clear()
    tight = {"params": params, "cap_bytes": decoding.peak_reserved_bytes - 16 * MIB}
    recovered = cost(**tight)
    assert performed
    assert recovered.fits
    assert len(recovered.fallbacks) == len(recovered.refusals) > 0
    assert recovered.as_dict() == cost(**tight, repeat=False).as_dict()


@pytest.mark.parametrize(("name", "cap_mib"), [("a batch under a window", 44), ("offloaded", 34)])
def test_out_of_memory_that_ends_it_is_that_of_tracing_it(name, cap_mib, performed):
    """A traced call keeps what it had until its frames go, one that is done over does not."""
    roomy = case(name)
    tight = roomy | {"cap_bytes": cap_mib * MIB}
    cost(**roomy)
    performed.clear()
    refused = cost(**tight)
    assert performed
    assert refused.out_of_memory is not None
    assert refused.as_dict() == cost(**tight, repeat=False).as_dict()


def test_predictions_do_not_depend_on_those_before():
    first, other = cost().as_dict(), cost(setup(4)).as_dict()
    assert cost().as_dict() == first != other
    assert cost(setup(4)).as_dict() == other


@pytest.mark.parametrize(
    "schemes",
    [
        {"quantization": "w8a8_dynamic", "lm_quantization": "int8_weight_only"},
        pytest.param({"quantization": "int8_weight_only", "gib": 6}, marks=pytest.mark.nightly),
    ],
    ids=str,
)
def test_each_kind_of_matrix_is_quantized_once(schemes, monkeypatch):
    pytest.importorskip("torchao", reason="torchao is not installed")
    quantized = Counter()
    quantize = quantization.quantizer()

    def counted(linear, config) -> None:
        quantized[repr(config), tuple(linear.weight.shape)] += 1
        quantize(linear, config)

    monkeypatch.setattr(quantization, "quantizer", lambda: counted)
    made = setup(lm="lm_quantization" in schemes, **schemes)
    traced = cost(made, repeat=False).as_dict()
    assert max(quantized.values()) > 1
    quantized.clear()
    assert cost(made).as_dict() == traced
    assert set(quantized.values()) == {1}
    assert cost(made).as_dict() == traced and set(quantized.values()) == {1}


def test_layers_of_two_quantizations_are_two_kinds_of_layer():
    """Their weights are of one type, shape and dtype, and what is done with them is not the same."""
    pytest.importorskip("torchao", reason="torchao is not installed")
    weights_only, activations_too = (
        setup(quantization=name) for name in ("int8_weight_only", "w8a8_dynamic")
    )
    cost(weights_only)
    after = cost(activations_too).as_dict()
    assert after == cost(activations_too, repeat=False).as_dict()
    assert after["environment"]["quantization"] == "w8a8_dynamic"


def test_a_script_that_lacks_a_line_is_heard(traces):
    """The control: each way of going wrong moves what it should move."""
    right = cost()
    for trace in traces.values():
        trace.events.remove(next(event for event in trace.events if isinstance(event, Work) and event.flop))
    wrong = cost()
    assert wrong.work.flop < right.work.flop
    assert wrong.peak_live_bytes == right.peak_live_bytes
