"""What moved between two commits, in lines: a line has a stage, the machines that say so, and who did it.

All of it is the report's (`scripts.changes`): what is no shift there is noise here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from scripts.changes.history import Commit, Machine
from scripts.changes.report import MachineReport, Shift
from scripts.changes.show import CARDS, TIMES, verdict, where
from scripts.gate.causes import IN_ALL
from scripts.site.amounts import amount, is_back, net, share
from scripts.site.page import Site

FAILS = "failed"
TONES = {FAILS: "worse", "slower": "worse", "worse": "worse", "faster": "better", "better": "better"}
SIGNS = {FAILS: "▲", "slower": "▲", "worse": "▲", "faster": "▼", "better": "▼"}
BACK = "as before"
ORDER = (FAILS, "slower", "worse", "faster", "better", BACK, "machine")
# By verdict: what is said of one stage, and of several.
SPOKEN = {
    FAILS: ("fails", "benchmarks fail"),
    "slower": ("is slower", "stages are slower"), "worse": ("grew", "costs grew"),
    "faster": ("is faster", "stages are faster"), "better": ("fell", "costs fell"),
}  # fmt: skip
NOUNS = {"bytes": "memory traffic", "seconds": "", "µs": "", "ms/token": "per token"}  # of a stage, by unit


@dataclass(frozen=True, slots=True)
class Amount:
    """How much a stage moved, in words, and the machines that say so."""

    text: str
    machines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Event:
    """A move of a line, and the commits that may have done it."""

    worse: bool
    commits: tuple[Commit, ...]


@dataclass(frozen=True, slots=True)
class Line:
    """A stage that moved, or a card. `verdict`: slower, faster, worse, better; BACK where it moved and is
    where it was; `machine` where no code did it. `place`: the stage and what runs it."""

    verdict: str
    stage: str
    place: str
    unit: str
    exact: bool
    change: float | None
    amounts: tuple[Amount, ...]
    events: tuple[Event, ...]
    series: int

    @property
    def noun(self) -> str:
        """What of the stage moved, where that is not its time."""
        if self.unit in CARDS or self.stage == "peak memory":
            return ""
        return NOUNS.get(self.unit, self.unit) if self.exact or self.unit != "bytes" else "memory"

    @property
    def subject(self) -> str:
        """What moved, in a sentence."""
        return self.stage if not self.noun or self.unit in TIMES else f"{self.noun} of {self.stage}"

    @property
    def tone(self) -> str:
        """Its class in site.css."""
        return TONES.get(self.verdict, "noise")

    @property
    def sign(self) -> str:
        return SIGNS.get(self.verdict, "·")


class Changes:
    """What has lines of cards and of stages: those that are exact, and those that were timed."""

    __slots__ = ()
    cards: list[Line]
    lines: list[Line]

    @property
    def exact(self) -> list[Line]:
        return [*self.cards, *(line for line in self.lines if line.exact)]

    @property
    def timed(self) -> list[Line]:
        return [line for line in self.lines if not line.exact]


@dataclass(frozen=True, slots=True)
class Sighting:
    """A shift, the machine it was found on, the place of its commit, and the commits that may have done it:
    none where it is the machine's doing."""

    machine: str
    shift: Shift
    at: int
    suspects: tuple[Commit, ...]

    @property
    def kind(self) -> tuple:
        """What it has in common with the same on another machine."""
        shift = self.shift
        return shift.stage, shift.component, shift.unit, shift.exact, shift.worse


def machines(site: Site) -> list[tuple[str, Machine, MachineReport]]:
    """Every machine with what it is called and what changed there, the one that measured last first."""
    known = {
        _key(machine): (name, machine)
        for name, machine in zip(site.machines, site.history.machines, strict=True)
    }
    return [(*known[_key(report)], report) for report in site.report.machines]


def everyone(site: Site) -> tuple[str, ...]:
    """What all machines are called."""
    return tuple(name for name, _, _ in machines(site))


def _key(machine: Machine | MachineReport) -> tuple:
    return *sorted(machine.facts.items()), machine.environment


def sightings(site: Site) -> list[Sighting]:
    """All shifts of all machines. Machines that saw the same narrow down for one another who did it."""
    commits = site.history.commits
    places = {commit.sha: at for at, commit in enumerate(commits)}
    every = [
        Sighting(
            name, shift, places[shift.commit.sha], tuple(_suspects(commits, places[shift.base.sha], shift))
        )
        for name, _, report in machines(site)
        for shift in report.shifts
    ]
    alike: dict[tuple, list[tuple[Commit, ...]]] = {}
    for one in every:
        alike.setdefault(one.kind, []).append(one.suspects)
    return [replace(one, suspects=_narrowed(one.suspects, alike[one.kind])) for one in every]


def _suspects(commits: list[Commit], base: int, shift: Shift) -> Iterator[Commit]:
    """Of the candidates those that change what is measured."""
    if shift.by_code:
        yield from (one for one in commits[base + 1 : base + 1 + shift.candidates] if one.code)


def _narrowed(own: tuple[Commit, ...], others: Iterable[tuple[Commit, ...]]) -> tuple[Commit, ...]:
    """The commits that the others say, too, where any of them knows better."""
    common = (tuple(one for one in own if one in suspects) for suspects in others)
    return min(filter(None, common), key=len, default=own)


def lines(sightings: Iterable[Sighting]) -> list[Line]:
    """What shifts come to: of each stage and machine the sum. Exact ones, then the worst, first."""
    stages: dict[tuple, dict[str, list[Sighting]]] = {}
    for one in sightings:
        if one.shift.unit not in CARDS:
            stages.setdefault(one.kind[:-1], {}).setdefault(one.machine, []).append(one)
    every = [line for machines in stages.values() for line in _lines(machines)]
    return sorted(every, key=_rank)


def _rank(line: Line) -> tuple:
    return not line.exact, ORDER.index(line.verdict), line.stage == IN_ALL, -abs(line.change or 0), line.place


def _lines(machines: dict[str, list[Sighting]]) -> Iterator[Line]:
    """A line for each verdict on a stage."""
    nets: dict[str, list[tuple[str, Shift]]] = {}
    for machine, own in machines.items():
        total = net([one.shift for one in in_order(own)])
        nets.setdefault(_verdict(total), []).append((machine, total))
    for word, totals in nets.items():
        first = totals[0][1]
        texts: dict[str, list[str]] = {}
        for machine, total in totals:
            texts.setdefault(amount(total), []).append(machine)
        yield Line(
            word, first.stage, where(first), first.unit, first.exact, first.change,
            tuple(Amount(text, tuple(names)) for text, names in texts.items()),
            events([one for machine, _ in totals for one in machines[machine]]),
            max(len(total.series) for _, total in totals),
        )  # fmt: skip


def in_order(sightings: Iterable[Sighting]) -> list[Sighting]:
    """The oldest first."""
    return sorted(sightings, key=lambda one: one.at)


def _verdict(shift: Shift) -> str:
    return BACK if is_back(shift) else verdict(shift)


def events(sightings: Iterable[Sighting]) -> tuple[Event, ...]:
    """Each move, the oldest first."""
    moves = [Event(one.shift.worse, one.suspects or (one.shift.commit,)) for one in in_order(sightings)]
    return tuple(dict.fromkeys(moves))


def answer(cards: list[Line], lines: list[Line]) -> Iterator[tuple[str, str]]:
    """What happened, the worst first: words, each with its class."""
    for tone, verb, verdicts in (
        ("worse", "no longer fits", (FAILS, "slower", "worse")),
        ("better", "fits now", ("faster", "better")),
    ):
        sized = [line for line in cards if line.unit == CARDS[0]]
        yield from [(_holds(line, verb), tone) for line in sized if line.tone == tone]
        for word in verdicts:
            alike = {line.subject: line for line in lines if line.verdict == word}
            stages = [line for line in alike.values() if line.stage != IN_ALL] or [*alike.values()]
            if stages:
                yield _counted(stages, *SPOKEN[word]), tone


def _holds(line: Line, verb: str) -> str:
    """8 GB (RTX 4060) no longer fits turbo with LM."""
    run, more = line.amounts[0].text.partition(":")[0], len(line.amounts) - 1
    return f"{line.place} {verb} {run}" + (f", and {more} more" if more else "")


def _counted(lines: list[Line], one: str, many: str) -> str:
    first = lines[0]
    change = share(first.change) or first.amounts[0].text
    if len(lines) == 1:
        return f"{first.subject} {one} ({change})"
    return f"{len(lines)} {many} (most: {first.subject}, {change})"
