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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

import torch

from harness import spans
from harness.cards import Card
from harness.device import VIRTUAL
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
    subject: Subject,
    plan: Plan,
    card: Card,
    cap_bytes: int | None = None,
    *,
    repeat: bool = True,
    beside: Sequence[Card] = (),
) -> Cost:
    """What `plan` would cost on `card`, of which the allocator has `cap_bytes`, from loading its setup on.

    `beside`: the second card and those after it, with as many bytes each, for a plan that has parts there.
    Not `repeat` traces every layer anew: slower, and the same result. Predictions of several threads take
    turns; nothing else may run a subject meanwhile. Raises what the engine would raise, but for too little
    memory of a card: that is part of the result.
    """
    known = [_known(each) for each in (card, *beside)]
    loaded: dict[str, Any] = dict.fromkeys(FORMATS)
    with fake_card(subject, *known[0], cap_bytes, repeat=repeat, beside=known[1:]) as fake:
        result = _run(subject, plan, fake, loaded)
        for one in fake.cards:
            one.tracker.close()
    loaded = {"torch": str(torch.__version__), **loaded, **subject.stand_ins(plan.setup)}
    ended = None if result else fake.refused
    books = [
        _book(one, *of, plan, loaded, ended=one is ended) for one, of in zip(fake.cards, known, strict=True)
    ]
    others = [str(one.device).replace(VIRTUAL, "cuda") for one in fake.cards[1:]]
    return replace(
        books[0],
        fallbacks=result.fallbacks if result else (),
        counts=asdict(result.counts) if result else {},
        beside=dict(zip(others, books[1:], strict=True)),
    )


def _known(card: Card) -> tuple[Card, calibration.Found]:
    """A card with the context that was measured of it, and all that was."""
    found = calibration.find(card)
    return (replace(card, context_mib=found.measured.context_mib) if found.measured else card), found


def _book(
    fake: FakeCard,
    card: Card,
    found: calibration.Found,
    plan: Plan,
    loaded: Mapping[str, Any],
    *,
    ended: bool,
) -> Cost:
    """What one card did, and whether the trace `ended` there, as it was too small."""
    tracker, efficiencies = fake.tracker, _efficiencies(card, found.measured)
    return Cost(
        card=card,
        cap_bytes=fake.cap_bytes,
        plan=plan.as_dict(),
        environment={**loaded, "calibration": str(found), "expected": efficiencies.basis},
        stages=tuple(_stage(stage, efficiencies) for stage in tracker.stage_costs.stages.values()),
        samples=tuple(tracker.stage_costs.samples),
        out_of_memory=tracker.refused[-1] if ended else None,
        refusals=tuple(tracker.refused),
        fallbacks=(),
        counts={},
        retries=tracker.allocator.retries,
    )


@contextmanager
def fake_card(
    subject: Subject,
    card: Card,
    found: calibration.Found,
    cap_bytes: int | None = None,
    *,
    repeat: bool = True,
    beside: Sequence[tuple[Card, calibration.Found]] = (),
) -> Iterator[FakeCard]:
    """A fake card for the engine of a subject, and those `beside` it; threads take turns. Arguments are those
    of `predict`."""

    def made(card: Card, found: calibration.Found, **more: Any) -> FakeCard:
        return FakeCard(card, cap_bytes, CUDA(card.capability, found.measured), **more)

    others = [made(*known) for known in beside]
    traces = _traces if repeat else None
    with _turn, made(card, found, traces=traces, repeated=subject.repeated(), beside=others) as fake:
        yield fake


def _efficiencies(card: Card, measured: calibration.Calibration | None) -> Efficiencies:
    """What kernels on `card` reach of its peaks: rates that were measured are the very card's."""
    if measured is None or not measured.of(card):
        return PUBLISHED
    return calibrated(card, measured)


def _run(subject: Subject, plan: Plan, fake: FakeCard, loaded: dict[str, Any]) -> Result | None:
    """Load and run; None where the card was too small for either. `loaded` gets the formats that were."""
    results: list[Result] = []

    @torch.inference_mode()  # tensors without memory take each other's place only if all are of one mode
    def load_and_run() -> None:
        for card in fake.cards:
            card.warm()
        with spans.record(), spans.span(LOADING):
            engine = subject.load_fake(plan.setup, fake, VirtualBudget(fake))
        loaded.update({name: engine.environment.get(name) for name in FORMATS})
        results.append(engine.run(plan))

    tried(load_and_run)
    return results[0] if results else None


def tried(work: Callable[[], None]) -> None:
    """Do `work` as far as the memory of a card goes. Raises MemoryError where that of the host ran out."""
    failure = attempt(work)
    if failure is not None and failure.kind != "device":
        raise MemoryError(failure.message)


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
