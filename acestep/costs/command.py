"""What the command does: choose a card and a plan, predict, show. torch waits until the plan is known."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from acestep import placement, resolver
from acestep.cli.examples import example_names, load_example, music_example
from acestep.cli.upstream import LeftOut
from acestep.costs import page, report
from acestep.presets import PRESETS
from acestep.request import GenerationConfig, GenerationParams
from acestep.setup import NONE, Setup
from acestep.subject import SUBJECT
from harness import card_flags, cards, console
from harness.accelerators import Accelerator
from harness.adjustments import Adjustments
from harness.cards import Card
from harness.errors import MissingPrerequisite, UsageError
from harness.files import apart, writable, write_whole
from harness.flags import spelled
from harness.page import is_page
from harness.progress import following
from harness.subject import item_seeds
from harness.trace.report import listing


def run(options: argparse.Namespace) -> int:
    """Do what the options ask for; returns the exit code: 0 it fits, 1 it does not.

    Raises BenchError for what cannot be predicted, OSError for a file that cannot be written.
    """
    if options.list_cards:
        print(listing(cards.cards()))
        return 0
    if options.anchors:
        from acestep.costs import anchor_report

        return anchor_report.run(_json(options))
    if options.lm_fits:
        from acestep.costs import lm_fits

        return lm_fits.run(options.lm_fits)
    found = _cards(options)
    as_json = _json(options)
    json_file = as_json if isinstance(as_json, Path) else None
    html_file = writable("--html", options.html, is_page) if options.html else None
    apart({"--html": html_file, "--json": json_file})
    left_out = LeftOut(Adjustments(options.strict))
    params, config, names = _request(options, left_out)
    with spelled(names):
        setup = _setup(options, found, thinks=params.thinking)
        plan = left_out.told_in(resolver.resolve(params, config, setup))
    console.warn("acestep.costs", plan.warnings)
    from harness.trace.predict import predict

    beside = [_of_number(found, number) for number in range(1, placement.beside(setup.placed) + 1)]
    with following("predicting"):
        cost = predict(SUBJECT, plan, found[0], beside=beside)
    line = json.dumps(cost.as_dict()) if as_json else ""
    print(line if as_json is True else report.text(cost))
    if html_file:
        write_whole(html_file, page.page(cost).encode())
    if json_file:
        write_whole(json_file, f"{line}\n".encode())
    return 0 if cost.fits else 1


def _json(options: argparse.Namespace) -> Path | bool | None:
    """The file of --json, with links followed; True where the prediction is to be printed. Raises UsageError
    for a file that cannot be written."""
    as_json = options.json
    return writable("--json", as_json, _is_prediction) if isinstance(as_json, Path) else as_json


def _is_prediction(head: bytes) -> bool:
    """Whether a file that begins with `head` is one of --json."""
    return head.startswith(b'{"predicted": true,')


def _cards(options: argparse.Namespace) -> list[Card]:
    """The cards by their numbers; a single one is that of every number."""
    names = options.card or [None]
    found = [card_flags.chosen(name, options.device_json, options.max_vram) for name in names]
    if len(found) > 1 and options.place is None:
        raise UsageError("--card: several are for --place, which says what is on which; name one")
    return found


def _of_number(found: Sequence[Card], number: int) -> Card:
    """The card of a number. Raises MissingPrerequisite where there are several, and not so many."""
    if 1 < len(found) <= number:
        raise MissingPrerequisite(f"device: --card names {len(found)}, and none is cuda:{number}")
    return found[number] if len(found) > 1 else found[0]


def _accelerator(card: Card) -> Accelerator:
    return Accelerator("cuda", card.name, card.memory_gib, capability=card.capability)


def _beside(found: Sequence[Card], device: str) -> Accelerator:
    """What is called `device` beside the cards that are named."""
    number = placement.index_of(device)
    return placement.here(device) if number is None else _accelerator(_of_number(found, number))


def _request(
    options: argparse.Namespace, left_out: LeftOut | None = None
) -> tuple[GenerationParams, GenerationConfig, dict[str, str]]:
    """The example's request with the flags over it; it plans where the flags say so, as when profiled.

    With it, how errors name what the example chose.
    """
    path = music_example(options.example)
    params, config = load_example(path, left_out, PRESETS.get(options.preset))
    preset = PRESETS[config.preset]
    flags = {"duration": options.duration, "inference_steps": options.steps, "shift": options.shift}
    changes = {name: value for name, value in flags.items() if value is not None}
    size = config.batch_size if options.batch_size is None else options.batch_size
    config = replace(config, batch_size=size, seeds=None)
    config = replace(config, seeds=item_seeds(0, size))
    changes["thinking"] = preset.params.thinking if options.thinking is None else options.thinking
    return replace(params, **changes), config, example_names(path, params, changes, preset.params)


def _setup(options: argparse.Namespace, found: Sequence[Card], *, thinks: bool) -> Setup:
    """The engine on the cards, the language model by our own backend: what another does is not traced.

    Whether this machine could compile for the card is of no matter.
    """
    unwanted = options.lm == NONE or (options.lm == "auto" and not thinks)
    setup = Setup.choose(
        options.source,
        accelerator=_accelerator(found[0]),
        place=options.place,
        beside=partial(_beside, found),
        dtype=options.dtype,
        dit=options.dit,
        lm=None if unwanted else options.lm,
        want_lm=thinks,
        lm_backend="pt",
        offload_to_cpu=options.offload,
        offload_dit_to_cpu=options.offload_dit,
        quantization=options.quantization,
        lm_quantization=options.lm_quantization,
        compile=False,
        graphs=options.graphs,
        strict=options.strict,
        no_limits=options.no_limits,
        policy=options.policy,
    )
    return replace(setup, compile=bool(options.compile))
