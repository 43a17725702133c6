"""The language model that is measured: one that is there, named in the series; without it the rest runs."""

import pytest
from roots import checkpoint

from acestep.weights.layout import LMS as PUBLISHED
from benchmarks._matrix import LMS, language_model
from scripts.asv_checkout import series

SMALL, MIDDLE, LARGE = LMS


def test_the_names_are_those_that_are_published():
    assert LMS == PUBLISHED


@pytest.mark.parametrize(
    ("there", "lm", "suffix"),
    [
        ([SMALL, MIDDLE], SMALL, ""),
        ([MIDDLE], MIDDLE, f"+{MIDDLE}"),
        ([MIDDLE, LARGE], MIDDLE, f"+{MIDDLE}"),
        ([], None, ""),
    ],
)
def test_the_smallest_that_is_there_names_the_series(tmp_path, there, lm, suffix):
    root = str(checkpoint(tmp_path / "main", *there))
    assert language_model(root) == lm
    assert series(root) == f"main{suffix}"


@pytest.mark.parametrize("source", ["synthetic-tiny", "synthetic-full"])
def test_series_of_made_up_weights_keep_their_names(source):
    assert (language_model(source), series(source)) == (SMALL, source)


def test_the_worker_asks_for_the_one_that_is_there(here, monkeypatch, tmp_path):
    monkeypatch.setenv("ACESTEP_SOURCE", str(checkpoint(tmp_path / "main", MIDDLE)))
    assert here.ace_step.language_model() == MIDDLE
    assert here.ace_step.subject().setup(lm=here.ace_step.language_model(), device="cpu").lm == MIDDLE


def test_without_a_language_model_what_needs_none_runs(here, monkeypatch):
    monkeypatch.setattr(here.ace_step, "language_model", lambda: None)
    monkeypatch.setattr(here.turns, "REPEATS", 1)
    engines, cell = here.ace_step.Engines(), here._matrix.cell
    size = {"duration_s": 5, "batch": 1, "steps": 1}
    (run,) = here.ace_step.measure_cell(engines, cell("generate", thinking=False, **size))["runs"]
    assert {"diffuse", "vae_decode"} < run["stages_s"].keys()
    for needs in (
        cell("generate", thinking=True, **size),
        cell("plan", duration_s=5, batch=1, thinking=False),
        cell("text", mode="create"),
    ):
        with pytest.raises(here.commit.Unsupported, match="no language model"):
            here.ace_step.measure_cell(engines, needs)
    with pytest.raises(here.commit.Unsupported, match="no language model"):
        here.engine_parity.Parity(engines).measure(cell("parity", output="greedy", engine=here._matrix.PLAIN))
