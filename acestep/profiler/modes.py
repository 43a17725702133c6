"""The modes of the profiler: what each runs, in which order, and what it prints, the answer first.

profile      one request: where its time goes, and how near that is to what the device can do
benchmark    the matrix of durations, batches, thinking and steps
scaling      each component at several lengths: how its time grows (`scaling.py`)
text modes   one text of the language model, which is all they load
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from msgspec.structs import replace

from acestep import components, resolver
from acestep.cli import report
from acestep.effective_plan import EffectivePlan
from acestep.profiler import instruments, matrix, prepare, scaling, show, streaming, tables
from acestep.profiler.bottleneck import bottleneck
from acestep.profiler.flags import BENCHMARK, PROFILE, SCALING, TEXT_MODES
from acestep.profiler.options import Options
from acestep.profiler.recording import Recording
from acestep.setup import Setup
from harness import console
from harness.cards import Card
from harness.errors import MissingPrerequisite
from harness.processes import Processes
from harness.progress import Progress
from harness.records import machine, making, verdict
from harness.records.schema import Item
from harness.text import harmless
from harness.trace.cost import Cost
from harness.trace.report import label

if TYPE_CHECKING:
    from acestep.profiler.measure import Bench


def run(options: Options) -> int:
    """Do what the options ask for; returns the exit code: 0 done, 1 something failed.

    Raises BenchError for what cannot be run at all.
    """
    if options.mode == PROFILE:
        return _profile(options)
    if options.mode == SCALING:
        return _scaling(options)
    return _benchmark(options) if options.mode == BENCHMARK else _text(options)


def _profile(options: Options) -> int:
    """One request, taken apart."""
    setup = prepare.setup(options)
    plan = options.left_out.told_in(resolver.resolve(options.params, options.config, setup))
    if options.streaming:
        plan = resolver.streamed(plan, options.chunk_s)
    _warn(prepare.warnings(options, plan))
    if options.dry_run:
        _announce(options, setup)
        report.print_plan(plan, as_json=False)
        return 0
    instruments.check(options)
    with Recording(options, setup) as recording:
        bench, item, unguided_s = _profiled(options, setup, plan, recording)
        if item.typical is None:
            console.say("profile_inference", f"{item.status}: {item.error}")
            _announce(options, setup)
            return 1
        _warn(making.throttled(item.samples))
        show.sentences(verdict.of_run(item))
        print()
        show.times(options, item, unguided_s)
        if options.streaming:
            print(f"\n{streaming.table(item, options.chunk_s, show.width())}")
        print(f"\n{show.roofline_card(options, bench, item, plan)}\n")
        longest = bottleneck(item.typical.stages_s, sys.argv[1:])
        show.sentences(longest.sentence)
        print(f"Next: {harmless(longest.command)}\n")
        _announce(options, setup)
        sound = _instrumented(options, bench, recording, item, lambda: _once(options, bench, plan))
    return 0 if item.status == "ok" and sound else 1


def _profiled(
    options: Options, setup: Setup, plan: EffectivePlan, recording: Recording
) -> tuple[Bench, Item, float | None]:
    """The engine, what it measured, and the seconds of planning without guidance, where there is some."""
    with Progress((options.warmup + options.repeats) * (2 if plan.lm_guided else 1)) as progress:
        progress.say("loading")
        bench = _bench(options, setup, plan.components, progress.step)
        row = matrix.Row(options.params, options.config, plan, options.engine)
        item = bench.stream(PROFILE, row, options.chunk_s) if options.streaming else bench.music(PROFILE, row)
        recording.add(item)
        # Both branches run in one pass; what the second adds shows only without it.
        return bench, item, bench.unguided_lm_s(plan) if plan.lm_guided and item.typical else None


def _once(options: Options, bench: Bench, plan: EffectivePlan) -> object:
    """What was timed, again."""
    if options.streaming:
        return [*bench.engine.run_stream(plan, chunk_s=options.chunk_s)]
    return bench.engine.run(plan)


def _benchmark(options: Options) -> int:
    """The whole matrix, or what of it fits the budget; what an interrupted run finished is kept."""
    setup = prepare.setup(options, with_lm=True)
    todo = matrix.rows(options, setup)
    if not todo:
        raise MissingPrerequisite(f"thinking: no row is left of those that think: {setup.no_lm}")
    _announce(options, setup)
    _warn((*options.left_out.warnings, *(one for one in setup.warnings if one != f"lm: {setup.no_lm}")))
    _warn(prepare.without_lm(options, [row.plan for row in todo], matrix.UNPLANNED))
    if setup.no_lm:
        _warn([f"rows that think are left out: {setup.no_lm}"])
    print(tables.benchmark_head(show.width()))
    if options.dry_run:
        _list(todo, setup, prepare.card(options))
        return 0
    rows: list[tuple[matrix.Row, Item]] = []
    with Recording(options, setup, resume=options.resume) as recording:
        for row, item in _rows(options, setup, todo, recording.kept):
            rows.append((row, item))
            recording.add(item)
            print(matrix.table_row(row, item, show.width()), flush=True)
        late = (f" {matrix.shortage_of(row, item)}" for row, item in rows if matrix.is_late(item))
        print()
        show.sentences(f"{verdict.of_rows([item for _, item in rows])}{next(late, '')}")
    return 1 if any(item.status not in ("ok", "skip") for _, item in rows) else 0


def _rows(
    options: Options, setup: Setup, todo: Sequence[matrix.Row], kept: Mapping[str, Item]
) -> Iterator[tuple[matrix.Row, Item]]:
    """Each row as it comes: `kept`, measured, the same as another, or left out for want of time."""
    bench, measured = None, dict[object, Item]()

    def known(row: matrix.Row) -> Item | None:
        return kept.get(row.key) or measured.get(row.same_run)

    with Progress(sum(row.work for row in todo), len(todo), each=True) as progress:
        for row, late in matrix.each(todo, progress, options.budget_s, lambda row: known(row) is not None):
            item = known(row)
            if item is None and late:
                item = matrix.skipped(row, late)
            elif item is None:
                if bench is None:
                    progress.say("loading")
                    bench = _bench(options, setup, before=progress.say)
                    progress.prepared()
                item = measured[row.same_run] = bench.music(BENCHMARK, row)
            yield row, matrix.listed(item, row)


def _scaling(options: Options) -> int:
    """Every component at its lengths, on the device that is here; `options.card` is for the prediction."""
    setup = prepare.setup(dataclasses.replace(options, card=None), with_lm=True)
    _announce(options, setup)
    _warn((*options.left_out.warnings, *setup.warnings))
    return scaling.run(options, setup)


def _list(todo: Sequence[matrix.Row], setup: Setup, card: Card | None) -> None:
    """What would run; on a card also how long it would take at least, and its peak of memory."""
    if card is None:
        for row in todo:
            print(matrix.table_row(row, matrix.skipped(row, "dry run"), show.width()))
        return
    distinct = list({row.same_run: row for row in todo}.values())
    console.say("profile_inference", f"rows to predict: {len(distinct)}, a second or two each")
    predicted: dict[object, Cost] = {}
    with Progress(len(distinct), len(distinct)) as progress, Processes() as processes:
        costs = processes.map(partial(matrix.expected, card), distinct)
        for row in todo:
            if row.same_run not in predicted:
                progress.step(f"predicting {row}")
                predicted[row.same_run] = next(costs)
            print(matrix.expected_row(row, predicted[row.same_run], show.width()), flush=True)
    if predicted:
        fit = sum(predicted[row.same_run].fits for row in todo)
        print()
        show.sentences(f"{fit} of {len(todo)} rows fit {card.name}.")
        show.sentences(f"Times and peaks are {label(next(iter(predicted.values())))}.")


def _text(options: Options) -> int:
    """Understand, create_sample or format_sample: a text mode."""
    setup = prepare.setup(options)
    _, changes = resolver.resolve_description(options.description, TEXT_MODES[options.mode], setup)
    _warn((*options.left_out.warnings, *setup.warnings, *map(str, changes)))
    if options.dry_run:
        _announce(options, setup)
        return 0
    instruments.check(options)
    with Recording(options, setup) as recording:
        with Progress(options.warmup + options.repeats) as progress:
            progress.say("loading")
            bench = _bench(options, setup, components.TEXT, progress.step)
            item = bench.text(options.mode, options.description)
            recording.add(item)
        if item.typical:
            show.sentences(verdict.of_words(item))
            print()
        print(tables.words(options.mode, item.median_s, item.text, item.error, min(show.width(), 100)))
        if options.llm_debug and item.typical:
            print(f"\n{show.llm_debug(item, 0.0)}")
        print()
        _announce(options, setup)
        sound = not item.typical or _instrumented(
            options, bench, recording, item, lambda: bench.describe(options.mode, options.description)
        )
    return 0 if item.status == "ok" and sound else 1


def _instrumented(
    options: Options, bench: Bench, recording: Recording, item: Item, work: Callable[[], object]
) -> bool:
    """Run each instrument that is asked for on what was timed as `item`; whether what they say can be."""
    error = ""
    with Progress(0) as progress:
        progress.say("running once more, watched")
        if options.profile_memory:
            memory = instruments.memory(work, bench.engine)
            recording.add(replace(item, memory_by_stage=memory))
            error = memory.error
        instruments.run(options, work)
    if error:
        console.say("profile_inference", f"memory: {error}")
    return not error


def _announce(options: Options, setup: Setup) -> None:
    commit, dirty = machine.revision()
    revision = f"{commit[:12]}{' and changes' if dirty else ''}" if commit else None
    show.sentences(*prepare.header_lines(options, setup, revision), indent=prepare.LABEL)
    print(flush=True)


def _warn(warnings: Iterable[str]) -> None:
    console.warn("profile_inference", warnings)


def _bench(
    options: Options,
    setup: Setup,
    preload: Sequence[str] | None = None,
    before: Callable[[str], object] = lambda what: None,
) -> Bench:
    """The engine, loaded, and what is told `before` each of its runs; torch is imported here."""
    from acestep.engine import Engine
    from acestep.profiler.measure import Bench

    engine = Engine.from_setup(setup, preload=preload)
    return Bench(engine, options.warmup, options.repeats, before)
