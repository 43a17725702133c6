"""Pairs of a trial of the gate, kept in a file, and judged anew as often as one likes."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from harness.errors import UsageError
from harness.files import write_whole
from scripts.gate.statistics import Judgement, judge, pairs_needed, share
from scripts.gate.timing import FEWEST_PAIRS, ROUNDS

Times = list[Annotated[float, Meta(gt=0)]]


class Kept(msgspec.Struct, frozen=True):
    """The pairs of a series in one run, as a file has them."""

    unit: str
    base: Times
    head: Times
    name: str = ""


def write(path: Path, every: Sequence[Kept]) -> None:
    """Write the pairs of all runs. Raises OSError."""
    write_whole(path, msgspec.json.encode(every))


def read(path: Path) -> list[Kept]:
    """The pairs in a file. Raises UsageError where it has none."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Annotated[list[Kept], Meta(min_length=1)])
    except OSError as error:
        reason = error.strerror
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        reason = str(error)
    raise UsageError(f"--replay: {str(path)!r} has no pairs ({reason}); --keep writes such a file")


def replayed(
    every: list[Kept], component: str, percent: float, times: int, looks: int
) -> Iterator[tuple[str, Judgement, str]]:
    """Judge as the gate does, look after look, on rounds drawn from those that were kept, each series' own;
    HEAD is slower by so many percent. Yields names, judgements, and what they rest on.

    Consecutive pairs stay together, so bursts do; which of a pair is HEAD is drawn by lot. Raises UsageError
    where a run has fewer pairs than a round.
    """
    series: dict[str, list[Kept]] = {}
    for run in every:
        series.setdefault(run.name or component, []).append(run)
    lot = random.Random(0)
    size = max(FEWEST_PAIRS, -(-pairs_needed(len(series)) // ROUNDS))
    if (fewest := min(min(len(run.base), len(run.head)) for run in every)) < size:
        raise UsageError(f"--replay: a run of {fewest} pairs is too short; keep runs of {size} at least")
    for _, (name, runs) in itertools.product(range(times), series.items()):
        run = lot.choice(runs)
        base: list[float] = []
        head: list[float] = []
        for look in range(1, looks + 1):
            for _ in range(ROUNDS if look == 1 else 2):
                first = lot.randrange(min(len(run.base), len(run.head)) - size + 1)
                for pair in zip(*(side[first : first + size] for side in (run.base, run.head)), strict=True):
                    a, b = lot.sample(pair, 2)
                    base.append(a)
                    head.append(b * (1 + percent / 100))
            sizes = [size] * (len(base) // size)
            judgement = judge(base, head, run.unit, share(len(series), look), sizes)
            if judgement.verdict != "cannot tell":
                break
        yield name, judgement, f"{len(base)} pairs, look {look}"
