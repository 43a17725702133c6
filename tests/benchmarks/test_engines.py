"""What was asked for is what runs, read from the weights: nothing stands in for what is not there."""

import pytest

from acestep.engine import Engine
from acestep.setup import Setup
from harness.errors import MissingPrerequisite


@pytest.fixture
def ignores(monkeypatch):
    """A function that makes the engine ignore some of its choices."""
    load = Engine.load

    def make(*names):
        def loaded(**choices):
            return load(**{name: value for name, value in choices.items() if name not in names})

        monkeypatch.setattr(Engine, "load", loaded)

    return make


@pytest.mark.parametrize(
    ("name", "ignored", "told"),
    [
        ("int8_weight_only", "quantization", "'quantization': ('none', 'int8_weight_only')"),
        ("mlx", "lm_backend", "'lm_backend': ('pt', 'mlx')"),
        ("compiled", "compile", "'compile': (False, True)"),
    ],
)
def test_an_engine_that_is_another_is_a_failure(here, ignores, monkeypatch, name, ignored, told):
    monkeypatch.setenv("ACESTEP_BENCH_CELLS", "compile=True")
    ignores(ignored)
    with pytest.raises(RuntimeError) as caught:
        here.ace_step.load(name)
    assert told in str(caught.value)


def test_an_engine_is_told_even_what_the_tier_would_choose(here, monkeypatch):
    told = {}
    monkeypatch.setattr(Engine, "load", lambda **choices: told.update(choices))
    monkeypatch.setattr(here.ace_step, "what_runs", lambda engine: {})
    here.ace_step.load(here._matrix.PLAIN)
    assert told == {"lm": here.ace_step.LM, "lm_backend": "pt", "quantization": "none", "compile": False}


def test_weights_elsewhere_are_a_failure(here, ignores):
    engine = here.ace_step.load(here._matrix.PLAIN)
    assert here.ace_step.what_runs(engine) == here._matrix.UNLESS_SAID
    engine.environment["device"] = "cuda:0"
    with pytest.raises(RuntimeError, match="weights are on cpu, the engine is on cuda"):
        here.ace_step.what_runs(engine)


def test_what_is_missing_is_not_applicable_and_tried_once(here, monkeypatch):
    tries = []

    def load(**choices):
        tries.append(choices["lm_backend"])
        raise MissingPrerequisite("lm_backend: mlx is not installed")

    monkeypatch.setattr(Engine, "load", load)
    engines = here.ace_step.Engines()
    for _ in range(2):
        with pytest.raises(here.commit.Unsupported, match="mlx is not installed"):
            engines.get("mlx")
    assert tries == ["mlx"]
    with pytest.raises(MissingPrerequisite):  # without the plain engine there is nothing to measure
        engines.get(here._matrix.PLAIN)


def test_nothing_is_compiled_that_neither_tier_nor_filter_asks_for(here, monkeypatch):
    with pytest.raises(here.commit.Unsupported, match="tier of this device compiles nothing"):
        here.ace_step.check_compile("compiled")
    here.ace_step.check_compile(here._matrix.PLAIN)
    monkeypatch.setenv("ACESTEP_BENCH_CELLS", "compile=True")
    here.ace_step.check_compile("compiled")
    monkeypatch.delenv("ACESTEP_BENCH_CELLS")
    choose = Setup.choose
    monkeypatch.setattr(Setup, "choose", lambda **choices: choose(**choices, compile=True))
    here.ace_step.check_compile("compiled")
