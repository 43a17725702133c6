"""What the profiler prints of one run that was measured. torch is imported by who has an engine, not here."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from acestep.effective_plan import EffectivePlan
from acestep.profiler import devices, memory_tables, roofline, tables
from acestep.profiler.options import Options
from acestep.profiler.roofline_card import UNEQUAL, card
from acestep.subject import DECODING, DIFFUSION, PLANNING
from acestep.tracing.closed_form import networks
from harness.records.schema import Item
from harness.text import wrapped_below

if TYPE_CHECKING:
    from acestep.profiler.measure import Bench

DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


def times(options: Options, item: Item, unguided_s: float | None) -> None:
    """The tree of the typical run, what the language model did, and what only a first run pays."""
    typical = item.typical
    assert typical is not None
    constrained_s = typical.details_s.get("lm_decode/constraint", 0.0)
    lm_s, cfg_s = typical.seconds(PLANNING), 0.0
    if unguided_s is not None:
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
        text_s=typical.stages_s.get("text_encode", 0.0),
        condition_s=typical.stages_s.get("condition", 0.0),
    )
    print(tables.tree(breakdown, width()))
    if options.llm_debug and lm_s:
        print(f"\n{llm_debug(item, cfg_s)}")
    print()
    audio, cold = item.audio, item.cold
    if cold:
        first = "no warm-up" if cold.first_call_s is None else f"first call {cold.first_call_s:.2f} s"
        spread = "" if item.spread is None else f", spread {item.spread:.0%} of {len(item.samples)}"
        print(f"load {cold.load_s:.2f} s, {first}, then {typical.wall_s:.2f} s{spread}")
    if audio:
        facts = f"{audio.items} x {audio.audio_s:g} s of audio ({audio.silent} silent)"
        print(f"{facts}, real-time factor {item.rtf:.3f}")
    print("\n".join(memory_tables.sizes(item.memory_bytes)))
    if typical.telemetry:
        print("\n".join(memory_tables.telemetry(typical.telemetry, width())))


def llm_debug(item: Item, cfg_s: float) -> str:
    from acestep.profiler.measure import counts_of

    assert item.typical is not None
    stages_s, details_s = item.typical.stages_s, item.typical.details_s
    constrained_s = details_s.get("lm_decode/constraint", 0.0)
    return tables.llm_debug(
        counts_of(item), stages_s["lm_prefill"], stages_s["lm_decode"], constrained_s, cfg_s
    )


def roofline_card(options: Options, bench: Bench, item: Item, plan: EffectivePlan) -> str:
    """The roofline of a run, and what it achieved; no shares where items may differ in length."""
    from acestep.profiler.measure import counts_of

    assert item.typical is not None
    setup, environment = bench.engine.setup, bench.engine.environment
    name, dtype, islands = environment["device_name"], environment["dtype"], environment["islands"]
    of = networks(
        setup.source,
        setup.dit,
        setup.lm,
        DTYPE_BYTES[dtype],
        quantized=environment["quantization"] is not None,
        lm_quantization=environment["lm_quantization"],
        on_card=setup.accelerator.device != "cpu",
        islands=islands is not None,
    )
    loads = roofline.of_plan(of, counts_of(item), plan)
    where = f"{name}, {islands} in float32" if islands else name
    if plan.params.duration is None and plan.config.batch_size > 1:
        return card(loads, where, None, item.typical.stages_s, UNEQUAL)
    if options.measure_ceilings:
        ceilings = devices.measure(options.device, dtype)
    else:
        ceilings = devices.lookup(name, setup.accelerator.memory_gib, dtype)
    return card(loads, where, ceilings, item.typical.stages_s)


def sentences(*lines: str, indent: int = 0) -> None:
    """Sentences within the terminal's columns; what goes on in another line does so below `indent`."""
    for line in lines:
        print("\n".join(wrapped_below(line, width(), indent)))


def width() -> int:
    return shutil.get_terminal_size((122, 24)).columns
