"""What the flags of a tier test mean together: whether it runs or predicts, and which would say nothing.

Each function raises UsageError, about the flag that is to be dropped.
"""

from __future__ import annotations

import argparse

from harness import cards
from harness.cards import Card
from harness.checks import within
from harness.errors import UsageError
from harness.tiers import BATCHES
from tiersim.case import PREDICTED, here

MAX_REPEATS, MAX_BATCH, MAX_JOBS = 100, BATCHES[-1], 1024
OF_RUNS = ("device", "cap", "gpus", "scheduler", "repeats", "case_timeout")  # flags


def card_of(options: argparse.Namespace) -> Card | None:
    """The card to predict for, None to run: what a flag asks for or implies, else what the machine is.

    Raises MissingPrerequisite for the file of a card that cannot be read.
    """
    given = {name for name, value in vars(options).items() if value is not None}
    of_runs = [name for name in OF_RUNS if name in given]
    of_predictions = [name for name in ("card", "device_json") if name in given]
    predict = options.predict or options.suggest
    if not (predict or options.run or of_runs):
        predict = bool(of_predictions) or here().device == "cpu"
    for name in of_runs if predict else of_predictions:
        what, other = ("predicted", "--run") if predict else ("run", "--predict")
        raise UsageError(f"{name}: has no meaning for cases that are {what}; drop it, or use {other}")
    if len(of_predictions) == 2:
        raise UsageError("device_json: given with --card; keep one of them")
    if not predict:
        return None
    if options.device_json is not None:
        return cards.read(options.device_json)
    return cards.find(cards.DEFAULT if options.card is None else options.card, cards.OR_A_FILE)


def check(options: argparse.Namespace) -> None:
    """Flags of cases, and of what is kept of them."""
    for name, most in (("repeats", MAX_REPEATS), ("jobs", MAX_JOBS)):
        if (value := getattr(options, name)) is not None:
            within(name, value, 1, most, kind=int)
    for batch in options.batch_sizes or ():
        within("batch_sizes", batch, 1, MAX_BATCH, kind=int)
    if options.batch_sizes and not options.batch_boundary:
        raise UsageError("batch_sizes: are tried by --batch-boundary; add it, or drop them")
    if options.variants and (options.boundary or options.matrix):
        raise UsageError("variants: all are compared for a boundary or a matrix; drop one of them")
    if options.json_compat and not options.benchmark_output:
        raise UsageError("json_compat: is a form of a file; name it with --benchmark-output FILE")
    for name in ("boundary", "batch_boundary") if options.matrix else ():
        if getattr(options, name):
            raise UsageError(f"{name}: has no meaning for a whole matrix; drop it, or the matrix")
    if options.rerun and not options.out:
        raise UsageError("rerun: concerns what is kept; name the folder with --out DIR")


def check_suggest(options: argparse.Namespace) -> None:
    """Flags beside --suggest, which has cases of its own."""
    unused = (
        *("duration", "batch_size", "strict", "no_limits", "with_lm", "run", "dry_run", "matrix"),
        *("boundary", "batch_boundary", "batch_sizes", "variants", "baseline", "benchmark_output", "svg"),
    )
    for name in unused:
        if getattr(options, name):
            raise UsageError(f"{name}: has no use beside --suggest, which looks for limits; drop it")


def check_places(options: argparse.Namespace, device: str) -> None:
    """Flags of how many cases run at a time, where they run on `device`."""
    if options.gpus and device != "cuda":
        raise UsageError(f"gpus: names cards, and the device is {device}; drop one of them")
    for name in ("gpus", "jobs") if options.scheduler else ():
        if getattr(options, name):
            raise UsageError(f"{name}: is of this machine, a scheduler has its own workers; drop one of them")
    if options.jobs and device not in ("cpu", PREDICTED):
        raise UsageError(f"jobs: a card runs one case at a time, and the device is {device}; drop it")
