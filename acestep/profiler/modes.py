"""The modes of the profiler: what each runs, in which order, and what it prints.

profile      one request: where its time goes, and how near that is to what the device can do
benchmark    the matrix of durations, batches, thinking and steps
scaling      each component at several lengths: how its time grows (`scaling.py`)
text modes   one text of the language model, which is all they load
"""

from __future__ import annotations

import dataclasses
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from msgspec.structs import replace

from acestep import components, resolver
from acestep.cli import report
from acestep.effective_plan import EffectivePlan
from acestep.profiler import devices, instruments, matrix, prepare, roofline, scaling, streaming, tables
from acestep.profiler.flags import BENCHMARK, PROFILE, SCALING, TEXT_MODES
from acestep.profiler.options import Options
from acestep.profiler.progress import Progress
from acestep.profiler.recording import Recording
from acestep.profiler.roofline import Ceilings
from acestep.result import Counts
from acestep.setup import Setup
from acestep.subject import DECODING, DIFFUSION, PLANNING
from acestep.tracing.closed_form import Networks, networks
from harness import console
from harness.cards import Card
from harness.processes import Processes
from harness.records import machine, making
from harness.records.schema import Item
from harness.text import harmless
from harness.trace.cost import Cost
from harness.trace.report import label

if TYPE_CHECKING:
    from acestep.profiler.measure import Bench

DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


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
    _announce(options, setup)
    _warn(prepare.warnings(options, plan))
    if options.dry_run:
        report.print_plan(plan, as_json=False)
        return 0
    instruments.check(options)
    with Recording(options, setup) as recording:
        bench = _bench(options, setup, plan.components)
        device = _Device(options, setup, bench)
        print(f"{device.before(plan)}\n", flush=True)
        row = matrix.Row(options.params, options.config, plan, options.engine)
        item = bench.stream(PROFILE, row, options.chunk_s) if options.streaming else bench.music(PROFILE, row)
        recording.add(item)
        if item.typical is None:
            console.say("profile_inference", f"{item.status}: {item.error}")
            return 1
        _warn(making.throttled(item.samples))
        _print_times(options, bench, plan, item)
        if options.streaming:
            print(f"\n{streaming.table(item, options.chunk_s, _width())}")
        print(f"\n{device.after(item, plan)}\n")
        bottleneck = roofline.bottleneck(item.typical.stages_s, sys.argv[1:])
        print(f"{bottleneck.sentence}\nNext: {harmless(bottleneck.command)}")
        sound = _instrumented(options, bench, recording, item, lambda: _once(options, bench, plan))
    return 0 if item.status == "ok" and sound else 1


def _once(options: Options, bench: Bench, plan: EffectivePlan) -> object:
    """What was timed, again."""
    if options.streaming:
        return [*bench.engine.run_stream(plan, chunk_s=options.chunk_s)]
    return bench.engine.run(plan)


def _benchmark(options: Options) -> int:
    """The whole matrix, or what of it fits the budget; what an interrupted run finished is kept."""
    setup = prepare.setup(options, with_lm=True)
    todo = matrix.rows(options, setup)
    _announce(options, setup)
    _warn(options.left_out.warnings)
    if setup.no_lm:
        _warn([f"rows that think are left out: {setup.no_lm}"])
    print(tables.benchmark_head(_width()))
    if options.dry_run:
        _list(todo, setup, prepare.card(options))
        return 0
    with (
        Recording(options, setup, resume=options.resume) as recording,
        Progress(todo, options.budget_s) as progress,
    ):
        bench = None
        measured: dict[object, Item] = {}
        failed = False
        for row, in_time in matrix.each(todo, progress):
            item = recording.kept.get(row.key) or measured.get(row.same_run)
            if item is None and not in_time:
                item = matrix.skipped(row, "no time left")
            elif item is None:
                bench = bench or _bench(options, setup)
                item = bench.music(BENCHMARK, row)
                measured[row.same_run] = item
                progress.end(row)
            item = matrix.listed(item, row)
            recording.add(item)
            print(matrix.table_row(row, item), flush=True)
            failed = failed or item.status not in ("ok", "skip")
    return 1 if failed else 0


def _scaling(options: Options) -> int:
    """Every component at its lengths, on the device that is here; `options.card` is for the prediction."""
    setup = prepare.setup(dataclasses.replace(options, card=None), with_lm=True)
    _announce(options, setup)
    return scaling.run(options, setup)


def _list(todo: Sequence[matrix.Row], setup: Setup, card: Card | None) -> None:
    """What would run; on a card also how long it would take at least, and its peak of memory."""
    if card is None:
        for row in todo:
            print(matrix.table_row(row, matrix.skipped(row, "dry run")))
        return
    distinct = list({row.same_run: row for row in todo}.values())
    console.say("profile_inference", f"rows to predict: {len(distinct)}, a second or two each")
    predicted: dict[object, Cost] = {}
    with Processes() as processes:
        costs = processes.map(partial(matrix.expected, card), distinct)
        for row in todo:
            if row.same_run not in predicted:
                predicted[row.same_run] = next(costs)
            print(matrix.expected_row(row, predicted[row.same_run]), flush=True)
    if predicted:
        print(f"\nTimes and peaks are {label(next(iter(predicted.values())))}.")


def _text(options: Options) -> int:
    """Understand, create_sample or format_sample: a text mode."""
    setup = prepare.setup(options)
    _, changes = resolver.resolve_description(options.description, TEXT_MODES[options.mode], setup)
    _announce(options, setup)
    _warn((*options.left_out.warnings, *map(str, changes)))
    if options.dry_run:
        return 0
    instruments.check(options)
    with Recording(options, setup) as recording:
        bench = _bench(options, setup, components.TEXT)
        item = bench.text(options.mode, options.description)
        recording.add(item)
        print(tables.words(options.mode, item.median_s or 0.0, item.text, item.error, min(_width(), 100)))
        if options.llm_debug and item.typical:
            print(f"\n{_llm_debug(item, 0.0)}")
        sound = not item.typical or _instrumented(
            options, bench, recording, item, lambda: bench.describe(options.mode, options.description)
        )
    return 0 if item.status == "ok" and sound else 1


def _instrumented(
    options: Options, bench: Bench, recording: Recording, item: Item, work: Callable[[], object]
) -> bool:
    """Run each instrument that is asked for on what was timed as `item`; whether what they say can be."""
    error = ""
    if options.profile_memory:
        found = instruments.memory(work, bench.engine)
        recording.add(replace(item, memory_by_stage=found))
        error = found.error
    instruments.run(options, work)
    if error:
        console.say("profile_inference", f"memory: {error}")
    return not error


def _announce(options: Options, setup: Setup) -> None:
    commit, dirty = machine.revision()
    revision = f"{commit[:12]}{' and changes' if dirty else ''}" if commit else None
    print("\n".join(prepare.header_lines(options, setup, revision)), end="\n\n", flush=True)


def _warn(warnings: Iterable[str]) -> None:
    for warning in warnings:
        console.say("profile_inference", f"warning: {warning}")


def _bench(options: Options, setup: Setup, preload: Sequence[str] | None = None) -> Bench:
    """The engine, loaded; torch is imported here."""
    from acestep.engine import Engine
    from acestep.profiler.measure import Bench

    engine = Engine.from_setup(setup, preload=preload)
    return Bench(engine, options.warmup, options.repeats)


class _Device:
    """What the device could do, beside what is asked of it."""

    def __init__(self, options: Options, setup: Setup, bench: Bench):
        environment = bench.engine.environment
        dtype = environment["dtype"]
        self._name = environment["device_name"]
        self._networks: Networks = networks(
            setup.source, setup.dit, setup.lm, DTYPE_BYTES[dtype], quantized=setup.quantization is not None
        )
        self._ceilings: Ceilings | None
        if options.measure_ceilings:
            self._ceilings = devices.measure(options.device, dtype)
        else:
            self._ceilings = devices.lookup(self._name, setup.accelerator.memory_gib, dtype)

    def before(self, plan: EffectivePlan) -> str:
        """The roofline of a run to come."""
        duration_s = plan.length_s()
        expected = roofline.expected_counts(
            duration_s,
            len(plan.times),
            codes=plan.lm_codes,
            batch=plan.config.batch_size,
            lm_guided=plan.lm_guided,
        )
        return roofline.card(self._loads(expected, plan), self._name, self._ceilings)

    def after(self, item: Item, plan: EffectivePlan) -> str:
        """The roofline of a run, with what it achieved; no shares where items may differ in length."""
        from acestep.profiler.measure import counts_of

        assert item.typical is not None
        unequal = plan.params.duration is None and plan.config.batch_size > 1
        loads = self._loads(counts_of(item), plan)
        return roofline.card(loads, self._name, None if unequal else self._ceilings, item.typical.stages_s)

    def _loads(self, counts: Counts, plan: EffectivePlan) -> tuple[roofline.Load, ...]:
        return roofline.of_plan(self._networks, counts, plan)


def _print_times(options: Options, bench: Bench, plan: EffectivePlan, item: Item) -> None:
    """The tree of the typical run, what the language model did, and what only a first run pays."""
    typical = item.typical
    assert typical is not None
    constrained_s = typical.details_s.get("lm_decode/constraint", 0.0)
    lm_s, cfg_s = typical.seconds(PLANNING), 0.0
    if lm_s and plan.lm_guided:
        # Both branches run in one pass; what the second adds shows only without it.
        unguided_s = bench.unguided_lm_s(plan)
        cfg_s = min(max(lm_s - unguided_s, 0.0), lm_s - constrained_s)
    breakdown = tables.Breakdown(
        wall_s=typical.wall_s,
        diffusion_s=typical.seconds(DIFFUSION),
        steps=int(item.counts["dit_steps"]),
        vae_s=typical.seconds(DECODING),
        save_s=typical.stages_s.get("save", 0.0),
        token_generation_s=lm_s - constrained_s - cfg_s if lm_s else None,
        constrained_s=constrained_s,
        cfg_s=cfg_s,
    )
    print(tables.tree(breakdown, _width()))
    if options.llm_debug and lm_s:
        print(f"\n{_llm_debug(item, cfg_s)}")
    print()
    audio, cold = item.audio, item.cold
    if cold:
        first = "no warm-up" if cold.first_call_s is None else f"first call {cold.first_call_s:.2f} s"
        spread = "" if item.spread is None else f", spread {item.spread:.0%} of {len(item.samples)}"
        print(f"load {cold.load_s:.2f} s, {first}, then {typical.wall_s:.2f} s{spread}")
    if audio:
        facts = f"{audio.items} x {audio.audio_s:g} s of audio ({audio.silent} silent)"
        print(f"{facts}, real-time factor {item.rtf:.3f}")
    print("\n".join(tables.sizes(item.memory_bytes)))
    if typical.telemetry:
        print("\n".join(tables.telemetry(typical.telemetry)))


def _llm_debug(item: Item, cfg_s: float) -> str:
    from acestep.profiler.measure import counts_of

    assert item.typical is not None
    stages_s, details_s = item.typical.stages_s, item.typical.details_s
    constrained_s = details_s.get("lm_decode/constraint", 0.0)
    return tables.llm_debug(
        counts_of(item), stages_s["lm_prefill"], stages_s["lm_decode"], constrained_s, cfg_s
    )


def _width() -> int:
    return shutil.get_terminal_size((122, 24)).columns
