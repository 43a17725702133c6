"""What a request would cost on a card that is not here: the command. torch waits until the plan is known."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace

from harness.accelerators import Accelerator
from harness.cards import Card
from harness.trace import command
from harness.trace.cost import Cost
from harness.trace.report import card_rates
from subjects.qwen3_tts.plan import Plan, resolve
from subjects.qwen3_tts.request import request
from subjects.qwen3_tts.setup import Setup
from subjects.qwen3_tts.subject import SUBJECT

FRAMES = 2  # of a request whose launches are counted, with one more and without
MAKING = ("talker_decode", "sampling", "code_predictor")  # stages that make frames


def run(options: argparse.Namespace) -> int:
    """Predict and show; returns the exit code: 0 it fits, 1 it does not. Raises BenchError and OSError."""

    def planned(card: Accelerator) -> Plan:
        setup = Setup.choose(
            options.source,
            model=options.model,
            dtype=options.dtype,
            graphs=options.graphs,
            strict=options.strict,
            accelerator=card,
        )
        return resolve(request(options.duration_s, batch_size=options.batch_size), setup)

    def basis(cost: Cost, plan: Plan, card: Card) -> dict[str, str]:
        return facts(cost, frame_launches(plan, card) if cost.fits else {})

    return command.run(options, SUBJECT, planned, basis)


def facts(cost: Cost, launches: Mapping[str, int]) -> dict[str, str]:
    """What was resolved: card and plan; and what a frame launches, by stage."""
    card, plan = cost.card, cost.plan
    steps = "steps as graphs" if plan["graphs"] else "kernel by kernel"
    return {
        "card": f"{card.name}: {card.memory_gib:.2f} GiB",
        "rates": card_rates(cost),
        "plan": f"{plan['batch_size']} x {plan['duration_s']:g} s, {plan['frames']} frames; {plan['model']}, "
        f"{plan['prompt_rows']} rows of prompt",
        "weights": f"shapes of {plan['source']} in {cost.environment['dtype']}, eager, {steps}",
        "a frame": f"{sum(launches.values())} launches: "
        + ", ".join(f"{count} of {stage}" for stage, count in launches.items()),
    }


def frame_launches(plan: Plan, card: Card) -> dict[str, int]:
    """Launches of one more frame by the stage that makes it, once its steps are recorded, if they are."""
    from harness.trace.predict import predict

    few, more = (predict(SUBJECT, replace(plan, frames=frames), card) for frames in (FRAMES, FRAMES + 1))
    before = {stage.stage: stage.work.launches for stage in few.running}
    return {
        stage.stage: stage.work.launches - before[stage.stage]
        for stage in more.running
        if stage.stage in MAKING
    }
