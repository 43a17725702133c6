"""A report for a reader: lines of a terminal, or Markdown. What commits are called is text."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rich.cells import cell_len, set_cell_size

from harness.text import counted, harmless, wrapped
from scripts.changes.history import Commit, History
from scripts.changes.points import LEAST_POINTS
from scripts.changes.report import Lone, MachineReport, Moved, Noise, Report, Shift
from scripts.changes.results import FAILED
from scripts.gate.causes import percent, placed, shown
from scripts.gate.markdown import code

WIDTH = 80
MOST_SHIFTS, MOST_DOUBTFUL, MOST_UNREAD = 20, 5, 5
TIMES = ("seconds", "ms/token", "µs")
NAMES = ("exit code",)  # units whose numbers have no size
CARDS = ("exit code", "GB")  # units of verdicts on cards, of which none stands between two
FITS = "fits"
WORDS = {0: FITS, 20: "out of memory", 21: "the host is out of memory"}
UNLIKE = "Results of unlike machines are never compared: each has a history of its own."
FEW = f"{LEAST_POINTS} commits at least have to be measured to tell a change from noise."
WHOLE = "python -m scripts.changes --format json has them all"
NOISE = "Noise, and the step that two commits are enough to show"
BESIDE = "No code changed there: it is the machine, or what it runs."


def text(report: Report) -> Iterator[tuple[str, str]]:
    """Lines of at most WIDTH columns, each with the name of its style."""
    yield "bold", _fitted(f"What changed up to {_commit(report.head)}")
    yield "", ""
    for machine in report.machines:
        yield from _heading(machine)
        for shift in machine.shifts[:MOST_SHIFTS]:
            yield from _lines(shift)
        yield from _rest(machine)
    for remark in left_out(report):
        yield from _listed(remark)
    if len(report.machines) > 1:
        yield "", UNLIKE


def markdown(report: Report) -> str:
    """The same, with a table for each machine."""
    lines = [f"### What changed up to {titled(report.head)}", ""]
    for machine in report.machines:
        lines += [f"#### {code(machine.name)} {code(machine.environment, 120)}", "", f"{_age(machine)}.", ""]
        if machine.shifts:
            lines += ["| | stage | change | at | series |", "|---|---|---:|---|---:|"]
            lines += [_row(shift) for shift in machine.shifts[:MOST_SHIFTS]]
            lines.append("")
        lines += [f"* {remark}" for remark in _remarks(machine)]
        if machine.noise:
            lines += [
                "",
                f"<details><summary>{NOISE}</summary>",
                "",
                "| stage | noise | step |",
                "|---|---:|---:|",
            ]
            lines += [f"| {' | '.join(row)} |" for row in _noise(machine)]
            lines += ["", "</details>"]
        lines.append("")
    lines += [f"* {remark}" for remark in left_out(report, code)]
    return "\n".join([*lines, "", UNLIKE, ""])


def _heading(machine: MachineReport) -> Iterator[tuple[str, str]]:
    yield "bold", _fitted(machine.name)
    for line in wrapped(machine.environment, WIDTH):
        yield "dim", line
    for line in wrapped(f"{_age(machine)}.", WIDTH):
        yield "", line
    yield "", ""


def _lines(shift: Shift) -> Iterator[tuple[str, str]]:
    series = f"{len(shift.series)} series"
    line = f"{verdict(shift):8} {where(shift):24} {_amount(shift)}"
    yield _style(shift), _fitted(f"{line:{WIDTH - len(series) - 1}} {series}")
    yield "", _fitted(f"{'':8} {_commit(shift.commit)}")
    for note in _notes(shift):
        for part in wrapped(note, WIDTH - 9):
            yield "dim", f"{'':8} {part}"


def _rest(machine: MachineReport) -> Iterator[tuple[str, str]]:
    yield from [("", "")] if machine.shifts else []
    for remark in _remarks(machine):
        yield from _listed(remark)
    if machine.noise:
        yield "", ""
        yield "dim", f"{NOISE}:"
    for where, width, step in _noise(machine):
        yield "dim", _fitted(f"  {where:38} {width:>12} {step:>12}")
    yield "", ""


def _listed(remark: str) -> Iterator[tuple[str, str]]:
    for number, part in enumerate(wrapped(remark, WIDTH - 2)):
        yield "dim", f"{'  ' if number else '* '}{part}"


def _row(shift: Shift) -> str:
    word = f"**{verdict(shift)}**" if shift.worse and shift.by_code else verdict(shift)
    at = " ".join((titled(shift.commit), *_notes(shift)))
    return f"| {word} | {where(shift)} | {_amount(shift)} | {at} | {len(shift.series)} |"


def verdict(shift: Shift) -> str:
    """What a shift is, in a word."""
    if not shift.by_code:
        return "machine"
    if shift.unit in TIMES:
        return "slower" if shift.worse else "faster"
    return "worse" if shift.worse else "better"


def _style(shift: Shift) -> str:
    return "" if not shift.by_code else "red" if shift.worse else "green"


def words(code: float) -> str:
    """An exit code of a run on a card."""
    return WORDS.get(int(code), f"{FAILED}, exit code {code:.0f}")


def on_cards(unit: str, moved: Moved) -> str:
    """From which verdict to which: no number says how much."""
    return " → ".join(
        words(value) if unit in NAMES else f"{value:g} {unit}" for value in (moved.before, moved.after)
    )


def _amount(shift: Shift) -> str:
    """By how much, and its interval; of what began at zero, and of cards, the values."""
    if shift.unit in CARDS:
        return on_cards(shift.unit, shift.series[len(shift.series) // 2])
    drift = "drift " if shift.drift else ""
    if shift.difference is not None:
        return f"{drift}{shift.difference:+.3g} {shift.unit}"
    if shift.change is None:
        first = shift.series[0]
        return f"{first.before:g} to {shown(first.after, shift.unit)}"
    unit = "" if shift.unit in TIMES else f" {shift.unit}"
    if shift.exact or shift.low is None or shift.high is None:
        return f"{drift}{percent(shift.change)}{unit}"
    return f"{drift}{percent(shift.change)} ({percent(shift.low)} to {percent(shift.high)}){unit}"


def _notes(shift: Shift) -> Iterator[str]:
    if shift.drift:
        yield f"Little by little since {shift.since.sha[:8]}."
    elif shift.candidates > 1:
        yield f"One of {shift.candidates} commits that the measurements cannot tell apart."
    if not shift.by_code:
        yield BESIDE


def _remarks(machine: MachineReport) -> Iterator[str]:
    """What is no change: failures, nothing at all, noise, doubtful measurements, and how little would be
    seen."""
    standing = [one for one in machine.failures if one.stands]
    for one in standing:
        yield f"{one.benchmark}: {len(one.series)} series ran before {one.commit.sha[:8]} and fail since."
    if machine.commits < LEAST_POINTS:
        yield FEW
    elif not machine.shifts and not standing:
        yield "Nothing changed beyond its noise."
    if len(machine.shifts) > MOST_SHIFTS:
        yield f"{counted(len(machine.shifts) - MOST_SHIFTS, 'older change')}: {WHOLE}."
    for lone in machine.lone:
        yield (
            f"{where(lone)}: {percent(lone.change)} in {lone.series} series of the last commit alone,"
            " noise until a second measurement agrees."
        )
    for one in machine.doubtful[:MOST_DOUBTFUL]:
        yield f"{one.commit.sha[:8]}: {one.series} of its measurements left out, {one.reason}."
    if len(machine.doubtful) > MOST_DOUBTFUL:
        more = counted(len(machine.doubtful) - MOST_DOUBTFUL, "older commit")
        yield f"{more} with such: {WHOLE}."


def left_out(report: Report | History, name: Callable[[str], str] = str) -> Iterator[str]:
    """What lies among the results and says nothing of this branch; `name` writes that of a file."""
    if report.elsewhere:
        yield (
            f"{counted(report.elsewhere, 'result')} of commits that are not on this branch, or beyond the end"
            " of a shallow clone: left out."
        )
    if report.outdated:
        first, more = min(report.outdated), len(report.outdated) - 1
        names = f"{first} and {counted(more, 'more benchmark')}" if more else first
        yield f"Numbers of another version of {names} are compared with none."
    for one in report.unread[:MOST_UNREAD]:
        yield f"{name(one.file)} was left out: {one.reason}. Delete it, or measure its commit again."
    if len(report.unread) > MOST_UNREAD:
        more = counted(len(report.unread) - MOST_UNREAD, "more file")
        yield f"{more} left out: {WHOLE}."


def _noise(machine: MachineReport) -> Iterator[tuple[str, str, str]]:
    """Rows of a table: the stage, the width of its noise, the least step."""
    for noise in machine.noise:
        unit = "" if noise.unit == "seconds" else f", {noise.unit}"
        yield f"{where(noise)}{unit}", percent(noise.width).lstrip("+"), percent(noise.detectable)


def where(one: Shift | Noise | Lone) -> str:
    """A stage and what runs it."""
    return placed(one.stage, one.component)


def _age(machine: MachineReport) -> str:
    behind = f", {counted(machine.behind, 'commit')} behind" if machine.behind else ""
    return (
        f"{machine.series:,} series of {counted(machine.commits, 'commit')}, the last measured"
        f" {age(machine.age_s)} at {machine.last.sha[:8]}{behind}"
    )


def age(seconds: float | None) -> str:
    """How long ago, in words. A minute ahead is what clocks differ by."""
    if seconds is None:
        return "at no known time"
    units = ((86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))
    size, name = next((pair for pair in units if abs(seconds) >= pair[0]), units[-1])
    words = counted(round(abs(seconds) / size), name)
    return f"{words} ahead of this clock" if seconds <= -60 else f"{words} ago"


def _commit(commit: Commit) -> str:
    return harmless(f"{commit.sha[:8]} {commit.date[:10]} {commit.subject}")


def titled(commit: Commit) -> str:
    """What a commit is called, in Markdown."""
    return f"{code(commit.sha[:8])} {commit.date[:10]} {code(commit.subject)}"


def _fitted(line: str) -> str:
    line = harmless(line)
    return line if cell_len(line) <= WIDTH else f"{set_cell_size(line, WIDTH - 1)}…"
