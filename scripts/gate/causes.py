"""What a record says, in the fewest lines: series that became slower by one cause are one.

The standard library is all that is needed, as for the record.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from harness.registry import SUBJECTS
from scripts.gate.record import Record, Series
from scripts.gate.statistics import FUNCTION
from scripts.gate.statistics import WHOLE as COUNTED

ORDER = ("slower", "not measured", "cannot tell", "faster", "same")
NAMES = {"qwen3_tts": "Qwen3-TTS", "rvc": "RVC"}  # of subjects, as readers know them
IN_ALL = "wall"  # the stage of series that are sums of the others
DECIMAL = ("", "k", "M", "G", "T", "P", "E")
UNITS = {"bytes": "B"}  # as they are abbreviated
DITS = {name: f"acestep-v15-{name}" for name in ("turbo", "base", "xl-turbo")}
MEASURES = {"qwen3_tts": "bench", "rvc": "e2e"}  # the command of a subject that times requests
COST_MODES = {"eager": ["--no-graphs"], "captured": [], "compiled+captured": ["--compile"]}
MODES = {"understand": "understand", "create": "create_sample", "format": "format_sample"}
WHOLE = (*COUNTED, "exit code")
CROSSINGS = ("reads", "copies")  # of the link between host and card


@dataclass(frozen=True, slots=True)
class Cause:
    """Series of one stage of one component with one verdict, worst first. `change`: the median of theirs,
    0.5 is half as much again; None where nothing was measured."""

    verdict: str
    kind: str
    stage: str
    component: str
    change: float | None
    series: tuple[Series, ...]

    @property
    def worst(self) -> Series:
        return self.series[0]

    @property
    def typical(self) -> Series:
        """The one in the middle of those that are in the unit of the worst."""
        alike = [one for one in self.series if one.unit == self.worst.unit]
        return alike[len(alike) // 2]


def causes(record: Record) -> list[Cause]:
    """All of them, the worst first: what is slower, then what is not known, what is faster, what is the same.
    Sums of stages follow the stages."""
    groups: dict[tuple[str, ...], list[Series]] = {}
    for one in record.series:
        groups.setdefault((one.verdict, one.kind, one.stage, one.component), []).append(one)
    return sorted((_cause(series) for series in groups.values()), key=_rank)


def only_cards(record: Record) -> str:
    """That only what fits has become worse; empty where that is not so."""
    if record.verdict != "slower" or any(one.verdict == "slower" for one in record.series):
        return ""
    return "No series is slower, but a card that was enough no longer is."


def placed(stage: str, component: str) -> str:
    """A stage and what runs it, for a reader."""
    return ", ".join(dict.fromkeys((stage, NAMES.get(component, component))))


def _cause(series: list[Series]) -> Cause:
    series.sort(key=lambda one: -(one.ratio or 0))
    first, change = series[0], _median(series)
    return Cause(first.verdict, first.kind, first.stage, first.component, change, tuple(series))


def _median(series: Iterable[Series]) -> float | None:
    changes = [one.ratio - 1 for one in series if one.ratio is not None]
    return median(changes) if changes else None


def _rank(cause: Cause) -> tuple:
    place = ORDER.index(cause.verdict), cause.stage == IN_ALL, -abs(cause.change or 0)
    return *place, cause.stage, cause.kind


def named(causes: Iterable[Cause], verdict: str) -> list[Cause]:
    """Those with a verdict."""
    return [cause for cause in causes if cause.verdict == verdict]


def closer(series: Series) -> str:
    """The command that looks closer at what became slower."""
    params = dict(series.params)
    if series.unit == FUNCTION:
        return "make bench-micro"
    if series.unit in CROSSINGS:  # which names the lines
        return "python -m pytest tests/benchmarks/test_waits.py"
    if series.component in SUBJECTS:
        command = _of_subject(series, params)
    elif series.kind == "timed":
        command = ["profile_inference.py", "--detailed", *_request(params, series.component)]
    elif "tier_gb" in params:
        names = {"tier_gb": "--tiers", "variant": "--variants"}
        command = ["-m", "tiersim", "--predict", *_flags(params, names)]
        command += ["--dit", DITS["xl-turbo"]] if ".TrackPredictedPeakXL." in series.benchmark else []
    else:
        names = {"duration_s": "--duration", "batch": "--batch-size"}
        command = ["-m", "acestep.costs", *_flags(params, names)]
        command += ["--dit", DITS[params["variant"]]] if params.get("variant") in DITS else []
        command += ["--thinking"] if series.component == "LM" else []
        command += COST_MODES.get(params.get("mode", ""), [])
    return shlex.join(["python", *command])


def _of_subject(series: Series, params: dict[str, str]) -> list[str]:
    """A subject's own command: what it costs, or how long it takes here."""
    package = SUBJECTS[series.component].rpartition(".")[0]
    flags = _flags(params, {"model": "--model", "tier_gb": "--max-vram"})
    command = "costs" if series.kind == "exact" else MEASURES[series.component]
    return ["-m", package, command, *flags, *COST_MODES.get(params.get("mode", ""), [])]


def _request(params: dict[str, str], component: str) -> list[str]:
    """Flags of the profiler for what a cell measures."""
    if mode := MODES.get(params.get("mode", "")):
        return ["--mode", mode]
    names = {"batch": "--batch-size", "steps": "--steps", "quantization": "--quantization"}
    flags = _flags(params, names)
    if "method" in params:
        flags += ["--dit", DITS["base"], "--steps", "8"]
    if task := params.get("task"):
        recording = "examples/audio/loop.flac"
        source = ["--task", task, "--src-audio", recording]
        flags += ["--reference-audio", recording] if task == "reference" else source
    if streamed := component == "stream":
        flags += ["--streaming", *_flags(params, {"chunk_s": "--chunk"})]
    planned = component == "LM" or (streamed and params["thinking"] == "True")
    return flags + (["--thinking"] if planned else [])


def _flags(params: dict[str, str], names: dict[str, str]) -> list[str]:
    return [word for name, flag in names.items() if name in params for word in (flag, params[name])]


def grown(cause: Cause) -> str:
    """By how much, as it is read best: +49 %; +1.0 % FLOP, +8 launches; nothing where that is not known."""
    if cause.kind == "timed":
        return percent(cause.change)
    units: dict[str, list[Series]] = {}
    for one in cause.series:
        units.setdefault(one.unit, []).append(one)
    return ", ".join(filter(None, map(_grown, units.values())))


def _grown(series: list[Series]) -> str:
    """The same of series in one unit, the worst first. Of many launches one more is no percent."""
    worst = series[0]
    if worst.unit in WHOLE and worst.base is not None and worst.head is not None:
        return f"{worst.head - worst.base:+,.0f} {worst.unit}"
    change = percent(_median(series))
    return f"{change} {worst.unit}" if change else ""


def percent(change: float | None) -> str:
    """A change with its sign: +49 %, -0.5 %; x12 beyond ten times."""
    if change is None:
        return ""
    if change >= 9:
        return f"x{1 + change:,.0f}"
    return f"{100 * change:+.{0 if abs(change) >= 0.095 else 1}f} %"


def shown(value: float | None, unit: str) -> str:
    """A value in a unit that is read at a glance: 4.99 TFLOP, 158 GB, 41.2 ms, 1,840 launches."""
    if value is None:
        return "-"
    if unit == "seconds":
        factor, name = next(
            (pair for pair in ((1, "s"), (1e3, "ms")) if value * pair[0] >= 1), (1e6, "µs")
        )  # fmt: skip
        return f"{_three(value * factor)} {name}"
    if unit in WHOLE:
        return f"{value:,.0f} {unit}"
    if unit not in ("bytes", "FLOP"):
        return f"{_three(value)} {unit}"
    power = 0
    while power + 1 < len(DECIMAL) and abs(value) >= 999.5:
        value, power = value / 1000, power + 1
    return f"{_three(value)} {DECIMAL[power]}{UNITS.get(unit, unit)}"


def _three(value: float) -> str:
    """Three digits, without an exponent up to a million."""
    if value >= 99.95:
        return f"{value:,.0f}"
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}"
