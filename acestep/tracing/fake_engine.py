"""The engine for a trace: weights without values, and a language model whose text does not depend on them.

It runs what a plan says but for a language model in another backend, which cannot be traced: ours runs.
"""

from __future__ import annotations

from dataclasses import replace

from acestep import components
from acestep.engine import Engine
from acestep.lm.backends.pt_backend import PT
from acestep.models.dit import DiTLayer
from acestep.models.vae import OobleckDecoder, OobleckEncoder
from acestep.setup import Setup
from acestep.tracing.planning import Sampled
from acestep.tracing.weightless import Weightless
from acestep.weights.sources import open_source
from harness.device import VIRTUAL
from harness.memory import MemoryBudget
from harness.nn.blocks import Block
from harness.trace.fake_card import FakeCard

REPEATED = (Block, DiTLayer, OobleckDecoder, OobleckEncoder)


def load(setup: Setup, card: FakeCard, budget: MemoryBudget) -> Engine:
    """The engine of `setup` on `card`, whose memory is `budget`."""
    traced = replace(setup, device=VIRTUAL, lm_backend="pt" if setup.lm else "")
    engine = Engine.from_setup(traced, budget=budget, weights=Weightless(open_source(setup.source), card))
    if engine.planner:
        assert isinstance(engine.planner.backend, PT)
        of_lm = card.at(engine.models.place(components.LM))
        engine.planner.backend = Sampled(engine.planner.backend, of_lm.tracker.stage_costs)
    return engine
