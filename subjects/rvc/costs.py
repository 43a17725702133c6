"""What a conversion would cost on a card that is not here: the command. torch waits for the plan."""

from __future__ import annotations

import argparse

from harness.accelerators import Accelerator
from harness.cards import Card
from harness.trace import command
from harness.trace.cost import Cost
from harness.trace.report import card_rates
from subjects.rvc.plan import Plan, resolve
from subjects.rvc.request import request
from subjects.rvc.setup import Setup
from subjects.rvc.subject import SUBJECT


def run(options: argparse.Namespace) -> int:
    """Predict and show; returns the exit code: 0 it fits, 1 it does not. Raises BenchError and OSError."""

    def plan(card: Accelerator) -> Plan:
        setup = Setup.choose(
            options.source,
            model=options.model,
            voice=options.voice,
            strict=options.strict,
            accelerator=card,
        )
        return resolve(request(options.duration_s, batch_size=options.batch_size), setup)

    return command.run(options, SUBJECT, plan, _facts)


def _facts(cost: Cost, plan: Plan, card: Card) -> dict[str, str]:
    """What was resolved: card and plan."""
    request = plan.request
    return {
        "card": f"{card.name}: {card.memory_gib:.2f} GiB",
        "rates": card_rates(cost),
        "plan": f"{request.batch_size} x {request.duration_s:g} s and 2 s of reflected edges; "
        f"{plan.setup.model}, {plan.sample_rate:,} Hz",
        "weights": f"shapes of {plan.setup.source} in {cost.environment['dtype']}, eager, kernel by kernel",
    }
