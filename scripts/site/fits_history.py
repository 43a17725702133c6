"""What asv knows of cards and what fits them: which commit changed that, and how it is at the last one."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from harness import cards
from harness.memory import GIB
from scripts.changes.history import Commit, Machine, Series
from scripts.changes.report import MachineReport, Shift
from scripts.site.page import Site, commit_page

STATUS, PEAK = ".track_status", ".track_peak"
PREDICTED = "predicted"
RUNS = {  # what a benchmark runs, without its parameters
    "costs.TrackPredictedPeak": "turbo without LM",
    "costs.TrackPredictedPeakXL": "XL turbo without LM",
    "memory.PeakMemTier": "turbo",
    "memory.PeakMemTierXL": "XL turbo without LM",
}
VARIANTS = {"no-quant": "no int8", "no-offload": "no offload"}
OUT_OF_MEMORY = 20  # the exit code of a run that found none (tiersim.protocol)
TINY = "synthetic-tiny"  # in the name of an environment: the weights that are measured in it


class Column(NamedTuple):
    """What runs, and how that is known: predicted, or measured on a machine."""

    by: str
    run: str


@dataclass(frozen=True, slots=True)
class Turn:
    """A card that no longer fits something, or does again, since one of `commits`, the last of which is the
    first that was measured after. `columns`: all of which that is so. Not `by_code`: no code did it.
    """

    commits: tuple[Commit, ...]
    by_code: bool
    tier_gb: str
    fits: bool
    columns: list[Column]

    @property
    def commit(self) -> Commit:
        return self.commits[-1]

    @property
    def page(self) -> str:
        return commit_page(self.commit.sha)

    @property
    def tone(self) -> str:
        return "noise" if not self.by_code else "better" if self.fits else "worse"

    @property
    def sign(self) -> str:
        return "▼" if self.fits else "▲"

    @property
    def since(self) -> str:
        """What stands before the commit."""
        others = len(self.commits) - 1
        return f"Since one of the {others} commits before it, or since" if others else "Since"

    @property
    def verdict(self) -> str:
        machine = ", though no code changed," if not self.by_code else ""
        return f"{card(self.tier_gb)}{machine} {'fits' if self.fits else 'no longer fits'}"

    @property
    def what(self) -> str:
        """The runs, by how that is known."""
        runs: dict[str, list[str]] = {}
        for column in self.columns:
            runs.setdefault(column.by, []).append(column.run)
        return ". ".join(f"{by.capitalize()}: {'; '.join(of)}" for by, of in runs.items())


@dataclass(frozen=True, slots=True)
class Verdict:
    """A card under a run at the last commit that has a result, and since which it is so, where it changed."""

    words: str
    turn: Turn | None


@dataclass(frozen=True, slots=True)
class Known:
    """All of it: a verdict for every column of a size of card that has one. `tiny`: machines that measure
    weights which fit anywhere."""

    columns: tuple[Column, ...]
    rows: dict[str, dict[Column, Verdict]]
    turns: tuple[Turn, ...]
    tiny: tuple[str, ...]

    @property
    def note(self) -> str:
        """What measurements with tiny weights are worth."""
        if not self.tiny:
            return ""
        machines = " and ".join(self.tiny)
        return (
            f"On {machines} tiny weights are measured: the engine runs under such a cap, the model may not."
        )

    def answer(self, tier_gb: str) -> str:
        """Whether cards of a size fit what is known best of them, in a sentence; empty where nothing is."""
        for where, verdict in self.rows.get(tier_gb, {}).items():
            return f"{card(tier_gb)}: {verdict.words} ({where.run}, {where.by})."
        return ""

    @property
    def groups(self) -> dict[str, list[Column]]:
        """The columns by how they are known."""
        groups: dict[str, list[Column]] = {}
        for column in self.columns:
            groups.setdefault(column.by, []).append(column)
        return groups


def card(tier_gb: str) -> str:
    """`8 GB (RTX 4060)`."""
    example = cards.example(float(tier_gb))
    return f"{tier_gb} GB ({example})" if example else f"{tier_gb} GB"


def column(series: Series, machine: str) -> Column:
    """What a series is of; what is predicted is so on every machine."""
    benchmark = series.benchmark.removesuffix(STATUS)
    run = RUNS[benchmark]
    if (lm := series.params.get("lm")) is not None:
        run += " with LM" if lm == "True" else " without LM"
    variant = VARIANTS.get(series.params.get("variant", ""))
    by = PREDICTED if benchmark.startswith("costs.") else f"measured on {machine}"
    return Column(by, f"{run}, {variant}" if variant else run)


def known(site: Site) -> Known:
    """What all machines say; what is predicted, by the one of which most commits are measured."""
    rows: dict[str, dict[Column, Verdict]] = {}
    turns: list[Turn] = []
    tiny: list[str] = []
    for report in sorted(site.report.machines, key=lambda one: -one.commits):
        machine = _machine(site, report)
        tiny += [report.name] if TINY in machine.environment else []
        peaks = {_place(one): one for one in machine.series if one.benchmark.endswith(PEAK)}
        for one in filter(_is_verdict, machine.series):
            where, row = column(one, report.name), rows.setdefault(one.params["tier_gb"], {})
            if where not in row:
                own = [_told(turns, turn) for turn in _turns(site, report, one, where)]
                row[where] = _verdict(one, peaks.get(_place(one)), own[0] if own else None)
    columns = dict.fromkeys(where for row in rows.values() for where in row)
    ascending = {tier_gb: rows[tier_gb] for tier_gb in sorted(rows, key=float)}
    return Known(tuple(columns), ascending, tuple(turns), tuple(tiny))


def _machine(site: Site, report: MachineReport) -> Machine:
    facts = report.facts, report.environment
    return next(one for one in site.history.machines if (one.facts, one.environment) == facts)


def _is_verdict(series: Series) -> bool:
    return series.benchmark.endswith(STATUS) and series.benchmark.removesuffix(STATUS) in RUNS


def _place(series: Series) -> tuple[str, ...]:
    """A benchmark class and its parameters."""
    return series.benchmark.rpartition(".")[0], *series.params.values()


def _turns(site: Site, report: MachineReport, series: Series, where: Column) -> Iterator[Turn]:
    """Of one series, newest first."""
    for shift in report.shifts:
        for moved in shift.series:
            if moved.name == series.name and (moved.before == 0) != (moved.after == 0):
                tier_gb, fits = series.params["tier_gb"], moved.after == 0
                yield Turn(_candidates(site, shift), shift.by_code, tier_gb, fits, [where])


def _candidates(site: Site, shift: Shift) -> tuple[Commit, ...]:
    """The commits that may have done it."""
    commits = site.history.commits
    end = commits.index(shift.commit) + 1
    return tuple(commits[end - shift.candidates : end])


def _told(turns: list[Turn], turn: Turn) -> Turn:
    """The one of `turns` that `turn` may be as well, with its columns too; else `turn`, as one more."""
    for one in turns:
        same = (one.tier_gb, one.fits, one.by_code) == (turn.tier_gb, turn.fits, turn.by_code)
        if same and {*one.commits} <= {*turn.commits}:
            one.columns.extend(turn.columns)
            return one
    turns.append(turn)
    return turn


def _verdict(status: Series, peak: Series | None, turn: Turn | None) -> Verdict:
    """Of the last commit with a result. A failure is a word."""
    at = max(at for at, value in enumerate(status.values) if value == value)
    if code := status.values[at]:
        return Verdict("does not fit" if code == OUT_OF_MEMORY else f"failed, exit code {code:g}", turn)
    left_gb = float(status.params["tier_gb"]) - (peak.values[at] if peak else math.nan) / GIB
    return Verdict(f"yes, {max(left_gb, 0):.1f} GB to spare" if left_gb == left_gb else "yes", turn)
