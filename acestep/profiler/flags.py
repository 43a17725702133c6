"""The flags of `profile_inference.py`: how they are spelled and in which modes they mean something.

A flag that was not given leaves no trace in what `Flags.explicit` returns, so that a default from elsewhere
can take its place and its origin can be told. What a value may be is checked by the record it goes into.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from acestep.defaults import CHUNK_S, DEFAULT_SEED, EXAMPLE_NAMES
from acestep.gpu_config import GUIDE as GUIDE_TIERS
from acestep.gpu_config import POLICIES
from acestep.lm.backends.registry import BACKENDS
from acestep.placement import PARTS, checked
from acestep.presets import GUIDE, PRESETS
from acestep.tasks import TASKS
from acestep.weights.layout import DEFAULT_DIT, LMS, SYNTHETIC
from harness.checks import did_you_mean, shown
from harness.console import LISTING, LISTING_HELP, Answer, Parser, named
from harness.dtypes import NAMES as DTYPES
from harness.errors import UsageError
from harness.flags import ALIASES, number, one_spelling, span, whole
from harness.quantization import LM_QUANTIZATIONS, QUANTIZATIONS

PROFILE, BENCHMARK, SCALING, TIER_TEST = "profile", "benchmark", "scaling", "tier-test"
UNDERSTAND, CREATE, FORMAT = "understand", "create_sample", "format_sample"
# The language model alone, and what the engine calls it.
TEXT_MODES = {UNDERSTAND: "understand", CREATE: "create", FORMAT: "format"}
MODES = (PROFILE, BENCHMARK, SCALING, TIER_TEST, *TEXT_MODES)
GENERATION = (PROFILE, BENCHMARK)
SINGLE = (PROFILE, *TEXT_MODES)  # one request
REQUESTS = (*GENERATION, *TEXT_MODES)
MEASURED = (*REQUESTS, SCALING)  # by the profiler itself
PROFILED = GUIDE
REPEATABLE = ("reference_audio",)


def flag_of(name: str) -> str:
    """How the setting `name` is spelled on the command line."""
    return one_spelling(f"--{name}")


def _spellings(name: str) -> tuple[str, ...]:
    return flag_of(name), *ALIASES.get(flag_of(name), ())


class Flags(Parser):
    """A parser whose mistakes are UsageErrors of one line, and whose flags belong to modes."""

    def __init__(self) -> None:
        super().__init__(
            prog="profile_inference.py",
            usage="profile_inference.py [--mode MODE] [flags]",
            description="Where the time of ACE-Step 1.5 inference goes.",
            epilog="In round brackets the default, which the environment and .env may replace.",
            argument_default=argparse.SUPPRESS,
            allow_abbrev=False,
        )
        self.modes_of: dict[str, tuple[str, ...]] = {}

    def group(self, title: str, of_group: Sequence[str]) -> Callable[..., None]:
        """What adds flags that belong to `of_group`, or to the `modes` given with one."""
        group = self.add_argument_group(f"{title} [{_listed(of_group)}]")

        def add(*names: str, help: str, modes: Sequence[str] = of_group, **settings: Any) -> None:
            homes = "" if modes == of_group else f" [{_listed(modes)}]"
            action = group.add_argument(*names, help=help + homes, **settings)
            self.modes_of[action.dest] = tuple(modes)

        return add

    def explicit(self, argv: Sequence[str] | None) -> dict[str, Any]:
        """Values of the flags on the command line, by name. Raises UsageError."""
        values, unknown = self.parse_known_args(argv)
        if unknown:
            flag = unknown[0].partition("=")[0]
            known = [spelling for name in self.modes_of for spelling in _spellings(name)]
            hint = f"write --mode {flag}" if flag in MODES else did_you_mean(flag, known)
            raise UsageError(f"{shown(unknown[0])} is no flag; {hint or 'see --help'}")
        return vars(values)

    def one_of_each(self, values: dict[str, Any]) -> dict[str, Any]:
        """`values` where flags of several have one. Raises UsageError for more: they are for tier tests."""
        for name, value in values.items():
            if isinstance(value, list) and len(value) > 1 and name not in REPEATABLE:
                raise UsageError(
                    f"{flag_of(name)}: several values are a matrix of mode {TIER_TEST}; give one"
                )
        return {
            name: value[0] if isinstance(value, list) and name not in REPEATABLE else value
            for name, value in values.items()
        }

    def error(self, message: str) -> NoReturn:
        raise UsageError(message.removeprefix("argument "))


def _listed(modes: Sequence[str]) -> str:
    """The modes, or the few that are left out."""
    others = [mode for mode in MODES if mode not in modes]
    if not others:
        return "every mode"
    return ", ".join(modes) if len(others) > 2 else f"not {', '.join(others)}"


def parser() -> Flags:
    """All flags of the guide, and ours beside them."""
    flags = Flags()
    _add_shared(flags)
    _add_engine(flags)
    _add_request(flags)
    _add_measuring(flags)
    _add_tiers(flags)
    return flags


def _add_shared(flags: Flags) -> None:
    add = flags.group("shared", MODES)
    add("--mode", type=_mode, metavar="MODE", help=f"{', '.join(MODES)} ({PROFILE})")
    add("--device", help="auto, cuda, cuda:N, mps or cpu (auto)")
    add("--source", type=named, help=f"{', '.join(SYNTHETIC)} or a checkpoint folder (this machine's)")
    add("--benchmark-output", type=Path, metavar="FILE", help="results, as .json, .csv or .md")
    add("--list-devices", action=Answer, const=LISTING, help=LISTING_HELP)


def _add_engine(flags: Flags) -> None:
    switch = argparse.BooleanOptionalAction
    add = flags.group("engine", MEASURED)
    everywhere = (*MEASURED, TIER_TEST)
    of_dit = (*GENERATION, SCALING)  # where there is one
    dits = f"DiT variant, of the source ({DEFAULT_DIT})"
    add("--dit", dest="config_path", type=named, nargs="+", modes=everywhere, metavar="FOLDER", help=dits)
    lms = f"of {', '.join(LMS)} ({LMS[1]}; of tiers, theirs)"
    add("--lm", dest="lm_model", nargs="+", modes=everywhere, metavar="NAME", help=lms)
    backends = f"auto, {', '.join(BACKENDS)} (auto)"
    add("--lm-backend", modes=everywhere, metavar="NAME", help=backends)
    formats = f"of weights and activations: auto, {', '.join(DTYPES)} (auto: the device's)"
    add("--dtype", nargs="+", modes=everywhere, metavar="NAME", help=formats)
    helped = "models in host memory while unused (the tier's)"
    add("--offload", dest="offload_to_cpu", action=switch, help=helped)
    helped = "the DiT as well (the tier's)"
    add("--offload-dit", dest="offload_dit_to_cpu", action=switch, modes=of_dit, help=helped)
    schemes = f"of the DiT: none, {', '.join(QUANTIZATIONS)} (the tier's)"
    add("--quantization", nargs="+", modes=(*of_dit, TIER_TEST), metavar="NAME", help=schemes)
    schemes = f"of the LM: none, {', '.join(LM_QUANTIZATIONS)} (none)"
    add("--lm-quantization", nargs="+", modes=everywhere, metavar="NAME", help=schemes)
    add("--compile", action=switch, help="compile the DiT, on CUDA the LM and the VAE too (the tier's)")
    add("--graphs", action=switch, help="launch the kernels of a step as one (yes on CUDA, and there only)")
    places = f"parts on other devices, e.g. dit=cuda:0,lm=cuda:1; of {', '.join(PARTS)}"
    placed = (*REQUESTS, TIER_TEST)
    add("--place", type=checked, nargs="+", modes=placed, metavar="PART=DEVICE,..", help=places)
    add("--max-vram", metavar="GB", help="simulate a card of this size, as MAX_CUDA_VRAM does")
    strict = "refuse a request over a limit instead of changing it"
    add("--strict", action="store_true", modes=everywhere, help=strict)
    add("--no-limits", action="store_true", modes=everywhere, help="ignore what the card's tier allows")
    policies = f"whose tiers: {', '.join(POLICIES)} ({GUIDE_TIERS})"
    add("--policy", choices=POLICIES, modes=everywhere, metavar="NAME", help=policies)


def _add_request(flags: Flags) -> None:
    add = flags.group("request", GENERATION)
    add(
        "--example",
        type=named,
        nargs="+",
        modes=(*GENERATION, FORMAT, TIER_TEST),
        metavar="FILE",
        help=f"a request file, {EXAMPLE_NAMES}",
    )
    add("--task", dest="task_type", metavar="TASK", help=f"{', '.join(TASKS)} (text2music)")
    add(
        "--reference-audio",
        type=named,
        metavar="FILE",
        action="append",
        help="a clip whose timbre to take; repeatable",
    )
    add("--src-audio", type=named, metavar="FILE", help="the recording to work on; all tasks but text2music")
    seconds = "of audio, 10 to 600; -1: the LM's (example's)"
    tested = (*GENERATION, TIER_TEST)
    add("--duration", type=number, nargs="+", modes=tested, metavar="S", help=seconds)
    add("--shift", type=number, nargs="+", modes=tested, metavar="X", help="of the steps' times (example's)")
    add("--batch-size", type=whole, metavar="N", modes=(*GENERATION, TIER_TEST), help="items (example's)")
    add(
        "--steps",
        dest="inference_steps",
        type=whole,
        metavar="N",
        modes=(*GENERATION, TIER_TEST),
        help="diffusion steps (example's; turbo 8, base 50)",
    )
    add("--seed", type=whole, modes=MODES, metavar="N", help=f"-1 draws one (example's, else {DEFAULT_SEED})")
    names = f"what holds where nothing else is said: {', '.join(PRESETS)} ({PROFILED})"
    add("--preset", choices=PRESETS, modes=(*GENERATION, TIER_TEST), metavar="NAME", help=names)
    add("--guidance-scale", type=number, metavar="X", help="of the DiT; turbo has none (7.0)")
    _add_planning(add)


def _add_planning(add: Callable[..., None]) -> None:
    """What the language model does with a request."""
    switch = argparse.BooleanOptionalAction
    add("--thinking", action=switch, help="plan audio codes with the language model")
    add("--use-cot-metas", action=switch, help="let it fill empty metadata")
    add("--use-cot-caption", action=switch, help="let it rewrite the caption")
    add("--use-cot-language", action=switch, help="let it name the vocal language")
    add("--use-constrained-decoding", modes=REQUESTS, action="store_true", help="plan by the grammar (on)")
    add("--no-constrained-decoding", modes=REQUESTS, action="store_true", help="plan without it")
    add("--lm-temperature", type=number, modes=REQUESTS, metavar="X", help="sampling of the LM (0.85)")
    add("--lm-cfg-scale", type=number, metavar="X", help="guidance of the LM's audio codes (2.0)")
    codes = "as text or @FILE (an example's)"
    add("--codes", dest="audio_codes", modes=(UNDERSTAND,), metavar="TEXT", help=codes)
    add("--sample-query", modes=(CREATE,), metavar="TEXT", help="a few words on the song (an example's)")
    add("--instrumental", modes=(CREATE,), action="store_true", help="no voice")


def _add_measuring(flags: Flags) -> None:
    add = flags.group("measuring", MEASURED)
    add("--no-warmup", action="store_true", help="keep the cold figures: load, first call")
    add("--repeats", type=whole, metavar="N", help="timed runs of each (benchmark 3, scaling 5, else 1)")
    add("--detailed", modes=SINGLE, action="store_true", help="functions by cProfile")
    add("--llm-debug", modes=SINGLE, action="store_true", help="tokens, rates and shares of the LM")
    add(
        "--profile-memory",
        modes=SINGLE,
        action="store_true",
        help="memory at each stage's end, the driver's count too",
    )
    add("--trace", type=Path, modes=SINGLE, metavar="FILE", help="torch profiler trace, for Perfetto")
    add("--streaming", modes=(PROFILE,), action="store_true", help="hear it while it is decoded, in chunks")
    add("--chunk", type=number, modes=(PROFILE,), metavar="S", help=f"seconds of a chunk of it ({CHUNK_S:g})")
    add(
        "--measure-ceilings",
        modes=(PROFILE,),
        action="store_true",
        help="ask the device for its peaks: a copy, a matmul",
    )
    add(
        "--json-plan",
        type=Path,
        modes=GENERATION,
        metavar="FILE",
        help="results by input as JSON, by the names of a performance plan",
    )
    _add_extent(add)


def _add_extent(add: Callable[..., None]) -> None:
    """How much is measured, if anything, and what of it is written."""
    add("--budget", type=span, modes=(BENCHMARK,), metavar="TIME", help="stop in time: 90s, 10m, 1h")
    add(
        "--resume",
        modes=(BENCHMARK, SCALING),
        action=argparse.BooleanOptionalAction,
        help="take over what an interrupted run finished (on)",
    )
    add(
        "--dry-run",
        modes=(*MEASURED, TIER_TEST),
        action="store_true",
        help="print what would run and load nothing",
    )
    card = "predict for it: a dry run, the growth, the tiers"
    add("--card", modes=(BENCHMARK, SCALING, TIER_TEST), metavar="NAME", help=card)
    add("--quick", modes=(SCALING,), action="store_true", help="fewer lengths: up to 30 s")
    add("--html", type=Path, modes=(SCALING,), metavar="FILE", help="the plot (outputs/scaling.html)")
    listed = tuple(mode for mode in MODES if mode != SCALING)
    add("--json-compat", modes=listed, action="store_true", help="a bare list with upstream's field names")


def _add_tiers(flags: Flags) -> None:
    add = flags.group("tiers", (TIER_TEST,))
    add("--tiers", type=number, nargs="+", metavar="GB", help="card sizes (4 6 8 12 16 20 24)")
    add("--with-lm", action="store_true", help="plan with the tier's language model")
    add("--suggest", action="store_true", help="what predictions support of each tier, as a patch")
    add("--skip-compile", action="store_true", help="compile nothing that is not quantized")
    add("--boundary", action="store_true", help="where quantization and offloading can go")
    add("--batch-boundary", action="store_true", help="the largest batch of each card")
    add("--predict", action="store_true", help="run nothing (where there is no accelerator)")
    add("--run", action="store_true", help="generate under a cap (where there is one)")
    add("--device-json", type=Path, metavar="FILE", help="predict for the card that a file describes")


def _mode(value: str) -> str:
    if value in MODES:
        return value
    hint = did_you_mean(value, MODES) or "see --help"
    raise argparse.ArgumentTypeError(f"{shown(value)} is not allowed; use one of {', '.join(MODES)}; {hint}")
