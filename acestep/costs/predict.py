"""Trace a generation on a card that is not here.

    cost = predict(setup, params, config, find("rtx4060"))
    cost.fits, cost.peak_bytes, cost.seconds, cost.work.launches

The engine itself runs, from loading to the last sample, on tensors without memory
(`harness.trace.fake_card`). It runs what the plan says but for two things that cannot be traced, and
`environment` says so: a compiled DiT is traced eager, and a language model in another backend in ours.
"""

from __future__ import annotations

import threading
from dataclasses import asdict, replace
from typing import Any

import torch

from acestep.costs.planning import Sampled
from acestep.costs.weightless import Weightless
from acestep.engine import Engine
from acestep.lm.backends.pt_backend import PT
from acestep.models.dit import DiTLayer
from acestep.models.vae import OobleckDecoder, OobleckEncoder
from acestep.request import GenerationConfig, GenerationParams, item_seeds
from acestep.resolver import EffectivePlan, resolve
from acestep.result import GenerationResult
from acestep.setup import Setup
from acestep.weights.sources import open_source
from harness import spans
from harness.cards import Card
from harness.device import VIRTUAL
from harness.nn.blocks import Block
from harness.oom import attempt
from harness.trace import calibration
from harness.trace.cost import LOADING, Cost, StageCost
from harness.trace.fake_card import FakeCard
from harness.trace.libraries import CUDA
from harness.trace.stage_costs import PS, Stage
from harness.virtual_card import VirtualBudget

_traces: dict[Any, Any] = {}  # of layers, as they were traced for any prediction of this process
REPEATED = (Block, DiTLayer, OobleckDecoder, OobleckEncoder)  # one of a kind at a shape is traced
_turn = threading.Lock()  # a fake card changes classes of the engine, which all threads share


def predict(
    setup: Setup,
    params: GenerationParams,
    config: GenerationConfig,
    card: Card,
    cap_bytes: int | None = None,
    *,
    repeat: bool = True,
) -> Cost:
    """What `params` and `config` would cost on `card`, of which the allocator has `cap_bytes`.

    Not `repeat` traces every layer anew: slower, and the same result. Predictions of several threads take
    turns; nothing else may generate meanwhile. Raises UsageError or MissingPrerequisite for what the engine
    would refuse.
    """
    plan = resolve(params, config, setup)
    traced = replace(setup, device=VIRTUAL, compile=False, lm_backend="pt" if setup.lm else "")
    measured = calibration.find(card.capability)
    libraries = CUDA(card.capability, measured)
    if measured:
        card = replace(card, context_mib=measured.context_mib)
    with _turn, FakeCard(card, cap_bytes, libraries, _traces if repeat else None, REPEATED) as fake:
        result = _generate(fake, traced, plan)
        fake.tracker.close()
    return Cost(
        card=card,
        cap_bytes=fake.cap_bytes,
        plan=plan.as_dict(),
        environment={
            "torch": str(torch.__version__),
            "lm_backend": "pt" if setup.lm else None,
            "compiled": "eager-equivalent" if setup.compile else None,
            "calibration": libraries.calibration,
        },
        stages=tuple(map(_stage, fake.tracker.stage_costs.stages.values())),
        samples=tuple(fake.tracker.stage_costs.samples),
        out_of_memory=None if result else fake.tracker.refused[-1],
        refusals=tuple(fake.tracker.refused),
        fallbacks=result.fallbacks if result else (),
        counts=asdict(result.counts) if result else {},
        retries=fake.tracker.allocator.retries,
    )


def _generate(fake: FakeCard, setup: Setup, plan: EffectivePlan) -> GenerationResult | None:
    """Load and run; None where the card was too small for either."""
    config = plan.config
    if config.seeds is None:
        config = replace(config, seeds=item_seeds(0, config.batch_size))
    results: list[GenerationResult] = []

    @torch.inference_mode()  # tensors without memory take each other's place only if all are of one mode
    def run() -> None:
        fake.warm()
        budget, weights = VirtualBudget(fake), Weightless(open_source(setup.source), fake)
        with spans.record(), spans.span(LOADING):
            engine = Engine.from_setup(setup, budget=budget, weights=weights)
        if engine.planner:
            assert isinstance(engine.planner.backend, PT)
            engine.planner.backend = Sampled(engine.planner.backend, fake.tracker.stage_costs)
        results.append(engine.generate(plan.params, config))

    failure = attempt(run)
    if failure is not None and failure.kind != "device":
        raise MemoryError(failure.message)
    return results[0] if results else None


def _stage(stage: Stage) -> StageCost:
    ps = {resource: round(amount) for resource, amount in stage.ps.items()}
    return StageCost(
        stage=stage.name,
        work=stage.total(),
        seconds=sum(ps.values()) / PS,
        bound_by=max(ps, key=ps.__getitem__),
        peak_live_bytes=stage.peak_live_bytes,
        peak_allocated_bytes=stage.peak_allocated_bytes,
        peak_reserved_bytes=stage.peak_reserved_bytes,
        sites=dict(sorted(stage.sites.items(), key=lambda site: (-site[1], site[0]))),
    )
