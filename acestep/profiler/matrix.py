"""The benchmark matrix: durations, batches, thinking and steps, each on one engine loaded once.

Cheap configurations come first, so that a budget of minutes buys as many rows as it can. Two requests that
the card's tier clamps to the same run are measured once and listed twice.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from msgspec.structs import replace as changed

from acestep import fields, placement, resolver
from acestep.defaults import DEFAULT_SEED
from acestep.effective_plan import EffectivePlan
from acestep.gpu_config import GUIDE
from acestep.profiler import tables
from acestep.profiler.flags import BENCHMARK
from acestep.profiler.options import Options
from acestep.progress import work
from acestep.request import GenerationConfig, GenerationParams
from acestep.setup import Setup
from acestep.subject import SUBJECT
from acestep.tasks import SAMPLING_FIELDS
from harness.adjustments import Adjustment
from harness.budget import shortage
from harness.cards import Card
from harness.memory import GIB
from harness.progress import Progress
from harness.records.making import throttled
from harness.records.performance_plan import FEATURES
from harness.records.schema import Item, key_of
from harness.subject import item_seeds
from harness.trace.cost import Cost

DURATIONS_S, BATCHES, THINKING, STEPS = (30.0, 60.0, 120.0, 240.0), (1, 2, 4), (False, True), (8, 16)
READ_BACK = ("device", *FEATURES)  # of the engine that ran, which a plan only asks for
LATE = "no time left: "  # how the reason of a row begins that was not begun
UNPLANNED = {name: fields.DEFAULTS[name] for name in SAMPLING_FIELDS}  # of rows that plan nothing


@dataclass(frozen=True, slots=True)
class Row:
    """One request to measure, and the plan it comes to. `engine`: what flags ask of the engine."""

    params: GenerationParams
    config: GenerationConfig
    plan: EffectivePlan
    engine: Mapping[str, Any] = field(default_factory=dict)

    @property
    def work(self) -> float:
        """How much there is to do, in arbitrary units."""
        return work(self.plan)

    @property
    def axes(self) -> tuple[float | None, int, bool, int | None]:
        """Its place in the matrix: duration in seconds, batch, thinking, steps."""
        params = self.params
        return params.duration, self.config.batch_size, params.thinking, params.inference_steps

    def __str__(self) -> str:
        duration_s, batch, thinking, steps = self.axes
        length = "length by the LM" if duration_s is None else f"{duration_s:g} s"
        return f"{length}, batch {batch}, {'' if thinking else 'not '}thinking, {steps} steps"

    @property
    def requested(self) -> dict[str, Any]:
        """The request as plain values, for a record."""
        setup = self.plan.setup
        limits = {"strict": setup.strict, "no_limits": setup.no_limits}
        limits |= {} if setup.policy == GUIDE else {"policy": setup.policy}
        limits |= {"place": {each.part: each.device for each in setup.placed}} if setup.placed else {}
        return asdict(self.params) | asdict(self.config) | limits | dict(self.engine)

    @property
    def key(self) -> str:
        """Name of the request in a record."""
        return key_of(BENCHMARK, self.requested)

    @property
    def same_run(self) -> tuple[object, ...]:
        """Equal for rows that would run the same."""
        effective = self.plan.params
        return effective.duration, self.plan.config.batch_size, self.plan.lm_codes, len(self.plan.times)


def rows(options: Options, setup: Setup) -> list[Row]:
    """Every row there is, cheapest first. An axis named on the command line has that one value.

    A setup without a language model has no rows that think.
    """

    def axis(name: str, value: object, values: tuple) -> tuple:
        return (value,) if options.origins.get(name) == "flag" else values

    params, config = options.params, options.config
    table = []
    for duration, batch, thinking, steps in itertools.product(
        axis("duration", params.duration, DURATIONS_S),
        axis("batch_size", config.batch_size, BATCHES),
        axis("thinking", params.thinking, THINKING),
        axis("inference_steps", params.inference_steps, STEPS),
    ):
        if thinking and setup.lm is None:
            continue
        request = replace(params, duration=duration, thinking=thinking, inference_steps=steps)
        if not request.uses_lm:
            request = replace(request, **UNPLANNED)
        seeds = item_seeds((config.seeds or (DEFAULT_SEED,))[0], batch)
        sized = replace(config, batch_size=batch, seeds=seeds)
        plan = options.left_out.told_in(resolver.resolve(request, sized, setup))
        table.append(Row(request, sized, plan, options.engine))
    return sorted(table, key=lambda row: row.work)


def skipped(row: Row, reason: str) -> Item:
    """A row that was not begun."""
    return Item(key=row.key, mode=BENCHMARK, requested=row.requested, status="skip", error=reason)


def is_late(item: Item) -> bool:
    """Whether there was no time for it."""
    return item.status == "skip" and item.error.startswith(LATE)


def shortage_of(row: Row, item: Item) -> str:
    """The sentence of a row there was no time for."""
    return f"The next row, {row}, {item.error.removeprefix(LATE)}."


def listed(item: Item, row: Row) -> Item:
    """`item` as the result of `row`, which may be another row that runs the same."""
    read_back = {name: value for name, value in item.effective.items() if name in READ_BACK}
    return changed(
        item,
        key=row.key,
        requested=row.requested,
        effective=dict(item.effective) | row.plan.as_dict() | read_back,
        adjustments=row.plan.adjustments,
        warnings=(*row.plan.warnings, *throttled(item.samples)),
    )


def table_row(row: Row, item: Item, width: int = tables.BENCHMARK_RULE) -> str:
    """The row of the guide's table."""
    typical = item.typical
    stages = SUBJECT.columns.values()
    times = (typical.wall_s, *map(typical.seconds, stages)) if typical else (None,) * 4
    status = item.status.upper() if item.status != "skip" else f"SKIP {item.error.partition(': ')[0]}"
    if _clamped(item.adjustments):
        status += " CLAMPED"
    if throttled(item.samples):
        status += " THROTTLED"
    spread_s = (item.max_s - item.min_s) / 2 if len(item.samples) > 1 and item.max_s and item.min_s else None
    return tables.benchmark_row(*row.axes, *times, status=status, spread_s=spread_s, width=width)


def expected(card: Card, row: Row) -> Cost:
    """What the row would cost on a card that is not here. Imports torch."""
    from harness.trace.predict import predict

    beside = [card] * placement.beside(row.plan.setup.placed)
    return replace(predict(SUBJECT, row.plan, card, beside=beside), samples=())  # which are most of it


def expected_row(row: Row, cost: Cost, width: int = tables.BENCHMARK_RULE) -> str:
    """The row with what it would cost; a run that ends too early has no times."""
    seconds = cost.stages_s if cost.fits else {}
    lm_s = seconds.get("lm_prefill", 0.0) + seconds.get("lm_decode", 0.0)
    peak = " + ".join(f"{book.peak_bytes / GIB:.2f}" for book in cost.books.values()) + " GiB"
    refusal = cost.ended
    status = f"OOM in {refusal.stage}" if refusal else peak
    return tables.benchmark_row(
        *row.axes,
        sum(seconds.values()) if cost.fits else None,
        lm_s if cost.fits else None,
        seconds.get("diffuse"),
        seconds.get("vae_decode"),
        f"{status} CLAMPED" if _clamped(row.plan.adjustments) else status,
        width=width,
    )


def _clamped(adjustments: Iterable[Adjustment]) -> bool:
    """Whether a row runs with other values than its own; what has no use for it is only told."""
    return any(adjustment.applied is not None for adjustment in adjustments)


def each(
    todo: Sequence[Row], progress: Progress, budget_s: float | None, kept: Callable[[Row], bool]
) -> Iterator[tuple[Row, str]]:
    """Rows with why there is no time for them; once there is not, there is none for any dearer one.

    `kept`: whether a row need not be measured.
    """
    late: dict[object, float] = {}  # work of what there was no time for, by what would run
    for index, row in enumerate(todo):
        if kept(row):
            progress.left_out(row.work)
            yield row, ""
            continue
        elapsed_s, needs_s = progress.elapsed_s(), progress.expected_s(row.work)
        left_s = math.inf if budget_s is None else budget_s - elapsed_s
        if late or (needs_s or 0.0) > left_s:
            late[row.same_run] = row.work
            rest = late | {one.same_run: one.work for one in todo[index:] if not kept(one)}
            enough_s, all_s = (
                elapsed_s + (progress.expected_s(sum(works.values())) or 0.0) for works in (late, rest)
            )
            yield row, f"{LATE}{shortage(needs_s, left_s, enough_s, all_s, len(rest))}"
            continue
        progress.begin(str(row))
        yield row, ""
        progress.end(row.work)
