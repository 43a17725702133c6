"""Parity of real engines of the tiny weights: what is in order passes, what was broken fails its cell."""

import math
from contextlib import contextmanager

import pytest
import torch

from benchmarks.parity import TrackParity, TrackTokenParity
from harness.quantization import QUANTIZATIONS, unavailable
from harness.residency import stored

REASONS = {name: unavailable(name, "cpu") for name in QUANTIZATIONS}
SCHEMES = [
    pytest.param(name, marks=pytest.mark.skipif(bool(why), reason=f"{name} {why}"))
    for name, why in REASONS.items()
]
OUTPUTS = ("velocity", "latents", "audio")
ENGINES = {}  # of all tests, by name: loading is what takes its time
REFERENCES = {}  # what the plain one made before any test changed a weight


class Loaded:
    """Engines that stay. The plain one also plays those that should differ from it by rounding only."""

    def __init__(self, here):
        self._plain = here._matrix.PLAIN
        self._load = here.ace_step.load

    def get(self, name):
        name = self._plain if name in ("compiled", "mlx") else name
        if name not in ENGINES:
            ENGINES[name] = self._load(name)
        return ENGINES[name]


@pytest.fixture
def engines(here):
    return Loaded(here)


@pytest.fixture
def parity(here, engines):
    """From output and engine to the record of their cell."""
    comparison = here.engine_parity.Parity(engines)
    comparison._reference = REFERENCES

    def measure(output, engine):
        return comparison.measure(here._matrix.cell("parity", output=output, engine=engine))

    if not REFERENCES:
        for output in ("velocity", "drawn"):
            assert set(measure(output, here._matrix.PLAIN)["parity"].values()) <= {0.0, None}
    return measure


@contextmanager
def scaled(tensor, factor):
    before = tensor.detach().clone()
    with torch.no_grad():
        tensor.mul_(factor)
        try:
            yield
        finally:
            tensor.copy_(before)


@pytest.mark.parametrize("name", SCHEMES)
def test_a_quantized_engine_is_close_and_not_equal(parity, name):
    for output in OUTPUTS:
        record = parity(output, name)
        assert "status" not in record
        assert 0.1 * record["limit"] < record["parity"]["relative_rms"] < record["limit"]
        assert record["parity"]["snr_db"] == pytest.approx(-20 * math.log10(record["parity"]["relative_rms"]))


@pytest.mark.parametrize("name", SCHEMES)
def test_one_wrong_scale_fails_the_cell(parity, engines, name):
    weight = engines.get(name).models.ace_step.decoder.layers[0].mlp.down_proj.weight
    with scaled(stored(weight)[1], 2):
        for output in OUTPUTS:
            record = parity(output, name)
            assert record["status"] == "failed", output
            assert f"{output} is " in record["reason"] and "(relative RMS), over" in record["reason"]
            assert record["parity"]["relative_rms"] > record["limit"]


def test_two_runs_give_the_same_numbers(here, engines):
    name = next((name for name, why in REASONS.items() if not why), "plain")
    cell = here._matrix.cell("parity", output="audio", engine=name)
    assert here.engine_parity.Parity(engines).measure(cell) == here.engine_parity.Parity(engines).measure(
        cell
    )


def test_a_weight_slightly_off_is_more_than_rounding(here, engines, parity):
    weight = engines.get("plain").models.ace_step.decoder.layers[0].mlp.down_proj.weight
    with scaled(weight, 1.01):
        for output in OUTPUTS:
            assert parity(output, "compiled")["status"] == "failed", output


def test_what_is_not_finite_fails_the_cell(here):
    cell, noise = here._matrix.cell("parity", output="velocity", engine="compiled"), torch.randn(1, 8, 64)
    assert "status" not in here.engine_parity.apart(cell, noise, noise, 0.0)
    record = here.engine_parity.apart(cell, noise, noise.index_fill(1, torch.tensor(3), math.nan), 1.0)
    assert record["status"] == "failed"
    assert set(record["parity"].values()) == {None}


def test_what_differs_by_nothing_passes(parity):
    for output in (*OUTPUTS, "greedy", "drawn"):
        assert "status" not in parity(output, "mlx" if output in ("greedy", "drawn") else "compiled")


def test_a_language_model_slightly_off_says_other_tokens(parity, engines):
    weight = engines.get("plain").models.lm.layers[0].mlp.up_proj.weight
    with scaled(weight, 1.01):
        record = parity("drawn", "mlx")
    assert record["status"] == "failed" and record["parity"]["disagreement"] > 0.5
    with scaled(weight, 2):
        record = parity("greedy", "compiled")  # another name: the tokens of the last one are kept
    share = record["parity"]["disagreement"]
    assert record["status"] == "failed" and record["reason"] == f"{share:.0%} of codes differ, over 0%"
    assert share > 0.9


def test_draws_are_compared_as_far_as_rounding_lets_them(here):
    cell = here._matrix.cell("parity", output="drawn", engine="mlx")
    same, apart = torch.zeros(10), torch.arange(10).clamp(max=1)
    tipped = torch.arange(10).sub(5).clamp(0, 1)
    assert here.engine_parity.codes_apart(cell, same, tipped, "float32") == {
        "parity": {"disagreement": 0.4},
        "limit": 0.5,
    }
    assert here.engine_parity.codes_apart(cell, same, apart, "float32")["status"] == "failed"
    with pytest.raises(here.commit.Unsupported, match="bfloat16"):
        here.engine_parity.codes_apart(cell, same, same, "bfloat16")
    cell = here._matrix.cell("parity", output="greedy", engine="mlx")
    assert here.engine_parity.codes_apart(cell, same, apart, "bfloat16")["parity"] == {"disagreement": 0.9}
    assert here.engine_parity.codes_apart(cell, same, same + 1, "bfloat16")["status"] == "failed"


def test_every_number_shrinks_when_it_gets_better():
    numbers = {"relative_rms": 0.01, "max_abs": 0.2, "snr_db": 40.0}
    cells = {
        "parity output=audio engine=int8_weight_only": {"status": "ok", "parity": numbers},
        "parity output=audio engine=plain": {"status": "ok", "parity": {**numbers, "snr_db": None}},
        "parity output=drawn engine=mlx": {"status": "ok", "parity": {"disagreement": 0.25}},
        "parity output=latents engine=plain": {"status": "failed", "reason": "0.5 is over 0.1"},
    }
    records = {"header": {"status": "ok", "source": "synthetic-tiny"}} | cells
    suite = TrackParity()
    suite.setup(records, "audio", "int8_weight_only", False)
    assert (suite.track_relative_rms(), suite.track_max_abs(), suite.track_nmse()) == (0.01, 0.2, -40.0)
    suite.setup(records, "audio", "none", False)
    assert math.isnan(suite.track_nmse())  # asv cannot publish an infinity
    tokens = TrackTokenParity()
    tokens.setup(records, "drawn", "mlx")
    assert tokens.track_disagreement() == 0.25
    with pytest.raises(RuntimeError, match=r"0\.5 is over 0\.1"):
        suite.setup(records, "latents", "none", False)
