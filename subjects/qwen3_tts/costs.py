"""What a request would cost on a card that is not here: the command. torch waits until the plan is known."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from harness import cards, console
from harness.accelerators import Accelerator
from harness.cards import Card
from harness.files import writable, write_whole
from harness.trace.cost import Cost
from harness.trace.report import card_rates, listing, text
from subjects.qwen3_tts.plan import Plan, resolve
from subjects.qwen3_tts.request import request
from subjects.qwen3_tts.setup import Setup
from subjects.qwen3_tts.subject import SUBJECT

FRAMES = 4  # of a request whose launches are counted, with one more and without
MAKING = ("talker_decode", "sampling", "code_predictor")  # stages that make frames


def run(options: argparse.Namespace) -> int:
    """Predict and show; returns the exit code: 0 it fits, 1 it does not. Raises BenchError and OSError."""
    if options.list_cards:
        print(listing(cards.cards()))
        return 0
    card = cards.chosen(options.card, options.device_json, options.max_vram)
    place = writable("--json", options.json, _is_prediction) if isinstance(options.json, Path) else None
    setup = Setup.choose(
        options.source,
        model=options.model,
        dtype=options.dtype,
        graphs=options.graphs,
        strict=options.strict,
        accelerator=Accelerator("cuda", card.name, card.memory_gib, capability=card.capability),
    )
    plan = resolve(request(options.duration_s, batch_size=options.batch_size), setup)
    for warning in plan.warnings:
        console.say("qwen3_tts", f"warning: {warning}")
    from harness.trace.predict import predict

    cost = predict(SUBJECT, plan, card)
    launches = frame_launches(plan, card) if cost.fits else {}
    line = json.dumps(cost.as_dict()) if options.json is not None else ""
    if place:
        write_whole(place, f"{line}\n".encode())
    print(line if options.json is True else text(cost, facts(cost, launches)))
    return 0 if cost.fits else 1


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


def _is_prediction(head: bytes) -> bool:
    return head.startswith(b'{"predicted": true,')
