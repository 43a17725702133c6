"""The roofline of a run as a card for the terminal: what each stage had to do, its floor, the share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from acestep.profiler.roofline import METRICS, Ceilings, Load, achieved
from harness.text import wrapped

NEEDED = (
    "FLOP are those that the result needs; a prediction (acestep.costs) also counts those that are computed"
    " in vain: of hidden keys, and where tiles overlap."
)
PREFIXES = ("", "k", "M", "G", "T", "P", "E")
NONE = "—"
NOT_KNOWN = "peaks not known, so no floor and no share; --measure-ceilings measures them"
UNEQUAL = "items may differ in length, so no floor and no share"
CARD_WIDTHS = (11, 11, 9, 10, 7, 7, 7, 10)  # 79 columns
WIDTH = 79


def card(
    loads: Sequence[Load],
    device: str,
    ceilings: Ceilings | None,
    stages_s: Mapping[str, float] | None = None,
    unknown: str = NOT_KNOWN,
) -> str:
    """The run by stage: FLOP and bytes of a token, step or song, and the floor. With `stages_s`, what was
    achieved as well. `unknown`: why there is no floor, where there are no `ceilings`.
    """
    lines = wrapped(f"{device}: {_peaks(ceilings) if ceilings else unknown}", WIDTH)
    columns = ["stage", "work", "FLOP each", "bytes each", "floor", "limit"]
    rows = [[*_work(load), *_floor(load, ceilings)] for load in loads]
    if stages_s is not None:
        columns += ["took", "achieved"]
        shares = achieved(loads, stages_s, ceilings)
        for load, row in zip(loads, rows, strict=True):
            row += _took(load, stages_s, shares)
    for row in [columns, *rows]:
        cells = (cell.ljust(width) for cell, width in zip(row, CARD_WIDTHS, strict=False))
        lines.append(" ".join(cells).rstrip())
    return "\n".join([*lines, *wrapped(NEEDED, WIDTH)])


def _peaks(ceilings: Ceilings) -> str:
    arithmetic, memory = _si(ceilings.flop_per_s, "FLOP/s"), _si(ceilings.bytes_per_s, "B/s")
    return f"at most {arithmetic} and {memory} ({ceilings.origin})"


def _work(load: Load) -> list[str]:
    plural = "s" if load.times != 1 else ""
    return [load.stage, f"{load.times} {load.unit}{plural}", _si(load.flop), _si(load.bytes, "B")]


def _floor(load: Load, ceilings: Ceilings | None) -> list[str]:
    return [_time(load.floor_s(ceilings)), load.limit(ceilings)] if ceilings else [NONE, NONE]


def _took(load: Load, stages_s: Mapping[str, float], shares: Mapping[str, float | None]) -> list[str]:
    metric = METRICS.get(load.stage, "")
    share = shares.get(f"{load.stage}_{metric}")
    took = _time(stages_s[load.stage]) if load.stage in stages_s else NONE
    return [took, NONE if share is None else f"{share:.1%} {metric.upper()}"]


def _time(seconds: float) -> str:
    """Three digits or more, and at most seven characters below a hundred thousand seconds."""
    if seconds < 0.9995:
        return f"{seconds * 1e3:.3g} ms" if seconds >= 0.9995e-3 or not seconds else f"{seconds * 1e6:.3g} us"
    return f"{seconds:.2f} s" if seconds < 99.995 else f"{seconds:,.0f} s"


def _si(value: float, unit: str = "") -> str:
    """Three digits and a decimal prefix: 3.36 G."""
    power = 0
    while value >= 999.5 and power < len(PREFIXES) - 1:
        value, power = value / 1000, power + 1
    return f"{value:.3g} {PREFIXES[power]}{unit}".rstrip() if value else NONE
