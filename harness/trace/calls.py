"""What calls of parts of an engine cost on a card that is not here: seconds and FLOP by kind of kernel.

costs = predict_calls(subject, setup, card, [partial(scaling.call, component="vae_decode", length=30)])
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any, Protocol

import torch

from harness import spans
from harness.cards import Card
from harness.subject import Setup, Subject
from harness.trace import calibration
from harness.trace.fake_card import FakeCard
from harness.trace.predict import fake_card, tried
from harness.trace.stage_costs import PS, Stage
from harness.virtual_card import VirtualBudget


class Call(Protocol):
    """Work inside a span `stage`, which is what counts of it."""

    @property
    def stage(self) -> str: ...
    @property
    def run(self) -> Callable[[], Any]: ...


Open = Callable[[Any], AbstractContextManager[Call]]  # of an engine


@dataclass(frozen=True, slots=True)
class CallCost:
    """`seconds` at the roofline, `flop` by kind of kernel."""

    seconds: float
    flop: Mapping[str, int]


def predict_calls(
    subject: Subject, setup: Setup, card: Card, calls: Sequence[Open]
) -> Iterator[CallCost | None]:
    """The cost of each of `calls` of the engine of `setup` on `card`; None for one the card is too small for.

    The engine is loaded once. Raises what a call raises, but for too little memory of the card.
    """
    with fake_card(subject, card, calibration.find(card)) as fake, torch.inference_mode():
        engines: list[Any] = []
        tried(lambda: engines.append(_load(subject, setup, fake)))
        for opened in calls:
            costs: list[CallCost] = []
            for engine in engines:
                tried(partial(_trace, opened, engine, fake, costs))
            yield costs[0] if costs else None


def _load(subject: Subject, setup: Setup, fake: FakeCard) -> Any:
    fake.warm()
    return subject.load_fake(setup, fake, VirtualBudget(fake))


def _trace(opened: Open, engine: Any, fake: FakeCard, costs: list[CallCost]) -> None:
    with opened(engine) as call:
        stages = fake.tracker.stage_costs.stages
        before_ps, before = _sums(stages.get(call.stage))
        with spans.record():
            call.run()
        after_ps, after = _sums(stages[call.stage])
    flop = {kind: round(amount - before.get(kind, 0)) for kind, amount in after.items()}
    costs.append(CallCost(round(after_ps - before_ps) / PS, {kind: n for kind, n in flop.items() if n}))


def _sums(stage: Stage | None) -> tuple[int | Fraction, dict[str, int | Fraction]]:
    """Picoseconds of a stage so far, and its FLOP."""
    return (sum(stage.ps.values()), dict(stage.flop)) if stage else (0, {})
