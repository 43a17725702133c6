"""The command's `--anchors`: predicts what was published and shows both.

Predictions are of our engine in eager PyTorch on the figure's card: nothing is compiled, offloaded or
quantized, and no step is a graph. torch waits until the file is read.
"""

from __future__ import annotations

import json
import textwrap
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import msgspec

from acestep.costs import anchors
from acestep.costs.anchors import Anchor, Compared
from acestep.effective_plan import EffectivePlan
from acestep.setup import NONE, Setup
from acestep.subject import SUBJECT
from acestep.tier_options import METADATA
from harness import cards
from harness.accelerators import Accelerator
from harness.cards import Card
from harness.errors import BenchError, UsageError
from harness.files import write_whole
from harness.progress import Progress
from harness.text import harmless
from harness.trace.expected import PUBLISHED, Kinds, Range

SOURCE = "synthetic-full"
LEAST = 3  # of which two are left, and have a range
COLUMNS = 79
WIDTHS = (18, 23, 10, 8, 13, 7)
HEADS = (("", "", "published", "floor", "expected", "ours"), ("card", "what", "s", "s", "s", "s"))


def run(as_json: Path | bool | None) -> int:
    """Predict, show; returns the exit code: 0 all is as the file and `PUBLISHED` have it, else 1.

    Raises BenchError for a file that is wrong, OSError for one that cannot be written.
    """
    figures = anchors.read()
    comparable = sum(figure.comparable for figure in figures)
    if comparable < LEAST:
        few = f"{comparable} figures of eager PyTorch are too few; give {LEAST}, to expect one by the others"
        raise UsageError(f"{anchors.FILE.name!r}: {few}")
    with Predictions(figures) as predictions:
        rows = anchors.compared(figures, predictions.kinds)
    line = json.dumps(as_dict(rows)) if as_json else ""
    print(line if as_json is True else text(rows))
    if isinstance(as_json, Path):
        write_whole(as_json, f"{line}\n".encode())
    return 0 if as_recorded(rows) else 1


class Predictions:
    """What each of `figures` takes at the roofline; one prediction serves all that are of a request."""

    def __init__(self, figures: Sequence[Anchor]) -> None:
        count = len(set(map(_request, figures)))
        self._progress = Progress(count, count)
        self._of: dict[Any, dict[str, Kinds]] = {}

    def __enter__(self) -> Self:
        self._progress.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._progress.__exit__(*error)

    def kinds(self, anchor: Anchor) -> Kinds:
        """Seconds at the roofline by kind of kernel and resource, of the stage that was timed."""
        key = _request(anchor)
        if key not in self._of:
            self._progress.step(f"predicting {anchor.name}, {anchor.card}")
            self._of[key] = _stages(anchor)
        return self._of[key][anchor.stage]


def _request(anchor: Anchor) -> tuple[object, ...]:
    """The settings that a prediction depends on."""
    return anchor.card, anchor.dit, anchor.lm, anchor.duration_s, anchor.batch, anchor.steps


def _stages(anchor: Anchor) -> dict[str, Kinds]:
    """The kinds of each stage, and of all together."""
    card = cards.find(anchor.card)
    try:
        plan = _plan(anchor, card)
    except BenchError as error:
        raise type(error)(f"{anchors.FILE.name!r}: {anchor.name}, {anchor.card}: {error}") from None
    from harness.trace.predict import predict

    cost = predict(SUBJECT, plan, card)
    if not cost.fits:
        raise BenchError(f"{anchor.name}, {anchor.card}: out of memory in {cost.out_of_memory}")
    total: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for stage in cost.running:
        for kind, resources in stage.kinds.items():
            for resource, roofline_s in resources.items():
                total[kind][resource] += roofline_s
    return {stage.stage: stage.kinds for stage in cost.running} | {anchors.TOTAL: total}


def _plan(anchor: Anchor, card: Card) -> EffectivePlan:
    planned = anchor.lm is not None
    setup = Setup.choose(
        SOURCE,
        accelerator=Accelerator("cuda", card.name, card.memory_gib, capability=card.capability),
        dit=anchor.dit,
        lm=anchor.lm,
        want_lm=planned,
        lm_backend="pt",
        offload_to_cpu=False,
        offload_dit_to_cpu=False,
        quantization=NONE,
        compile=False,
        graphs=False,
        strict=True,
        no_limits=True,
    )
    request = SUBJECT.request(
        anchor.duration_s, anchor.batch, thinking=planned, inference_steps=anchor.steps, **METADATA
    )
    return SUBJECT.resolve(request, setup)


def as_recorded(rows: Sequence[Compared]) -> bool:
    """Whether no figure is below its floor, those missed say so, and the fit is what predictions use."""
    misses = all((row.within is False) == (row.anchor.missed is not None) for row in rows)
    return misses and not any(row.below for row in rows) and _fit(rows) == PUBLISHED.otherwise


def _fit(rows: Sequence[Compared]) -> Range:
    return anchors.refitted([row.anchor for row in rows])


def as_dict(rows: Sequence[Compared]) -> dict[str, Any]:
    """Plain JSON values."""
    comparable = [row for row in rows if row.within is not None]
    return {
        "predicted": True,
        "comparable": len(comparable),
        "within": sum(row.within is True for row in comparable),
        "below_floor": [[row.anchor.card, row.anchor.name] for row in rows if row.below],
        "efficiency": {
            "fitted": _fit(rows),
            "used": PUBLISHED.otherwise,
            "basis": PUBLISHED.basis,
        },
        "anchors": [
            msgspec.to_builtins(row.anchor)
            | {"published_s": row.anchor.published, "within": row.within, "below_floor": row.below}
            | {name: getattr(row, name) for name in ("floor_s", "expected_s", "ours_s")}
            for row in rows
        ],
    }


def text(rows: Sequence[Compared]) -> str:
    """Verdict, table, and what is to be known of single figures; 79 columns."""
    table = [_aligned(cells) for cells in (*HEADS, *map(_cells, rows))]
    blocks = (list(_verdict(rows)), table, list(_remarks(rows)))
    return "\n\n".join("\n".join(block) for block in blocks)


def _verdict(rows: Sequence[Compared]) -> Iterator[str]:
    comparable = [row for row in rows if row.within is not None]
    within, below = sum(row.within is True for row in comparable), sum(row.below for row in rows)
    yield f"{within} of {len(comparable)} figures of eager PyTorch lie where the others expect them"
    yield f"{below or 'none'} of {len(rows)} figures {'is' if below < 2 else 'are'} below the floor"
    fit, used = _fit(rows), PUBLISHED.otherwise
    yield f"a run takes {1 / fit.high:.1f} to {1 / fit.low:.1f} times its roofline: efficiency {_range(fit)}"
    if fit != used:
        yield f"predictions still use {_range(used)}: write the fit to PUBLISHED of harness/trace/expected.py"


def _cells(row: Compared) -> tuple[str, ...]:
    anchor, range_s = row.anchor, row.expected_s
    published = f"< {anchor.at_most_s:g}" if anchor.bound_only else _range(anchor.published)
    floor = f"{'!' if row.below else ''}{_short(row.floor_s)}"
    expected = f"{'!' if row.within is False else ''}{_range(range_s)}" if range_s else "-"
    return anchor.card, anchor.name, published, floor, expected, _short(row.ours_s)


def _remarks(rows: Sequence[Compared]) -> Iterator[str]:
    yield from _wrapped(
        "floor: of eager PyTorch the roofline of the kernels it ran; of others an ideal that moves operands "
        "and results of matrix products, attention and convolutions only. expected: what the other figures "
        "make of that roofline. ours: the roofline of our eager kernels. !: a figure is not so"
    )
    for row in rows:
        missed = f"not within: {row.anchor.missed}" if row.anchor.missed else None
        for remark in filter(None, (missed, row.anchor.remark)):
            yield from _wrapped(f"{row.anchor.name}, {row.anchor.card}: {remark}")


def _aligned(cells: Sequence[str]) -> str:
    card, what, *numbers = (harmless(cell) for cell in cells)
    left = f"{card:<{WIDTHS[0]}}{what:<{WIDTHS[1]}}"
    return left + "".join(f"{cell:>{width}}" for cell, width in zip(numbers, WIDTHS[2:], strict=True))


def _range(ends: Range) -> str:
    return _short(ends.low) if ends.low == ends.high else f"{_short(ends.low)}-{_short(ends.high)}"


def _short(number: float) -> str:
    """Three digits, and at most four of them behind the point."""
    return f"{number:.4f}" if number < 0.1 else f"{number:.3g}"


def _wrapped(line: str) -> list[str]:
    return textwrap.wrap(harmless(line), COLUMNS, subsequent_indent="  ", break_on_hyphens=False)
