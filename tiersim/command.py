"""The command: plan, run, analyse, keep results. Imported once the command line is known to be one."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path

from harness import console
from harness.cards import Card
from harness.errors import UsageError
from harness.files import rewrite, writable
from harness.records import writer as output
from harness.records.schema import Header, Profile
from harness.text import counted, harmless
from tiersim import baseline, boundary, document, html, matrix, picture, pool, suggest, sweep, usage
from tiersim.answer import Answer, answer, largest_batches
from tiersim.case import PREDICTED, Plan, resolve, subject_of
from tiersim.case_runner import CaseRunner, Runner
from tiersim.fits import FitMatrix, fit_matrix
from tiersim.matrix import Series
from tiersim.notes import basis, chosen, predicted_on
from tiersim.predictors import Predictors
from tiersim.progress import Progress
from tiersim.protocol import Exit
from tiersim.record import Record
from tiersim.results import Results, write
from tiersim.summary import summary
from tiersim.tables import Report

FAILED = 1
NO_TERMINAL = (10_000, 24)  # what is redirected has room for every line
FILE_COLUMNS = 100
SUGGESTED = "What predictions support of each tier"


@dataclass
class Findings:
    """What a run comes to: what there is to report, and whether something is worse than it should be."""

    tables: list[Callable[[Report], str]] = field(default_factory=list)
    largest: list[str] = field(default_factory=list)
    worse: bool = False
    fits: FitMatrix | None = None
    answer: Answer = field(default_factory=lambda: Answer("nothing ran"))


def run(options: argparse.Namespace, argv: Sequence[str]) -> int:
    """Do what the options ask for; returns the exit code. Raises BenchError for what cannot be run."""
    card = usage.card_of(options)
    if options.suggest:
        return _suggest(options, card, argv)
    listed = _series(options, card)
    plans = list(chain.from_iterable(series.every for series in listed))
    every = sweep.by_key(plans)
    columns = shutil.get_terminal_size(NO_TERMINAL).columns
    report = Report(columns, ascii=options.ascii, wide=options.wide, predicted=card is not None)
    if options.dry_run:
        return _list([*every.values()], report)
    before = options.baseline and baseline.load(options.baseline, every, predicted=card is not None)
    header = document.header(plans, argv)
    svg_file = writable("svg", options.svg, picture.is_picture) if options.svg else None
    with ExitStack() as stack:
        results = stack.enter_context(Results(options.out, options.rerun)) if options.out else None
        writers = [stack.enter_context(writer) for writer in _writers(options, header)]
        case_runner = CaseRunner(
            _runner(options, card, stack),
            lambda record: print(report.row(record), flush=True),
            results,
            writers,
        )
        findings = Findings()
        if results:  # however it ends, and after all is said: a full disk may refuse it
            stack.callback(_conclude, results, header, case_runner.records, findings)
        print(report.header(), flush=True)
        try:
            _test(options, listed, case_runner, findings)
            if before:
                _compare(case_runner, before, findings)
        finally:
            _show(listed, case_runner, findings, report)
    records = list(case_runner.records.values())
    if svg_file:
        assert findings.fits
        _draw(svg_file, header, records, findings.fits)
        print(f"\npicture  {harmless(str(options.svg))}")
    if options.out:
        print(f"\nresults  {harmless(str(options.out / 'report.html'))}")
    return _exit_code(records, findings)


def _list(plans: Sequence[Plan], report: Report) -> int:
    """Print what would run."""
    skipped = sum(plan.skip is not None for plan in plans)
    print(f"{report.plans(plans)}\n{counted(len(plans), 'case')}, {skipped} of them skipped")
    return 0


def _suggest(options: argparse.Namespace, card: Card | None, argv: Sequence[str]) -> int:
    """Print what predictions support of each tier, as a patch; what they are goes with --out."""
    usage.check_suggest(options)
    bases = matrix.bases(options, card)
    with ExitStack() as stack:
        results = stack.enter_context(Results(options.out, options.rerun)) if options.out else None
        case_runner = CaseRunner(_runner(options, card, stack), lambda record: None, results)
        sizes = [(base, matrix.sizes_gb(options, base)) for base in bases]
        limits = suggest.findings(sizes, case_runner.run)
        print(suggest.report(limits))
        if results:
            plans = [resolve(record.requested) for record in case_runner.records.values()]
            findings = Findings(answer=Answer(SUGGESTED, largest=tuple(suggest.evidence(limits))))
            _conclude(results, document.header(plans, argv), case_runner.records, findings)
    return 0


def _series(options: argparse.Namespace, card: Card | None) -> list[Series]:
    """All that is asked for, resolved. Raises BenchError for what cannot be run."""
    usage.check(options)
    every = [matrix.series(options, base) for base in matrix.bases(options, card)]
    usage.check_places(options, every[0].cases[0].device)
    changes = [change for series in every for plan in series.cases for change in plan.adjustments]
    if options.strict and changes:
        raise UsageError(f"{changes[0]} (strict)")
    return every


def _writers(options: argparse.Namespace, header: Header) -> Iterator[output.Writer]:
    """Files of results; what one of them held of other work is kept, and told."""
    kept = options.out and options.out / "results.json"
    for path, json_compat in dict.fromkeys(((options.benchmark_output, options.json_compat), (kept, False))):
        if path:
            writer = output.Writer(path, header, resume=True, json_compat=json_compat)
            if writer.kept_as:
                console.say("tiersim", writer.kept_note)
            yield writer


def _runner(options: argparse.Namespace, card: Card | None, stack: ExitStack) -> Runner:
    """What runs cases: this machine's cards or its CPU, or a cluster's; or what predicts them."""
    if card:
        start = stack.enter_context(Predictors(options.jobs)).run_plans
    else:
        executor = None
        if options.scheduler:
            per_case = int((options.device or "").startswith("cuda"))
            executor = stack.enter_context(pool.on_cluster(options.scheduler, per_case))
        start = partial(pool.run_plans, gpus=options.gpus, jobs=options.jobs or 1, executor=executor)

    def run(plans: Sequence[Plan], on_record: Callable[[Record], None]) -> None:
        with Progress(len(plans)) as progress:

            def ended(record: Record) -> None:
                progress.on_record(record)
                on_record(record)

            start(plans, on_record=ended, on_event=progress.on_event)

    return run


def _test(
    options: argparse.Namespace,
    listed: Sequence[Series],
    case_runner: CaseRunner,
    findings: Findings,
) -> None:
    """Run the cases of every series, then its ladders of batches, and say where the boundaries are."""
    case_runner.run([plan for series in listed for plan in series.cases])
    for series in listed:
        _find(options, series, case_runner, findings)


def _find(options: argparse.Namespace, series: Series, case_runner: CaseRunner, findings: Findings) -> None:
    """The boundaries of one series, of which the cases have run."""
    records = case_runner.run(series.cases)
    plan, case = series.cases[-1], series.cases[-1].effective
    rests_on = next((basis(record) for record in records if record.status != "skip"), "nothing ran")
    choices = chosen(case, but=plan.settings.dit)
    facts = (plan.source, plan.settings.dit, choices, f"{case.duration_s:g} s", rests_on)
    conditions = ", ".join(filter(None, facts))
    if options.boundary:
        lm = f"LM {'on where the tier has one' if options.with_lm else 'off'}"
        of_minima = f"{conditions}, batch {case.batch_size}, {lm}"
        minima = boundary.minima(records)
        findings.tables.append(lambda report: report.minima(minima, of_minima))
    if options.batch_boundary:
        ladders = boundary.ladders(sweep.climb(series.rungs, case_runner.run))
        limits = boundary.batch_limits(ladders)
        batches = [rung[0].requested.batch_size for rung in series.rungs]
        tried = f"{conditions}, batches of {' '.join(map(str, batches))}"
        findings.largest += largest_batches(ladders)
        findings.tables.append(lambda report: report.batches(ladders, limits, tried))


def _show(listed: Sequence[Series], case_runner: CaseRunner, findings: Findings, report: Report) -> None:
    """Print what the cases come to, of those that have run."""
    cells = [plan for series in listed for plan in series.cells]
    findings.fits = fit_matrix(cells, case_runner.records)
    findings.answer = answer(case_runner.so_far(cells), findings.largest)
    if records := list(case_runner.records.values()):
        ends = [report.footer(records), report.answer(findings.answer)]
        print("\n\n".join([*ends, *(table(report) for table in findings.tables)]))


def _compare(case_runner: CaseRunner, before: Sequence[output.Item], findings: Findings) -> None:
    now = [document.item(record) for record in case_runner.records.values()]
    matched = {item.key for item in before} & case_runner.records.keys()
    changes = baseline.compare(now, before)
    lines = [
        f"BASELINE: {len(matched)} of {len(now)} cases compared",
        *(f"  {harmless(str(change))}" for change in changes),
    ]
    table = "\n".join(lines if changes else [*lines, "  no change"])
    findings.tables.append(lambda report: table)
    findings.worse = any(change.worse for change in changes)


def _conclude(results: Results, header: Header, run: Mapping[str, Record], findings: Findings) -> None:
    """Write the summary and the page, of whatever has `run`; they do not depend on the terminal."""
    if not run:
        return
    records = list(run.values())
    report = Report(FILE_COLUMNS, predicted=header.device == PREDICTED)
    tables = [table(report) for table in findings.tables]
    profile = Profile(run=header, items=tuple(map(document.item, records)))
    write(results.summary, summary(findings.answer, profile, tables))
    write(results.page, html.page(header, records, tables, findings.fits, findings.answer).encode())


def _draw(path: Path, header: Header, records: Sequence[Record], matrix: FitMatrix) -> None:
    """Write the picture. What it says of itself is what it rests on and when, and not the commit."""
    facts = (*predicted_on(records), f"{header.source}, {header.started_utc:%Y-%m-%d}")
    predicted = header.device == PREDICTED
    rewrite(path, picture.svg(matrix, facts, {}, predicted=predicted).encode())


def _exit_code(records: Sequence[Record], findings: Findings) -> int:
    """0 when nothing failed that should not; 3 when something was missing rather than wrong."""
    if any(record.exit_code == Exit.PREREQUISITE for record in records):
        return Exit.PREREQUISITE
    return FAILED if findings.worse or any(map(_unexpected, records)) else 0


def _unexpected(record: Record) -> bool:
    """Whether a failure breaks a promise: memory may run out beyond a tier's own settings and limits."""
    if record.unknown or not record.failed:
        return record.failed
    case, ran = record.requested, record.effective
    tier = subject_of(case).tier(case)
    most, longest_s = (
        (tier.max_batch_with_lm, tier.max_duration_with_lm_s)
        if record.lm
        else (tier.max_batch, tier.max_duration_s)
    )
    promised = ran.batch_size <= most and ran.duration_s <= longest_s
    return promised and tier.promised and case.variant == "default"
