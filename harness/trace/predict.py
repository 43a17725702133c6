"""Trace a request of a subject on a card that is not here.

    plan = subject.resolve(subject.request(duration_s=30), setup)
    cost = predict(subject, plan, find("rtx4060"))
    cost.fits, cost.peak_bytes, cost.seconds, cost.work.launches

The subject's own engine runs, from loading to the last sample, on tensors without memory
(`harness.trace.fake_card`). What of it cannot be traced stands in for something else, and `environment`
says so: see `Subject.stand_ins`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

import torch

from harness import spans
from harness.cards import Card
from harness.oom import attempt
from harness.subject import Plan, Result, Subject
from harness.trace import calibration
from harness.trace.cost import LOADING, Cost, StageCost
from harness.trace.expected import PUBLISHED, Efficiencies, calibrated
from harness.trace.fake_card import FakeCard
from harness.trace.libraries import CUDA
from harness.trace.replay import CachedTrace
from harness.trace.stage_costs import PS, RESOURCES, Stage
from harness.virtual_card import VirtualBudget

# Of an engine's environment: numbers as they were loaded.
FORMATS = ("dtype", "islands", "quantization", "lm_quantization")
_traces: dict[Any, CachedTrace] = {}  # of layers, as they were traced for any prediction of this process
_turn = threading.Lock()  # a fake card changes classes of the engine, which all threads share


def predict(
    subject: Subject, plan: Plan, card: Card, cap_bytes: int | None = None, *, repeat: bool = True
) -> Cost:
    """What `plan` would cost on `card`, of which the allocator has `cap_bytes`, from loading its setup on.

    Not `repeat` traces every layer anew: slower, and the same result. Predictions of several threads take
    turns; nothing else may run a subject meanwhile. Raises what the engine would raise, but for too little
    memory of the card: that is part of the result.
    """
    found = calibration.find(card)
    if found.measured:
        card = replace(card, context_mib=found.measured.context_mib)
    efficiencies = _efficiencies(card, found.measured)
    loaded: dict[str, Any] = dict.fromkeys(FORMATS)
    with fake_card(subject, card, found, cap_bytes, repeat=repeat) as fake:
        result = _run(subject, plan, fake, loaded)
        fake.tracker.close()
    return Cost(
        card=card,
        cap_bytes=fake.cap_bytes,
        plan=plan.as_dict(),
        environment={
            "torch": str(torch.__version__),
            **loaded,
            **subject.stand_ins(plan.setup),
            "calibration": str(found),
            "expected": efficiencies.basis,
        },
        stages=tuple(_stage(stage, efficiencies) for stage in fake.tracker.stage_costs.stages.values()),
        samples=tuple(fake.tracker.stage_costs.samples),
        out_of_memory=None if result else fake.tracker.refused[-1],
        refusals=tuple(fake.tracker.refused),
        fallbacks=result.fallbacks if result else (),
        counts=asdict(result.counts) if result else {},
        retries=fake.tracker.allocator.retries,
    )


@contextmanager
def fake_card(
    subject: Subject,
    card: Card,
    found: calibration.Found,
    cap_bytes: int | None = None,
    *,
    repeat: bool = True,
) -> Iterator[FakeCard]:
    """A fake card for the engine of a subject; threads take turns. Arguments are those of `predict`."""
    libraries = CUDA(card.capability, found.measured)
    with _turn, FakeCard(card, cap_bytes, libraries, _traces if repeat else None, subject.repeated()) as fake:
        yield fake


def _efficiencies(card: Card, measured: calibration.Calibration | None) -> Efficiencies:
    """What kernels on `card` reach of its peaks: rates that were measured are the very card's."""
    if measured is None or not measured.of(card):
        return PUBLISHED
    return calibrated(
        card,
        [(product.tflop_per_s, product.gb_per_s) for product in measured.products],
        measured.dtype,
        [copy.gb_per_s for copy in measured.copies],
        measured.launch_us,
        str(measured),
    )


def _run(subject: Subject, plan: Plan, fake: FakeCard, loaded: dict[str, Any]) -> Result | None:
    """Load and run; None where the card was too small for either. `loaded` gets the formats that were."""
    results: list[Result] = []

    @torch.inference_mode()  # tensors without memory take each other's place only if all are of one mode
    def load_and_run() -> None:
        fake.warm()
        with spans.record(), spans.span(LOADING):
            engine = subject.load_fake(plan.setup, fake, VirtualBudget(fake))
        loaded.update({name: engine.environment.get(name) for name in FORMATS})
        results.append(engine.run(plan))

    failure = attempt(load_and_run)
    if failure is not None and failure.kind != "device":
        raise MemoryError(failure.message)
    return results[0] if results else None


def _stage(stage: Stage, efficiencies: Efficiencies) -> StageCost:
    ps = {resource: round(stage.bound_ps(resource)) for resource in RESOURCES}
    kinds: dict[str, dict[str, float]] = {}
    for (kind, resource), amount in sorted(stage.ps.items()):
        kinds.setdefault(kind, {})[resource] = round(amount) / PS
    return StageCost(
        stage=stage.name,
        work=stage.total(),
        seconds=sum(ps.values()) / PS,
        bound_by=max(ps, key=ps.__getitem__),
        kinds=kinds,
        expected_s=efficiencies.expected_s(kinds),
        peak_live_bytes=stage.peak_live_bytes,
        peak_allocated_bytes=stage.peak_allocated_bytes,
        peak_reserved_bytes=stage.peak_reserved_bytes,
        sites=dict(sorted(stage.sites.items(), key=lambda site: (-site[1], site[0]))),
        reads=dict(sorted(stage.reads.items())),
        copies=dict(sorted(stage.copies.items())),
    )
