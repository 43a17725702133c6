"""What was asked for is what runs, read from the weights: nothing stands in for what is not there."""

import pytest

from acestep.setup import Setup
from acestep.subject import AceStep
from harness.errors import MissingPrerequisite


@pytest.fixture
def ignores(monkeypatch):
    """A function that makes the subject ignore some of its choices."""

    def make(*names):
        monkeypatch.setattr(
            AceStep,
            "setup",
            lambda self, **choices: Setup.choose(**{k: v for k, v in choices.items() if k not in names}),
        )

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
    chosen = {}
    monkeypatch.setattr(AceStep, "setup", lambda self, **choices: chosen.update(choices))
    monkeypatch.setattr(AceStep, "load", lambda self, setup: None)
    monkeypatch.setattr(here.ace_step, "what_runs", lambda engine: {})
    here.ace_step.load(here._matrix.PLAIN)
    assert chosen == {"lm": here.ace_step.LM, "lm_backend": "pt", "quantization": "none", "compile": False}


def test_weights_elsewhere_are_a_failure(here, ignores):
    engine = here.ace_step.load(here._matrix.PLAIN)
    assert here.ace_step.what_runs(engine) == here._matrix.UNLESS_SAID
    engine.environment["device"] = "cuda:0"
    with pytest.raises(RuntimeError, match="weights are on cpu, the engine is on cuda"):
        here.ace_step.what_runs(engine)


def test_what_is_missing_is_not_applicable_and_tried_once(here, monkeypatch):
    tries = []

    def setup(self, **choices):
        tries.append(choices["lm_backend"])
        raise MissingPrerequisite("lm_backend: mlx is not installed")

    monkeypatch.setattr(AceStep, "setup", setup)
    engines = here.ace_step.Engines()
    for _ in range(2):
        with pytest.raises(here.commit.Unsupported, match="mlx is not installed"):
            engines.get("mlx")
    assert tries == ["mlx"]
    with pytest.raises(MissingPrerequisite):  # without the plain engine there is nothing to measure
        engines.get(here._matrix.PLAIN)


def test_nothing_is_compiled_that_neither_tier_nor_filter_asks_for(here, monkeypatch):
    with pytest.raises(here.commit.Unsupported, match="tier of this device compiles nothing"):
        here.ace_step.check_choices("compiled")
    here.ace_step.check_choices(here._matrix.PLAIN)
    monkeypatch.setenv("ACESTEP_BENCH_CELLS", "compile=True")
    here.ace_step.check_choices("compiled")
    monkeypatch.delenv("ACESTEP_BENCH_CELLS")
    setup = AceStep.setup
    monkeypatch.setattr(AceStep, "setup", lambda self, **choices: setup(self, **choices, compile=True))
    here.ace_step.check_choices("compiled")
