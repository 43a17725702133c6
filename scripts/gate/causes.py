"""What a record says, in the fewest lines: series that became slower by one cause are one.

The standard library is all that is needed, as for the record.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from scripts.gate.record import Record, Series

ORDER = ("slower", "not measured", "cannot tell", "faster", "same")
IN_ALL = "wall"  # the stage of series that are sums of the others
DECIMAL = ("", "k", "M", "G", "T", "P", "E")
UNITS = {"bytes": "B"}  # as they are abbreviated
WHOLE = ("launches", "syncs", "exit code")


@dataclass(frozen=True, slots=True)
class Cause:
    """Series of one stage of one component with one verdict, worst first. `change`: the median of theirs,
    0.5 is half as much again; None where nothing was measured."""

    verdict: str
    kind: str
    stage: str
    component: str
    unit: str
    change: float | None
    series: tuple[Series, ...]

    @property
    def worst(self) -> Series:
        return self.series[0]


def causes(record: Record) -> list[Cause]:
    """All of them, the worst first: what is slower, then what is not known, what is faster, what is the same.
    Sums of stages follow the stages."""
    groups: dict[tuple[str, ...], list[Series]] = {}
    for one in record.series:
        groups.setdefault((one.verdict, one.kind, one.stage, one.component, one.unit), []).append(one)
    return sorted((_cause(series) for series in groups.values()), key=_rank)


def _cause(series: list[Series]) -> Cause:
    first = series[0]
    changes = [one.ratio - 1 for one in series if one.ratio is not None]
    series.sort(key=lambda one: -(one.ratio or 0))
    return Cause(
        first.verdict, first.kind, first.stage, first.component, first.unit,
        median(changes) if changes else None, tuple(series),
    )  # fmt: skip


def _rank(cause: Cause) -> tuple:
    return ORDER.index(cause.verdict), cause.stage == IN_ALL, -abs(cause.change or 0), cause.stage, cause.unit


def named(causes: Iterable[Cause], verdict: str) -> list[Cause]:
    """Those with a verdict."""
    return [cause for cause in causes if cause.verdict == verdict]


def closer(series: Series) -> str:
    """The command that looks closer at what became slower."""
    params = dict(series.params)
    if series.kind == "exact":
        command = ["python", "-m", "acestep.costs", "--thinking"]
        names = {"duration_s": "--duration", "batch": "--batch", "tier_gb": "--max-vram"}
        dits = {name: f"acestep-v15-{name}" for name in ("turbo", "base", "xl-turbo")}
        command += ["--dit", dits[params["variant"]]] if params.get("variant") in dits else []
    else:
        command = ["python", "profile_inference.py", "--detailed"]
        names = {"batch": "--batch-size", "steps": "--inference-steps", "quantization": "--quantization"}
        modes = {"understand": "understand", "create": "create_sample", "format": "format_sample"}
        command += ["--mode", modes[params["mode"]]] if params.get("mode") in modes else []
        command += ["--thinking"] if series.component == "LM" and "mode" not in params else []
    for name, flag in names.items():
        command += [flag, params[name]] if name in params else []
    return shlex.join(command)


def percent(change: float | None) -> str:
    """A change with its sign: +49 %, -0.5 %; x12 beyond ten times."""
    if change is None:
        return ""
    if change >= 9:
        return f"x{1 + change:,.0f}"
    return (
        f"{change:+.0%}".replace("%", " %") if abs(change) >= 0.095 else f"{change:+.1%}".replace("%", " %")
    )


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
