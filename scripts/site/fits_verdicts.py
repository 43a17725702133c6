"""Which card holds what: verdicts before and after, as words. A failure is no number, and never averaged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from harness import cards
from harness.memory import GIB
from scripts.changes.history import History, Machine, Series
from scripts.changes.points import EXACT
from scripts.changes.report import Moved
from scripts.changes.results import FAILED
from scripts.changes.show import FITS, words
from scripts.gate.suites import held
from scripts.site.amounts import net
from scripts.site.shifts import CARDS, Amount, Line, Sighting, events, in_order

UNTRIED = "n/a"
PREDICTED = "predicted"


def run(series: Series) -> str:
    """What a card is to hold, without its size: turbo with LM."""
    return held(series.benchmark, series.component, series.params)


@dataclass(frozen=True, slots=True)
class Cell:
    """A card under a run: its verdict and its peak in GB, before and after, None where nothing is known.
    `own`: whether the commit may have done what changed."""

    own: bool
    before: str | None
    after: str | None
    before_gb: float | None
    after_gb: float | None

    @property
    def tone(self) -> str:
        """Its class in site.css: colour is for what changed."""
        if not self.own or self.before is None or self.after is None or self.before == self.after:
            return "noise"
        return "better" if self.after == FITS else "worse" if self.before == FITS else ""

    @property
    def text(self) -> str:
        return self.after or UNTRIED

    @property
    def was(self) -> str:
        """The verdict before, where it was another."""
        return f"was: {self.before}" if self.before not in (None, self.after) else ""

    @property
    def size(self) -> str:
        """The peak, and what it was where that is another."""
        if self.after_gb is None:
            return ""
        if self.before_gb is None or abs(self.after_gb - self.before_gb) <= EXACT * self.before_gb:
            return f"{self.after_gb:.1f} GB"
        return f"{self.before_gb:.1f} → {self.after_gb:.1f} GB"


@dataclass(frozen=True, slots=True)
class Row:
    """A run on every card. `by`: how that is known, predicted or measured on a machine."""

    run: str
    by: str
    cells: Mapping[str, Cell]  # by size of card


def rows(machines: Iterable[tuple[str, Machine, int | None, int, bool]]) -> list[Row]:
    """Verdicts of the machines, each with its name, the places before and after, and whether what changed is
    the latter's doing. What is predicted is the same on all: it is the first one's that has it."""
    table: dict[tuple[str, str], dict[str, Cell]] = {}
    for name, machine, before, after, own in machines:
        sized = [one for one in machine.series if "tier_gb" in one.params]
        peaks = {_suite(one): one for one in sized if one.unit == "bytes"}
        for one in sized:
            if one.unit in CARDS:
                key = run(one), PREDICTED if one.benchmark.startswith("costs.") else f"measured on {name}"
                peak = peaks.get(_suite(one))
                cell = Cell(
                    own, _verdict(one, before), _verdict(one, after), _gb(peak, before), _gb(peak, after)
                )
                table.setdefault(key, {}).setdefault(one.params["tier_gb"], cell)
    return [Row(*key, cells) for key, cells in table.items()]


def _suite(series: Series) -> tuple:
    """What a verdict and its peak have in common."""
    return series.benchmark.rpartition(".")[0], *series.params.items()


def _verdict(series: Series, at: int | None) -> str | None:
    if at is None:
        return None
    if series.gaps.get(at) == FAILED:
        return FAILED
    value = series.values[at]
    return words(value) if value == value else None


def _gb(series: Series | None, at: int | None) -> float | None:
    value = series.values[at] if series and at is not None else float("nan")
    return value / GIB if value == value else None


def lines(history: History, sightings: Iterable[Sighting]) -> list[Line]:
    """Cards of which something else is known after all shifts, a line each: those that hold less first."""
    series = {one.name: one for machine in history.machines for one in machine.series if one.unit in CARDS}
    machines: dict[str, list[Sighting]] = {}
    for one in sightings:
        if one.shift.unit in CARDS:
            machines.setdefault(one.machine, []).append(one)
    texts: dict[tuple[str, str, str], dict[str, list[str]]] = {}
    causes: dict[tuple[str, str, str], list[Sighting]] = {}
    for machine, own in machines.items():
        for moved in net([one.shift for one in in_order(own)]).series:
            one = series[moved.name]
            if moved.before != moved.after:
                by = [cause for cause in own if any(each.name == moved.name for each in cause.shift.series)]
                key = _place(one), one.unit, _verdict_of(moved, by)
                before, after = (_in_words(value, one.unit) for value in (moved.before, moved.after))
                texts.setdefault(key, {}).setdefault(f"{run(one)}: {before} → {after}", []).append(machine)
                causes.setdefault(key, []).extend(by)
    every = [
        Line(
            verdict, place, place, unit, True, None,
            tuple(Amount(text, tuple(names)) for text, names in sorted(amounts.items(), key=_with_lm_first)),
            events(causes[place, unit, verdict]), len(amounts),
        )
        for (place, unit, verdict), amounts in texts.items()
    ]  # fmt: skip
    return sorted(
        every, key=lambda line: (line.verdict != "worse", line.verdict, line.unit == "GB", line.place)
    )


def _place(series: Series) -> str:
    tier_gb = series.params.get("tier_gb")
    return cards.of_size(float(tier_gb)) if tier_gb else "smallest card"


def _in_words(value: float, unit: str) -> str:
    return f"{value:g} GB" if unit == "GB" else words(value)


def _with_lm_first(pair: tuple[str, list[str]]) -> tuple[bool, str]:
    return "without LM" in pair[0], pair[0]


def _verdict_of(moved: Moved, causes: list[Sighting]) -> str:
    if not any(one.shift.by_code for one in causes):
        return "machine"
    return "worse" if moved.after > moved.before else "better"
