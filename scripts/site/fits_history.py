"""What asv knows of cards and what fits them: which commit changed that, and how it is at the last one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from harness import cards
from harness.memory import GIB
from scripts.changes.history import Commit, Series
from scripts.changes.results import FAILED
from scripts.site.fits_verdicts import FITS, PREDICTED, run, words
from scripts.site.page import Site, commit_page
from scripts.site.shifts import CARDS, Sighting, machines, sightings

VERDICT, PEAK = CARDS[0], "bytes"  # units of whether a card holds a run, and of what that takes
TINY = "synthetic-tiny"  # in the name of an environment: the weights that are measured in it


class Column(NamedTuple):
    """What runs, and how that is known: predicted, or measured on a machine."""

    by: str
    run: str


@dataclass(frozen=True, slots=True)
class Turn:
    """A card that no longer fits something, or does again, since one of `commits`. `columns`: all of which
    that is so. Not `by_code`: no code did it."""

    commits: tuple[Commit, ...]
    by_code: bool
    tier_gb: float
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
        """Its class in site.css."""
        return "noise" if not self.by_code else "better" if self.fits else "worse"

    @property
    def sign(self) -> str:
        return "▼" if self.fits else "▲"

    @property
    def since(self) -> str:
        """What stands before the commit."""
        others = len(self.commits) - 1
        return f"Since one of {others} commits before it, or since" if others else "Since"

    @property
    def verdict(self) -> str:
        machine = "" if self.by_code else ", though no code changed,"
        return f"{cards.of_size(self.tier_gb)}{machine} {'fits' if self.fits else 'no longer fits'}"

    @property
    def what(self) -> str:
        """The runs, by how that is known."""
        runs: dict[str, list[str]] = {}
        for column in self.columns:
            runs.setdefault(column.by, []).append(column.run)
        return ". ".join(f"{by.capitalize()}: {'; '.join(of)}" for by, of in runs.items())


class Verdict(NamedTuple):
    """A card under a run at the last commit that has a result, and since which it is so, where it changed."""

    words: str
    turn: Turn | None


@dataclass(frozen=True, slots=True)
class Known:
    """All of it: of each size of card in GB what is known by column. `tiny`: machines whose weights fit
    anywhere."""

    columns: tuple[Column, ...]
    rows: dict[float, dict[Column, Verdict]]
    turns: tuple[Turn, ...]
    tiny: tuple[str, ...]

    @property
    def note(self) -> str:
        """What measurements with tiny weights are worth."""
        if not self.tiny:
            return ""
        names = " and ".join(self.tiny)
        return (
            f"Weights on {names} are tiny: what is measured there is that the engine runs under such a cap."
        )

    @property
    def groups(self) -> dict[str, int]:
        """How many columns there are of each way to know."""
        counts: dict[str, int] = {}
        for column in self.columns:
            counts[column.by] = counts.get(column.by, 0) + 1
        return counts

    def answer(self, tier_gb: float) -> str:
        """What cards of a size fit by their own settings, in a sentence; empty where nothing is known."""
        runs: dict[str, str] = {}
        for column, verdict in self.rows.get(tier_gb, {}).items():
            if "," not in column.run:  # which would be a variant
                runs.setdefault(column.run, f"{verdict.words} ({column.run}, {column.by})")
        return f"{cards.of_size(tier_gb)}: {'; '.join(runs.values())}." if runs else ""


def known(site: Site) -> Known:
    """What all machines say; what is predicted, by the one of which most commits are measured."""
    rows: dict[float, dict[Column, Verdict]] = {}
    turns: list[Turn] = []
    shifts = sightings(site)
    every = sorted(machines(site), key=lambda one: -len(one[1].measured))
    for name, machine, _ in every:
        ours = [one for one in machine.series if "tier_gb" in one.params and "model" not in one.params]
        peaks = {_suite(one): one for one in ours if one.unit == PEAK}
        for one in (one for one in ours if one.unit == VERDICT):
            by = PREDICTED if one.benchmark.startswith("costs.") else f"measured on {name}"
            row, column = rows.setdefault(float(one.params["tier_gb"]), {}), Column(by, run(one))
            if column not in row:
                own = [_joined(turns, turn) for turn in _turns(one, column, name, shifts)]
                row[column] = Verdict(_words(one, peaks.get(_suite(one))), own[0] if own else None)
    columns = dict.fromkeys(column for row in rows.values() for column in row)
    ways = list(dict.fromkeys(column.by for column in columns))
    together = sorted(columns, key=lambda column: ways.index(column.by))
    tiny = tuple(name for name, machine, _ in every if TINY in machine.environment)
    return Known(tuple(together), dict(sorted(rows.items())), tuple(turns), tiny)


def _suite(series: Series) -> tuple[str, ...]:
    """What a verdict and its peak have in common."""
    return series.benchmark.rpartition(".")[0], *series.params.values()


def _turns(series: Series, column: Column, machine: str, shifts: list[Sighting]) -> Iterator[Turn]:
    """Of one series, newest first."""
    for one in shifts:
        for moved in one.shift.series if one.machine == machine else ():
            if moved.name == series.name and (moved.before == 0) != (moved.after == 0):
                commits = one.suspects or (one.shift.commit,)
                tier_gb = float(series.params["tier_gb"])
                yield Turn(commits, one.shift.by_code, tier_gb, moved.after == 0, [column])


def _joined(turns: list[Turn], turn: Turn) -> Turn:
    """The one of `turns` that says the same, with the columns of `turn` too; else `turn`, as one more."""
    for one in turns:
        if (one.commits, one.tier_gb, one.fits) == (turn.commits, turn.tier_gb, turn.fits):
            one.columns.extend(turn.columns)
            return one
    turns.append(turn)
    return turn


def _words(verdict: Series, peak: Series | None) -> str:
    """Of the last commit with a result. A failure is a word."""
    at = max(
        at for at, value in enumerate(verdict.values) if value == value or verdict.gaps.get(at) == FAILED
    )
    code = verdict.values[at]
    if code:
        return words(code) if code == code else FAILED
    left_gb = float(verdict.params["tier_gb"]) - peak.values[at] / GIB if peak else float("nan")
    return f"yes, {max(left_gb, 0):.1f} GB to spare" if left_gb == left_gb else FITS
