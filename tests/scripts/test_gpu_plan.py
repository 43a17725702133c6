"""What a whole run of `scripts.gpu` measures: every part in its order, at every size, in twelve minutes."""

from __future__ import annotations

from importlib import import_module

import pytest

from acestep.gpu_config import GUIDE, POLICIES
from scripts.gpu import plan
from scripts.gpu.parts import calibration
from scripts.gpu.plan import BUDGET_S, NAMES, PARTS, SPARE_S
from scripts.gpu.steps import Task

STEPS = {
    "tests": ["pytest -m gpu"],
    "stages": [f"{lm}, {s} s" for lm in ("no LM", "0.6B", "1.7B", "4B") for s in (30, 60, 240)],
    "modes": ["captured", "compiled", "compiled, captured"],
    "beside": ["DiT pass", "VAE decode", "LM decode"],
    "peaks": [f"{size:g} GB" for size in POLICIES[GUIDE].tested_gb],
    "energy": ["no LM, 60 s", "0.6B, 60 s", "1.7B, 60 s"],
}


def test_each_part_is_worth_having_if_the_rest_is_cut():
    assert NAMES == ("tests", "calibration", "stages", "modes", "beside", "peaks", "energy")


def test_all_of_it_is_within_twelve_minutes():
    assert sum(part.seconds for part in PARTS) + SPARE_S <= BUDGET_S <= 12 * 60


@pytest.mark.parametrize("part", STEPS)
def test_a_part_measures_all_that_it_is_for(part: str):
    task = Task(part=part, device="cuda", source="synthetic-full", limit_s=1.0)
    assert [step.name for step in import_module(f"scripts.gpu.parts.{part}").steps(task)] == STEPS[part]
    assert task.sizes == plan.Sizes() != plan.TINY


def test_calibration_is_what_a_file_of_it_holds():
    task = Task(part="calibration", device="cuda", source="synthetic-full", limit_s=1.0)
    names = [step.name for step in calibration.steps(task)]
    assert names[:3] == ["memory", "launches", "link"]
    kinds = [name.partition(" ")[0] for name in names[3:]]
    assert kinds.count("product") >= 4 and kinds.count("copy") >= 2
