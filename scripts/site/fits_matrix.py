"""What fits which card, predicted: the fit matrix of all, as the record that the page is made from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from datetime import UTC, datetime
from io import StringIO
from itertools import pairwise
from pathlib import Path

import msgspec

import tiersim.__main__ as tiersim
from acestep.costs.fits import Predictor, Question, limits
from acestep.subject import SUBJECT
from acestep.weights.layout import DIT_PREFIX, SYNTHETIC
from harness import cards
from harness.chart import colours
from harness.errors import BenchError
from harness.files import write_whole
from harness.flags import spelled
from harness.memory import GIB
from harness.processes import Processes
from harness.progress import Progress
from harness.records import machine
from scripts.site.fits_record import Card, Case, Cell, Fits, Limits, Stretch, page_of
from tiersim import matrix, picture
from tiersim.case import Plan
from tiersim.fits import LEVELS, Column, Row, fit_matrix
from tiersim.notes import predicted_on, with_lm
from tiersim.prediction import predict_plan
from tiersim.record import Record
from tiersim.results import Results

SOURCE = SYNTHETIC[1]
MATRIX = ("--predict", "--matrix", "--source", SOURCE)


def run(folder: Path, sizes: Sequence[str]) -> None:
    """Predict the matrix of all cards or of some `sizes`, and the most of each, into `folder`."""
    words = [*MATRIX, *(("--tiers", *sizes) if sizes else ())]
    plans, records = _matrix(words, folder / "matrix")
    most = _most(plans)
    write_whole(folder / "fits.json", msgspec.json.encode(collected(plans, records, most)))


def _matrix(words: Sequence[str], folder: Path) -> tuple[list[Plan], dict[str, Record]]:
    """The plans of all cells, and the record of each by its key."""
    with spelled({"argument --tiers": "argument GB", "tier_gb": "GB"}):  # a size that is none is refused here
        options = tiersim.arguments().parse_args(words)
        bases = matrix.bases(options, cards.find(cards.DEFAULT))
    with redirect_stdout(StringIO()):  # its table; what is left to do is said on standard error
        code = tiersim.main([*words, "--out", str(folder)])
    if code > 1:  # 1 is of cards that are too small
        raise BenchError(f"the matrix could not be predicted (exit code {code})")
    plans = [plan for base in bases for plan in matrix.series(options, base).cells]
    with Results(folder) as results:
        known = {plan.key: predict_plan(plan) if plan.skip else results.find(plan) for plan in plans}
    records = {key: record for key, record in known.items() if record}
    if len(records) < len(known):
        raise BenchError(
            f"{folder}: the code changed meanwhile, so some cases are of other code; start again"
        )
    return plans, records


def _most(plans: Iterable[Plan]) -> list[Limits]:
    """What each size of card holds at most."""
    sizes = sorted({plan.requested.tier_gb for plan in plans})
    with Processes() as processes, Progress(len(sizes)) as progress:
        progress.begin("the longest song and the largest batch of each card")
        most = []
        for limits_of_size in processes.map(limits_of, sizes):
            most.append(limits_of_size)
            progress.end()
    return most


def limits_of(size_gb: float) -> Limits:
    """What a card of a size holds at most by its own settings, with its language model if it has one."""
    question = Question(size_gb, cards.find(cards.DEFAULT), source=SOURCE)
    longest, largest = limits(replace(question, lm=question.tier.has_lm), Predictor())
    return Limits(
        size_gb,
        longest.fit and longest.fit.duration_s,
        longest.of_request,
        largest.fit and largest.fit.batch_size,
        largest.of_request,
    )


def collected(plans: Sequence[Plan], records: Mapping[str, Record], most: Iterable[Limits]) -> Fits:
    """All that the page shows of predictions."""
    fits = fit_matrix(plans, records)
    ran = {key: record for key, record in records.items() if record.status != "skip"}
    links = {key: f"{page_of(record.requested.tier_gb)}#{key}" for key, record in ran.items()}
    blocks = dict.fromkeys(dict(plan.requested.choices)["dit"] for plan in plans)
    stories = {cell.key: cell.story.partition(": ")[2] for cell in fits.cells if cell.key}
    commit, dirty = machine.revision()
    facts = predicted_on(records.values())
    case = plans[0].requested
    return Fits(
        commit=commit or "",
        dirty=bool(dirty),
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        request=f"{case.duration_s:g} s of audio, batch {case.batch_size}, {case.steps} steps",
        rests_on=tuple(facts),
        cards=tuple(Card(column.size_gb, column.lm) for column in fits.columns),
        cells=tuple(
            cell
            for model, block in zip(blocks, fits.blocks, strict=True)
            for row in block.rows
            for cell in _cells(str(model).removeprefix(DIT_PREFIX), row, fits.columns, ran)
        ),
        cases=tuple(_case(ran[key], story) for key, story in stories.items() if key in ran),
        most=tuple(most),
        colours={level: tuple(colour) for level, colour in picture.COLOURS.items()},
        stages=colours(SUBJECT.stages),
        svg=str(picture.svg(fits, facts, links, predicted=True)),
    )


def _cells(model: str, row: Row, columns: Iterable[Column], records: Mapping[str, Record]) -> Iterator[Cell]:
    """A row of the matrix, in words that say what is left of each card."""
    for column, cell in zip(columns, row.cells, strict=True):
        record = records.get(cell.key)
        words = cell.text
        if record and cell.level in LEVELS:
            left_gb = column.size_gb - (record.peak_bytes or 0) / GIB
            words = f"yes, {left_gb:.1f} GB to spare"
        yield Cell(column.size_gb, model, row.lm, row.variant, cell.level, words, cell.key if record else "")


def _case(record: Record, story: str) -> Case:
    case = record.requested
    model = str(dict(case.choices)["dit"]).removeprefix(DIT_PREFIX)
    title = f"{model}, {with_lm(record.lm)}, {case.variant}"
    return Case(record.key, title, story, tuple(_stretches(record)))


def _stretches(record: Record) -> Iterator[Stretch]:
    """The memory of a record over time: a step for as long as a stage has as much in use, in two digits."""
    assert record.cap
    outside_bytes = int(record.requested.tier_gb * GIB) - record.cap.bytes
    step = None
    for sample, following in pairwise(record.timeline):
        stage, used_gb = sample.phase.partition("/")[0], round((outside_bytes + sample.used_bytes) / GIB, 2)
        if step and (step.stage, step.used_gb) == (stage, used_gb):
            step = msgspec.structs.replace(step, to_s=following.t_s)
            continue
        if step:
            yield step
        step = Stretch(sample.t_s, following.t_s, stage, used_gb)
    if step:
        yield step
