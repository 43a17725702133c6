"""Where the time of a song goes, by length and language model, and what share of the card's peaks that is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial

from acestep.profiler import devices, roofline
from acestep.profiler.measure import Bench, counts_of
from acestep.profiler.roofline import Ceilings
from acestep.profiler.show import DTYPE_BYTES
from acestep.progress import LM_STEPS, VAE_STEPS
from acestep.setup import Setup
from acestep.tracing.closed_form import networks
from harness.memory import hand_back
from harness.records.schema import Item
from scripts.gpu.parts.songs import NO_LM, open_engine, setup_of, song
from scripts.gpu.steps import Measured, Step, Task

STAGES = ("lm_prefill", "lm_decode", "diffuse", "vae_decode")
DIT_STEPS = 8


def steps(task: Task) -> Iterator[Step]:
    ceilings = cache(partial(_ceilings, task))
    for size in (None, *task.sizes.lm_sizes):
        bench = cache(partial(_bench, task, size))
        for duration_s in task.sizes.durations_s:
            run = partial(_stages, task, size, duration_s, bench, ceilings)
            work = duration_s * (DIT_STEPS + VAE_STEPS + (LM_STEPS if size else 0))
            yield Step(f"{size or NO_LM}, {duration_s:g} s", run, work)
        bench.cache_clear()
        hand_back()


def _setup(task: Task, size: str | None) -> Setup:
    return setup_of(task, size, compile=False)


def _bench(task: Task, size: str | None) -> Bench:
    return Bench(open_engine(_setup(task, size)), warmup=True, repeats=task.sizes.repeats)


def _ceilings(task: Task) -> Ceilings:
    """Peaks of the card by its data sheet; measured where none is known."""
    setup = _setup(task, None)
    card = setup.accelerator
    known = devices.lookup(card.name, card.memory_gib) if task.on_cuda else None
    return known or devices.measure(task.device, "bfloat16" if task.on_cuda else "float32")


def _stages(
    task: Task,
    size: str | None,
    duration_s: float,
    bench: Callable[[], Bench],
    ceilings: Callable[[], Ceilings],
) -> Measured:
    row = song(_setup(task, size), duration_s)  # which refuses before anything is loaded
    engine = bench().engine
    item = bench().music("gpu", row)
    typical = item.typical
    if typical is None:
        return Measured({}, (item,), item.error)
    setup, peaks = engine.setup, ceilings()
    of = networks(
        setup.source,
        setup.dit,
        setup.lm,
        DTYPE_BYTES[engine.environment["dtype"]],
        quantized=setup.quantization is not None,
    )
    shares = roofline.achieved(roofline.of_plan(of, counts_of(item), row.plan), typical.stages_s, peaks)
    values = {"wall_s": typical.wall_s, "rtf": item.rtf, "spread": item.spread, "peaks": peaks.origin}
    values |= {f"{stage}_s": typical.stages_s[stage] for stage in STAGES if stage in typical.stages_s}
    values |= {f"{name}_bytes": size for name, size in item.memory_bytes.items()}
    values |= {"graphs": setup.graphs, "quantization": setup.quantization, "load_s": engine.load_s}
    return Measured(values | shares, (item,), item.error, repeat_s=_spent_s(item))


def _spent_s(item: Item) -> float:
    """Of all runs, without loading."""
    first_s = item.cold.first_call_s if item.cold else None
    return (first_s or 0.0) + sum(sample.wall_s for sample in item.samples)
