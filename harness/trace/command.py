"""A subject's command that predicts what a request costs on a card that is not here. torch waits."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness import card_flags, cards, console
from harness.accelerators import Accelerator
from harness.cards import Card
from harness.files import writable, write_whole
from harness.progress import following
from harness.subject import Subject
from harness.trace.cost import Cost
from harness.trace.report import listing, text


def run(
    options: argparse.Namespace,
    subject: Subject,
    resolve: Callable[[Accelerator], Any],
    facts: Callable[[Cost, Any, Card], Mapping[str, str]],
) -> int:
    """Predict and show; returns the exit code: 0 it fits, 1 it does not. Raises BenchError and OSError.

    `resolve`: the plan on a card; `facts`: what is told beside its cost.
    """
    if options.list_cards:
        print(listing(cards.cards()))
        return 0
    card = card_flags.chosen(options.card, options.device_json, options.max_vram)
    place = writable("--json", options.json, _is_prediction) if isinstance(options.json, Path) else None
    plan = resolve(Accelerator("cuda", card.name, card.memory_gib, capability=card.capability))
    console.warn(subject.name, plan.warnings)
    from harness.trace.predict import predict

    with following("predicting"):
        cost = predict(subject, plan, card)
        basis = facts(cost, plan, card)
    line = json.dumps(cost.as_dict()) if options.json is not None else ""
    print(line if options.json is True else text(cost, basis))
    if place:
        write_whole(place, f"{line}\n".encode())
    return 0 if cost.fits else 1


def _is_prediction(head: bytes) -> bool:
    return head.startswith(b'{"predicted": true,')
