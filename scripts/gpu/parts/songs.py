"""Songs of a length, and engines to make them, as the parts that run the engine ask for them.

All metadata is given, so that the work depends on the length alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from acestep.effective_plan import EffectivePlan
from acestep.engine import Engine
from acestep.profiler.matrix import Row
from acestep.setup import Setup
from acestep.subject import SUBJECT
from acestep.tier_options import CAPTION, LYRICS, METADATA
from acestep.weights.layout import LM_PREFIX
from harness.errors import UsageError
from scripts.gpu.steps import Task

EAGER: Mapping[str, Any] = {"compile": False, "graphs": False}
NO_LM = "no LM"


def setup_of(task: Task, lm_size: str | None, **choices: Any) -> Setup:
    """The card's own settings, with our language model of a size.

    Raises UsageError where the card's tier has no room for it, MissingPrerequisite for a choice that is not
    to be had here.
    """
    lm = LM_PREFIX + lm_size if lm_size else None
    setup = Setup.choose(task.source, device=task.device, lm=lm, lm_backend="pt", **choices)
    if setup.lm != lm:
        raise UsageError("; ".join(setup.warnings) or setup.no_lm)
    return setup


def song(setup: Setup, duration_s: float) -> Row:
    """One item of a length, planned where the setup has a language model.

    Raises UsageError where the card's tier has no room for it.
    """
    request = SUBJECT.request(
        duration_s=duration_s, caption=CAPTION, lyrics=LYRICS, thinking=setup.lm is not None, **METADATA
    )
    plan: EffectivePlan = SUBJECT.resolve(request, setup)
    if plan.length_s() != duration_s:
        raise UsageError("; ".join(map(str, plan.adjustments)))
    return Row(request.params, request.config, plan)


def open_engine(setup: Setup) -> Engine:
    """The engine of a setup, loaded."""
    return Engine.from_setup(setup)
