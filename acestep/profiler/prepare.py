"""Preparation of a run on this machine: the card, the setup of the engine, the header and the warnings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial

from acestep import components, gpu_config
from acestep.effective_plan import EffectivePlan
from acestep.profiler.flags import BENCHMARK, SCALING, TEXT_MODES, flag_of
from acestep.profiler.options import Options, named
from acestep.profiler.request import COT_SWITCHES
from acestep.setup import AUTO, NONE, Setup
from acestep.tasks import takes
from harness import cards
from harness.accelerators import Accelerator
from harness.cards import Card
from harness.errors import MissingPrerequisite
from harness.text import harmless

USEFUL_TURBO_STEPS = 20
OF_LM = ("lm_model", "lm_backend", "llm_debug")
LABEL = 13  # columns of a line of the header
# Lines of the header that say nothing of a mode.
IDLE = dict.fromkeys(TEXT_MODES, ("DiT", "offload DiT", "quantization", "preset", "thinking", "CoT")) | {
    SCALING: ("preset", "thinking", "CoT", "constrained")
}


def card(options: Options) -> Card | None:
    """The card to predict for, as large as --max-vram says; None where nothing is predicted."""
    if options.card is None:
        return None
    chosen = cards.find(options.card)
    return chosen if options.max_vram_gb is None else replace(chosen, memory_gib=options.max_vram_gb)


def setup(options: Options, *, with_lm: bool | None = None) -> Setup:
    """The engine the options ask for. `with_lm`: whether a language model is loaded (if it has work).

    Raises UsageError, or MissingPrerequisite for a device, weights or a language model that is not there;
    in a benchmark, or where growth is measured, a tier without one is no error: its `lm` is None.
    """
    with_lm = options.wants_lm if with_lm is None else with_lm
    with named(options.origins):
        simulated = card(options)
        setup = Setup.choose(
            options.source,
            device=options.device,
            accelerator=simulated
            and Accelerator("cuda", simulated.name, simulated.memory_gib, capability=simulated.capability),
            dtype=options.dtype,
            dit=options.config_path,
            lm=(AUTO if options.origins.get("lm_model") == "default" else options.lm_model)
            if with_lm
            else None,
            lm_default=options.lm_model,
            want_lm=with_lm,
            lm_backend=options.lm_backend,
            offload_to_cpu=options.offload_to_cpu,
            offload_dit_to_cpu=options.offload_dit_to_cpu,
            quantization=options.quantization,
            lm_quantization=options.lm_quantization,
            compile=options.compile,
            graphs=options.graphs,
            strict=options.strict,
            no_limits=options.no_limits,
            policy=options.policy,
            place=options.place,
        )
        if with_lm and setup.lm is None and options.mode not in (BENCHMARK, SCALING):
            raise MissingPrerequisite(f"lm_model: {setup.no_lm}")
    return setup


def header_lines(options: Options, setup: Setup, commit: str | None) -> list[str]:
    """What is about to run, and in brackets who decided it. `commit`: of the repository, None if unknown."""
    facts = {"mode": _with_origin(options, "mode", options.mode)}
    facts |= _engine_facts(options, setup) | _request_facts(options) | {"commit": commit or "unknown"}
    idle = (*IDLE.get(options.mode, ()), *(() if options.streaming else ("streaming",)))
    return [f"{name:<{LABEL}}{harmless(fact)}" for name, fact in facts.items() if name not in idle]


def _with_origin(options: Options, name: str, value: object) -> str:
    option = getattr(options, name, None)
    instead = option is not None and not isinstance(option, bool) and str(option) != str(value)
    return f"{value} ({f'{option} by ' if instead else ''}{options.origins[name]})"


def _switch(options: Options, name: str, on: bool) -> str:
    return _with_origin(options, name, "on" if on else "off")


def _engine_facts(options: Options, setup: Setup) -> dict[str, str]:
    with_origin, switch = partial(_with_origin, options), partial(_switch, options)
    return {
        "device": with_origin("device", setup.accelerator.device),
        "card": gpu_config.describe(setup.accelerator, setup.policy)
        if setup.limits
        else setup.accelerator.name,
        "source": with_origin("source", setup.source),
        **({"placed": ", ".join(map(str, setup.placed))} if setup.placed else {}),
        "DiT": with_origin("config_path", setup.dit),
        "LM": with_origin("lm_model", setup.lm) if setup.lm else "none",
        "LM backend": f"{with_origin('lm_backend', setup.lm_backend)}: {setup.lm_backend_reason}"
        if setup.lm
        else "none",
        "LM quantized": with_origin("lm_quantization", setup.lm_quantization or NONE) if setup.lm else "none",
        "offload": switch("offload_to_cpu", setup.offload_to_cpu),
        "offload DiT": switch("offload_dit_to_cpu", setup.offload_dit_to_cpu),
        "dtype": with_origin("dtype", setup.dtype),
        "quantization": with_origin("quantization", setup.quantization or NONE),
        "compile": switch("compile", setup.compile),
        "graphs": switch("graphs", setup.graphs),
    }


def _request_facts(options: Options) -> dict[str, str]:
    with_origin, switch = partial(_with_origin, options), partial(_switch, options)
    params = options.params
    request = options.description if options.mode in TEXT_MODES else params
    constrained = request.use_constrained_decoding
    chain = [
        f"{name.removeprefix('use_cot_')} {switch(name, getattr(params, name))}" for name in COT_SWITCHES
    ]
    return {
        "preset": with_origin("preset", options.config.preset),
        "thinking": switch("thinking", params.thinking),
        "CoT": ", ".join(chain),
        "constrained": switch(f"{'use' if constrained else 'no'}_constrained_decoding", constrained),
        "warm-up": switch("no_warmup", options.warmup),
        "streaming": with_origin("chunk", f"chunks of {options.chunk_s:g} s"),
    }


def warnings(options: Options, plan: EffectivePlan) -> tuple[str, ...]:
    """The plan's own warnings, and what the request may not have meant."""
    advice = []
    if plan.setup.turbo and len(plan.times) > USEFUL_TURBO_STEPS:
        advice.append(f"--steps: {len(plan.times)} are no better on a turbo model, which is meant for 8")
    if options.chains and not plan.lm_metadata:
        advice.append(
            "--use-cot-*: no chain of thought runs; it needs --use-cot-metas and metadata left open"
        )
    advice += without_lm(options, [plan])
    return (*plan.warnings, *advice)


def without_lm(options: Options, plans: Sequence[EffectivePlan], more: Iterable[str] = ()) -> list[str]:
    """What flags ask of a language model, those in OF_LM and `more`, where none of `plans` runs one."""
    by_flag = [name for name in (*OF_LM, *more) if options.origins.get(name) == "flag"]
    asked = [flag_of(name) for name in by_flag if getattr(options, name, None) != AUTO]
    if not asked or any(components.LM in plan.components for plan in plans):
        return []
    remedy = "; add --thinking" if any(takes(plan.params.task_type, "thinking") for plan in plans) else ""
    return [f"{', '.join(asked)}: no language model runs, so nothing comes of it{remedy}"]
