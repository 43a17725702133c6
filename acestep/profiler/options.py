"""Options of the command line, as one frozen record, with the origin of every value.

    flag  >  environment  >  .env  >  example  >  preset  >  default

Only what can be known without looking at the machine is decided here; device, weights and the limits of
a card are `acestep.profiler.prepare.setup`'s.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from acestep.cli.seeds import one_seed
from acestep.cli.upstream import LeftOut
from acestep.defaults import CHUNK_S, DEFAULT_EXAMPLE, DEFAULT_SEED
from acestep.gpu_config import GUIDE
from acestep.lm.backends.registry import BACKENDS
from acestep.profiler import defaults
from acestep.profiler.flags import BENCHMARK, PROFILE, SCALING, TEXT_MODES, TIER_TEST, flag_of, parser
from acestep.profiler.request import COT_SWITCHES, RequestFile, requested
from acestep.request import DescriptionParams, GenerationConfig, GenerationParams
from acestep.resolver import CHUNK_RANGE_S
from acestep.setup import AUTO, NONE
from acestep.weights.layout import LMS
from harness import accelerators
from harness.adjustments import Adjustments
from harness.checks import one_of, shown, within
from harness.dtypes import NAMES as DTYPES
from harness.errors import MissingPrerequisite, UsageError
from harness.files import apart
from harness.flags import spelled
from harness.quantization import LM_QUANTIZATIONS, QUANTIZATIONS

OF_TIER = ("offload_to_cpu", "offload_dit_to_cpu", "quantization", "compile", "graphs")
OF_ENGINE = ("dtype", "lm_quantization", *OF_TIER)
UNASKED = ("preset", "default")  # origins of what nobody has asked for
OUTPUTS = ("benchmark_output", "json_plan", "html", "trace")  # files, each its own
REPEATS = {BENCHMARK: 3, SCALING: 5}  # where a flag says nothing, else 1
MAX_REPEATS = 1_000
MAX_BUDGET_S = 7 * 24 * 3_600.0
TIERSIM_FLAGS = (
    *("device", "source", "lm_backend", "batch_size", "inference_steps", "seed", "tiers", "preset"),
    *("with_lm", "skip_compile", "boundary", "batch_boundary"),
    *("dry_run", "benchmark_output", "json_compat", "predict", "run", "card", "device_json", "suggest"),
    *("config_path", "lm_model", "dtype", "quantization", "example", "duration", "shift", "policy"),
    *("strict", "no_limits", "lm_quantization", "place"),
)
OF_LM = {"with_lm", "batch_boundary", "suggest"}  # flags of tier tests that load a language model
# The engine's names for what a flag calls differently.
ENGINE_NAMES = {
    "dit": "config_path",
    "lm": "lm_model",
    "seeds": "seed",
    "query": "sample_query",
    "temperature": "lm_temperature",
}


@dataclass(frozen=True, slots=True)
class Options:
    """A run of the profiler. `params` and `config` are for generation, `description` for the text modes.

    `origins` says of every flag, by name, where its value came from: flag, env, .env, example, preset,
    default or tier (decided by the card's, when the engine is set up). `left_out` says what of the example
    has no counterpart, `example_names` how errors name the fields that it chose.
    """

    mode: str = PROFILE
    # The engine; None is the source's or the tier's own.
    source: str | None = None
    device: str = AUTO
    dtype: str = AUTO
    lm_backend: str = AUTO
    config_path: str | None = None
    lm_model: str = LMS[1]
    offload_to_cpu: bool | None = None
    offload_dit_to_cpu: bool | None = None
    quantization: str = AUTO
    lm_quantization: str = NONE
    compile: bool | None = None
    graphs: bool | None = None
    strict: bool = False
    no_limits: bool = False
    policy: str = GUIDE
    place: str | None = None
    max_vram_gb: float | None = None
    # The request.
    example: str = DEFAULT_EXAMPLE
    params: GenerationParams = field(default_factory=GenerationParams)
    config: GenerationConfig = field(default_factory=GenerationConfig)
    description: DescriptionParams = field(default_factory=DescriptionParams)
    request_file: RequestFile | None = None  # of music
    # How it is measured.
    warmup: bool = True
    repeats: int = 1
    detailed: bool = False
    llm_debug: bool = False
    trace: Path | None = None
    profile_memory: bool = False
    streaming: bool = False
    chunk_s: float = CHUNK_S
    measure_ceilings: bool = False
    budget_s: float | None = None
    resume: bool = True
    dry_run: bool = False
    card: str | None = None  # what is predicted for
    quick: bool = False
    html: Path | None = None
    benchmark_output: Path | None = None
    json_plan: Path | None = None
    json_compat: bool = False
    tiersim: tuple[str, ...] = ()  # the command line of tiersim, for tier-test
    left_out: LeftOut = field(default_factory=lambda: LeftOut(Adjustments(strict=False)))
    origins: Mapping[str, str] = field(default_factory=dict)
    example_names: Mapping[str, str] = field(default_factory=dict)

    @property
    def seed(self) -> int:
        """Of the first item."""
        return (self.config.seeds or (DEFAULT_SEED,))[0]

    @property
    def chains(self) -> bool:
        """Whether any of the chain-of-thought switches was asked for."""
        return any(
            getattr(self.params, name) and self.origins.get(name) not in UNASKED for name in COT_SWITCHES
        )

    @property
    def engine(self) -> dict[str, Any]:
        """What flags ask of the engine, where the device or the card's tier would decide."""
        return {name: getattr(self, name) for name in OF_ENGINE if self.origins.get(name) == "flag"}

    @property
    def wants_lm(self) -> bool:
        """Whether the language model has work; a benchmark has rows that think."""
        return self.mode in (BENCHMARK, *TEXT_MODES) or self.params.uses_lm


def parse(
    argv: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ, folder: Path = Path()
) -> Options:
    """The options of a command line, with defaults from `environ` and from the `.env` of `folder`.

    Raises UsageError for what is not allowed and MissingPrerequisite for what this engine cannot do, both
    naming the flag or variable.
    """
    flags = parser()
    arguments = flags.explicit(argv)
    mode = arguments.get("mode", PROFILE)
    for name in arguments:
        if mode not in flags.modes_of[name]:
            homes = ", ".join(flags.modes_of[name])
            raise UsageError(f"{flag_of(name)}: has no meaning in mode {mode}; drop it, or use it in {homes}")
    if mode != TIER_TEST:
        arguments = flags.one_of_each(arguments)
    ambient = defaults.load(environ, folder)
    origins = dict.fromkeys(flags.modes_of, "default") | dict.fromkeys(OF_TIER, "tier")
    origins |= {name: default.origin for name, default in ambient.items()} | dict.fromkeys(arguments, "flag")
    settings: dict[str, Any] = {name: default.value for name, default in ambient.items()} | arguments
    with named(origins):
        _refuse_contradictions(settings, arguments)
        _refuse_missing(settings)
        if mode == TIER_TEST:
            left_out = LeftOut(Adjustments(strict=False))
            tiersim = _tiersim(settings, arguments, left_out.notes)
            return Options(mode, tiersim=tiersim, left_out=left_out, origins=origins)
        values = requested(mode, settings, origins) | _measuring(mode, settings)
    direct = {known.name: settings[known.name] for known in fields(Options) if known.name in settings}
    return Options(**direct | values, origins=origins)


def named(origins: Mapping[str, str]) -> AbstractContextManager[None]:
    """Errors name the flag or the variable to change, not the engine's field."""
    spellings = {}
    for name, origin in origins.items():
        ambient = origin in ("env", ".env")
        spellings[name] = f"{defaults.VARIABLES[name]} ({origin})" if ambient else flag_of(name)
    spellings |= {field: spellings[name] for field, name in ENGINE_NAMES.items() if name in spellings}
    return spelled(spellings | {f"{name} (argument)": spelling for name, spelling in spellings.items()})


def _refuse_contradictions(settings: Mapping[str, Any], arguments: Mapping[str, Any]) -> None:
    """What is misspelled, or has no meaning beside or without something else. `arguments`: the flags."""
    one_of("lm_backend", settings.get("lm_backend", AUTO), (AUTO, *BACKENDS))
    for name in _listed(settings.get("quantization", AUTO)):
        one_of("quantization", name, (AUTO, NONE, *QUANTIZATIONS))
    for name in _listed(settings.get("lm_quantization", NONE)):
        one_of("lm_quantization", name, (NONE, *LM_QUANTIZATIONS))
    for name in _listed(settings.get("dtype", AUTO)):
        one_of("dtype", name, (AUTO, *DTYPES))
    if "no_constrained_decoding" in settings and "use_constrained_decoding" in settings:
        raise UsageError("no_constrained_decoding: given with --use-constrained-decoding; keep one of them")
    if settings.get("offload_dit_to_cpu") and settings.get("offload_to_cpu") is False:
        raise UsageError("offload_dit_to_cpu: given with --no-offload; drop one of them")
    if settings.get("mode") == BENCHMARK and "card" in settings and not settings.get("dry_run"):
        raise UsageError("card: is where nothing runs and all is predicted; add --dry-run, or drop it")
    if settings.get("mode") == BENCHMARK and {"card", "device"} <= arguments.keys():
        raise UsageError("device: given with --card, which is not here; drop one of them")
    if settings.get("json_compat") and "benchmark_output" not in settings:
        raise UsageError("json_compat: is a form of a file; name it with --benchmark-output FILE")
    apart({flag_of(name): settings.get(name) for name in OUTPUTS})
    if "chunk" in settings and "streaming" not in settings:
        raise UsageError("chunk: has no use without --streaming; add it, or drop --chunk")
    if settings.get("resume") and "benchmark_output" not in settings:
        raise UsageError("resume: continues a file; name it with --benchmark-output FILE")


def _refuse_missing(settings: Mapping[str, Any]) -> None:
    """What is asked for rightly and this engine has not."""
    for lm in _listed(settings.get("lm_model", LMS[0])):
        if lm not in LMS:
            raise MissingPrerequisite(f"lm_model: there is no {shown(lm)}; use one of {', '.join(LMS)}")


def _tiersim(settings: Mapping[str, Any], arguments: Mapping[str, Any], notes: list[str]) -> tuple[str, ...]:
    """The command line of `python -m tiersim` for a tier test, which checks the values.

    A language model of the environment is that of the cases that have one. `notes` learn of a drawn seed.
    """
    settings = dict(settings)
    if "lm_model" not in arguments and not arguments.keys() & OF_LM:
        settings.pop("lm_model", None)
    if "seed" in settings:
        settings["seed"] = one_seed(settings["seed"], notes)
    line = []
    for name in TIERSIM_FLAGS:
        if name in settings:
            value = settings[name]
            line += [flag_of(name), *(() if value is True else map(str, _listed(value)))]
    return tuple(line)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _measuring(mode: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """How it is measured, where the flag is not the option itself."""
    values: dict[str, Any] = {"warmup": "no_warmup" not in settings}
    values["repeats"] = settings.get("repeats", REPEATS.get(mode, 1))
    within("repeats", values["repeats"], 1, MAX_REPEATS, kind=int)
    if "budget" in settings:
        within("budget", settings["budget"], 1.0, MAX_BUDGET_S)
        values["budget_s"] = settings["budget"]
    if "chunk" in settings:
        within("chunk", settings["chunk"], *CHUNK_RANGE_S)
        values["chunk_s"] = settings["chunk"]
    if "max_vram" in settings:
        values["max_vram_gb"] = accelerators.size_gb("max_vram", settings["max_vram"])
    return values
