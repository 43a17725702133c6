"""The runner: inputs of fixed length measured on every device that is asked for, as records and as tables.

What a machine does not have is a row that says so. torch waits until something runs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from harness import chrome_trace, console
from harness.checks import check_threads, within
from harness.errors import MissingPrerequisite, UsageError
from harness.files import apart, writable
from harness.memory import hand_back
from harness.oom import Failure, classify
from harness.progress import Progress
from harness.records import machine, making, performance_plan
from harness.records.schema import Input, Item, key_of
from harness.records.writer import Writer
from harness.text import harmless
from subjects.qwen3_tts import tables
from subjects.qwen3_tts.measure import MODE, Bench
from subjects.qwen3_tts.plan import resolve
from subjects.qwen3_tts.request import Request, request
from subjects.qwen3_tts.setup import Setup
from subjects.qwen3_tts.subject import SUBJECT

if TYPE_CHECKING:
    from subjects.qwen3_tts.engine import Engine

FIXTURES = Path(__file__).with_name("fixtures")
NAMES = ("short", "medium", "long")
MOST_RUNS = 1_000


@dataclass(frozen=True, slots=True)
class Fixture:
    """A request that is read from a file."""

    source: Input
    request: Request

    @classmethod
    def read(cls, name: str, **changes: Any) -> Fixture:
        """The one of `NAMES` with `changes` over it, None leaving a field alone. Raises UsageError."""
        data = (FIXTURES / f"{name}.json").read_bytes()
        changed = {field: value for field, value in changes.items() if value is not None}
        fields = msgspec.json.decode(data, type=dict[str, Any]) | changed
        return cls(Input(name=name, sha256=sha256(data).hexdigest(), changed=changed), request(**fields))


def run(options: argparse.Namespace) -> int:
    """Measure; returns the exit code: 0 done, 1 something failed. Raises BenchError."""
    within("iterations", options.iterations, 1, MOST_RUNS, kind=int)
    within("warmup", options.warmup, 0, MOST_RUNS, kind=int)
    check_threads(options.threads)
    fixtures = [Fixture.read(name, **_changes(options)) for name in dict.fromkeys(options.fixture or NAMES)]
    if not options.streaming:
        for flag, value in (("--chunk", options.chunk_frames), ("--context", options.context)):
            if value is not None:
                raise UsageError(f"{flag}: is of a stream; use it with --streaming")
    outputs = {"--benchmark-output": options.benchmark_output, "--json-plan": options.json_plan}
    apart(outputs | {"--trace": options.trace})
    trace = writable("--trace", options.trace, chrome_trace.is_one) if options.trace else None
    setups = _setups(options)
    there = [setup for setup in setups.values() if isinstance(setup, Setup)]
    absent = [reason for reason in setups.values() if isinstance(reason, MissingPrerequisite)]
    if not there:
        none = MissingPrerequisite("device: none of those that were named is here; use cpu")
        raise absent[0] if len(absent) == 1 else none
    with _Record(options, there[0]) as record:
        for (device, dtype), setup in setups.items():
            if isinstance(setup, Setup):
                trace = _measure(options, setup, fixtures, record, trace)
                continue
            for fixture in fixtures:
                requested = _requested(options, fixture, device, dtype)
                record.row(_unmeasured(fixture, requested, status="skip", error=f"n/a: {setup}"))
    return 1 if any(item.status not in ("ok", "skip") for item in record.items) else 0


def _changes(options: argparse.Namespace) -> dict[str, Any]:
    names = ("batch_size", "seed", "duration_s", "chunk_frames", "context")
    return {name: getattr(options, name) for name in names}


def _setups(options: argparse.Namespace) -> dict[tuple[str, str], Setup | MissingPrerequisite]:
    """What is measured, by device and format as they are named: once, also where auto is another that is."""
    setups: dict[tuple[str, str], Setup | MissingPrerequisite] = {}
    for device, dtype in dict.fromkeys(product(options.device, options.dtype)):
        setup = _setup(options, device, dtype)
        if setup not in setups.values():
            setups[device, dtype] = setup
    return setups


def _setup(options: argparse.Namespace, device: str, dtype: str) -> Setup | MissingPrerequisite:
    """The setup on a device, or why there is none."""
    try:
        return Setup.choose(
            options.source,
            model=options.model,
            device=device,
            dtype=dtype,
            graphs=options.graphs,
            strict=options.strict,
        )
    except MissingPrerequisite as error:
        return error


class _Record:
    """Where items go as soon as they are measured: the terminal, and the files that are named. However the
    block ends, their stages are told."""

    def __init__(self, options: argparse.Namespace, setup: Setup):
        self.items: list[Item] = []
        self._in_table = False
        self._opened = ExitStack()
        self._writers: list[Writer] = []
        header = making.header(SUBJECT, setup, MODE, argv=sys.argv[1:])
        places: tuple[tuple[Path | None, dict[str, Any]], ...] = (
            (options.json_plan, {"view": performance_plan.VIEW}),
            (options.benchmark_output, {}),
        )
        with ExitStack() as opened:
            for path, form in places:
                if path is not None:
                    self._writers.append(opened.enter_context(Writer(path, header, **form)))
            self._opened = opened.pop_all()

    def row(self, item: Item) -> None:
        """Show an item as a row of the table, and write it."""
        lines = [tables.row(item)] if self._in_table else [tables.heads(), tables.row(item)]
        self._in_table = True
        self._add(item, "\n".join(lines))

    def block(self, text: str, item: Item | None = None) -> None:
        """Show what is no row, and write `item` anew, which it is of."""
        self._in_table = False
        self._add(item, f"\n{text}\n")

    def _add(self, item: Item | None, text: str) -> None:
        try:
            print(text, flush=True)
        finally:
            if item:
                self._write(item)

    def _write(self, item: Item) -> None:
        self.items = [one for one in self.items if one.key != item.key] + [item]
        for writer in self._writers:
            known = {"machine": machine.read(), "versions": machine.versions()}
            writer.header = replace(writer.header, **known)
            writer.add(item)

    def __enter__(self) -> _Record:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: Any) -> None:
        try:
            if self.items:
                stages = (f"\n{tables.stages(item)}" for item in self.items if item.typical)
                print("\n".join((tables.NOTE, "", tables.verdict(self.items), *stages)))
        finally:
            self._opened.__exit__(kind, *rest)


def _requested(options: argparse.Namespace, fixture: Fixture, device: str, dtype: str) -> dict[str, Any]:
    return asdict(fixture.request) | {
        "input": fixture.source.name,
        "device": device,
        "dtype": dtype,
        "streaming": options.streaming,
    }


def _unmeasured(fixture: Fixture, requested: dict[str, Any], **outcome: Any) -> Item:
    """The item of what did not run, with its status and why."""
    key, effective = key_of(MODE, requested), {"device": requested["device"]}
    return Item(key=key, mode=MODE, requested=requested, effective=effective, input=fixture.source, **outcome)


def _loaded(setup: Setup, threads: int | None) -> Engine | Failure:
    """The engine of a setup, or how its memory ran out: others may have room for theirs."""
    try:
        return SUBJECT.load(setup, threads=threads)
    except Exception as error:
        failure = classify(error)
        if failure.kind == "other":
            raise
    hand_back()
    return failure


def _measure(
    options: argparse.Namespace,
    setup: Setup,
    fixtures: Sequence[Fixture],
    record: _Record,
    trace: Path | None,
) -> Path | None:
    """An item of each fixture on one engine; returns where a trace, of one run in all, is still to go."""
    plans = [resolve(fixture.request, setup) for fixture in fixtures]
    console.warn("qwen3_tts", dict.fromkeys(warning for plan in plans for warning in plan.warnings))
    engine = _loaded(setup, options.threads)
    runs = options.warmup + options.iterations
    for fixture, plan in zip(fixtures, plans, strict=True):
        requested = _requested(options, fixture, setup.device, setup.dtype)
        if isinstance(engine, Failure):
            record.row(_unmeasured(fixture, requested, **making.failed(engine)))
            continue
        with Progress(runs) as progress:
            bench = Bench(
                engine,
                options.warmup,
                options.iterations,
                options.streaming,
                lambda what, name=fixture.source.name, step=progress.step: step(f"{name}, {what}"),
            )
            item = replace(bench.item(plan, requested), input=fixture.source)
        record.row(item)
        if item.typical and options.profile_memory:
            memory = bench.memory(plan)
            status = {"status": "invalid", "error": memory.error} if memory.error else {}
            item = replace(item, memory_by_stage=memory, **status)
            record.block("\n".join((tables.memory(fixture.source.name, memory), *tables.problem(item))), item)
        if item.typical and trace:
            chrome_trace.kernels(lambda plan=plan, once=bench.once: once(plan), trace)
            record.block(f"trace    {harmless(str(trace))} (open it at ui.perfetto.dev)")
            trace = None
    return trace
