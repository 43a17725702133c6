"""The command `profile_inference.py`: from a command line to a mode, and every mistake to one line.

    python profile_inference.py --thinking --duration 60
    python profile_inference.py --mode benchmark --budget 10m --benchmark-output results.json

Exit codes: 0 done, 1 a run failed, 2 usage, 3 a device, weights or a part of the engine is missing,
4 the harness itself failed, 130 and 143 interrupted. Whatever can be refused is refused before torch is
imported.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace

from acestep import gpu_config
from acestep.profiler.flags import BENCHMARK, TIER_TEST, WORDS
from acestep.profiler.options import Options, named, parse
from acestep.profiler.request import COT_SWITCHES
from acestep.resolver import EffectivePlan
from acestep.setup import NONE, Setup
from harness import cards, console
from harness.accelerators import MAX_VRAM_VARIABLE, Accelerator
from harness.cards import Card
from harness.errors import MissingPrerequisite
from harness.text import harmless

USEFUL_TURBO_STEPS = 20


def main(argv: Sequence[str] | None = None, *, tier_test: Callable[[Sequence[str]], int]) -> int:
    """Run what a command line asks for; returns the exit code. `tier_test` runs tiersim's command line."""

    def command() -> int:
        options = parse(argv)
        if options.mode == TIER_TEST:
            return tier_test(options.tiersim)
        if options.max_vram_gb is not None:
            os.environ[MAX_VRAM_VARIABLE] = f"{options.max_vram_gb:g}"
        from acestep.profiler import modes

        with named(options.origins):
            return modes.run(options)

    return console.run("profile_inference", command)


def card(options: Options) -> Card | None:
    """The card to predict for, as large as --max-vram says; None where nothing is predicted."""
    if options.card is None:
        return None
    found = cards.find(options.card)
    return found if options.max_vram_gb is None else replace(found, memory_gib=options.max_vram_gb)


def setup(options: Options, *, with_lm: bool | None = None) -> Setup:
    """The engine the options ask for. `with_lm`: whether a language model is loaded (if it has work).

    Raises UsageError, or MissingPrerequisite for a device, weights or a language model that is not there;
    in a benchmark a tier without one is no error: its `lm` is None.
    """
    with_lm = options.wants_lm if with_lm is None else with_lm
    with named(options.origins):
        absent = card(options)
        made = Setup.choose(
            options.source,
            device=options.device,
            accelerator=absent
            and Accelerator("cuda", absent.name, absent.memory_gib, capability=absent.capability),
            dit=options.config_path,
            lm=options.lm_model if with_lm else None,
            want_lm=with_lm,
            lm_backend=options.lm_backend,
            offload_to_cpu=options.offload_to_cpu,
            offload_dit_to_cpu=options.offload_dit_to_cpu,
            quantization=options.quantization,
            compile=options.compile,
            strict=options.strict,
            no_limits=options.no_limits,
        )
        if with_lm and made.lm is None and options.mode != BENCHMARK:
            raise MissingPrerequisite(
                f"lm_model: {made.whose()} has room for no language model; drop what asks for one, "
                "or give --no-limits"
            )
    return made


def header_lines(options: Options, made: Setup, commit: str | None) -> list[str]:
    """What is about to run, and in brackets who decided it. `commit`: of the repository, None if unknown."""

    def said(name: str, value: object) -> str:
        asked = getattr(options, name, None)
        instead = asked is not None and not isinstance(asked, bool) and str(asked) != str(value)
        return f"{value} ({f'{asked} by ' if instead else ''}{options.origins[name]})"

    def switch(name: str, on: bool) -> str:
        return said(name, "on" if on else "off")

    params = options.params
    request = options.description if options.mode in WORDS else params
    constrained = request.use_constrained_decoding
    chain = [
        f"{name.removeprefix('use_cot_')} {switch(name, getattr(params, name))}" for name in COT_SWITCHES
    ]
    facts = {
        "mode": said("mode", options.mode),
        "device": said("device", made.accelerator.device),
        "card": gpu_config.describe(made.accelerator) if made.limits else made.accelerator.name,
        "source": said("source", made.source),
        "DiT": said("config_path", made.dit),
        "LM": said("lm_model", made.lm) if made.lm else "none",
        "LM backend": f"{said('lm_backend', made.lm_backend)}: {made.lm_backend_reason}"
        if made.lm
        else "none",
        "offload": switch("offload_to_cpu", made.offload_to_cpu),
        "offload DiT": switch("offload_dit_to_cpu", made.offload_dit_to_cpu),
        "quantization": said("quantization", made.quantization or NONE),
        "compile": switch("compile", made.compile),
        "thinking": switch("thinking", params.thinking),
        "CoT": ", ".join(chain),
        "constrained": switch(f"{'use' if constrained else 'no'}_constrained_decoding", constrained),
        "warm-up": switch("no_warmup", options.warmup),
        "commit": commit or "unknown",
    }
    idle = (
        ("DiT", "offload DiT", "quantization", "compile", "thinking", "CoT") if options.mode in WORDS else ()
    )
    return [f"{name:<13}{harmless(fact)}" for name, fact in facts.items() if name not in idle]


def warnings(options: Options, plan: EffectivePlan) -> tuple[str, ...]:
    """The plan's own warnings, and what the request may not have meant."""
    mine = []
    if plan.setup.turbo and len(plan.times) > USEFUL_TURBO_STEPS:
        mine.append(
            f"--inference-steps: {len(plan.times)} are no better on a turbo model, which is meant for 8"
        )
    if options.chains and not plan.lm_metadata:
        mine.append("--use-cot-*: no chain of thought runs; it needs --use-cot-metas and metadata left open")
    return (*plan.warnings, *mine)
