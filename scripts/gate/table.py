"""A record in a terminal of 80 columns: what changed, one cause after the other, the worst first.

A command is a line, however long: what is copied from a screen has to be what was meant.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from harness.text import harmless, wrapped
from scripts.gate.causes import ORDER, Cause, causes, closer, grown, named, only_cards, percent, placed, shown
from scripts.gate.record import Commit, Record, Series
from scripts.gate.statistics import FUNCTION, FUNCTION_THRESHOLD

WIDTH, INDENT = 80, 13
MOST_CAUSES = 12  # of a verdict


def table(record: Record) -> str:
    """The outcome in lines, harmless to a terminal whatever the commits are called."""
    groups = causes(record)
    outcome = f"{record.verdict}: {_commit(record.head)} against {_commit(record.base)}"
    lines = [*wrapped(outcome, WIDTH), *wrapped(answer(record, groups), WIDTH), ""]
    for verdict in ("slower", "not measured", "cannot tell", "faster"):
        lines += _causes(verdict, named(groups, verdict))
    lines += _same(named(groups, "same"))
    for fit in record.fits:
        lines += _lines("fits", f"{fit.tier_gb:g} GB, {fit.case}: {fit.base} → {fit.head}, by prediction")
    lines.append("")
    for note in record.notes:
        lines += _lines("note", note)
    lines += [*_lines("machine", _machine(record)), *_lines("timed", _effort(record))]
    return "\n".join([*lines, _command("again", record.command), ""])


def answer(record: Record, groups: Sequence[Cause]) -> str:
    """How many series came to which verdict, and the worst of the first that any came to."""
    counts = Counter(one.verdict for one in record.series)
    if not counts:
        return only_cards(record) or "No series was compared."
    text = ", ".join(f"{counts[verdict]} {verdict}" for verdict in ORDER if counts[verdict])
    worst = groups[0]
    if worst.verdict != "same":
        by = ": ".join(filter(None, (placed(worst.stage, worst.component), grown(worst))))
        text += f"; first {by}"
    return " ".join(filter(None, (only_cards(record), f"{len(record.series)} series: {text}.")))


def _commit(commit: Commit) -> str:
    what = "the working tree on " if commit.working_tree else ""
    return f"{what}{commit.sha[:8]} ({commit.title})"


def _causes(verdict: str, groups: list[Cause]) -> Iterator[str]:
    for cause in groups[:MOST_CAUSES]:
        number = f"{len(cause.series)} series" + (", predicted" if cause.kind == "exact" else "")
        yield from _lines(
            verdict,
            f"{placed(cause.stage, cause.component)}: {', '.join(filter(None, (grown(cause), number)))}",
        )
        yield from _lines("", f"{_values(cause.worst)} in {cause.worst.name}")
        if verdict == "slower":
            yield _command("", closer(cause.worst))
    if len(groups) > MOST_CAUSES:
        yield from _lines(verdict, f"and {len(groups) - MOST_CAUSES} more")


def _values(series: Series) -> str:
    """Both sides, the interval of their ratio, and what would have shown."""
    if series.head is None:
        return series.reason
    text = f"{shown(series.base, series.unit)} → {shown(series.head, series.unit)}"
    if series.kind == "exact" or series.ratio is None:
        return text
    text += f", x{series.ratio:.2f} {_interval(series)}"
    seen = f"from {percent(series.detectable)} on" if series.detectable is not None else "no slowdown"
    return f"{text}, {min(series.samples_base, series.samples_head)} pairs, would have seen {seen}"


def _interval(series: Series) -> str:
    if series.ratio_low is None or series.ratio_high is None:
        return "(anything)"
    return f"({series.ratio_low:.2f} to {series.ratio_high:.2f})"


def _same(groups: list[Cause]) -> Iterator[str]:
    series = [one for cause in groups for one in cause.series]
    if not series:
        return
    seen = [one.detectable for one in series if one.detectable is not None]
    text = f"{len(series)} series: {', '.join(dict.fromkeys(cause.stage for cause in groups))}"
    if seen:
        text += f"; would have seen from {percent(min(seen))} on, at worst {percent(max(seen))}"
    yield from _lines("same", text)


def _machine(record: Record) -> str:
    machine = record.machine
    facts = [machine.cpu, f"{machine.cores} cores"] + ([machine.gpu] if machine.gpu != "none" else [])
    loads = [f"{load:.1f}" for load in (machine.load_before, machine.load_during) if load is not None]
    facts += [f"load {', then '.join(loads)}"] if loads else []
    facts += ["held below its clock"] if machine.throttled else []
    return ", ".join([*facts, f"torch {machine.torch}"])


def _effort(record: Record) -> str:
    timed = any(one.unit == FUNCTION for one in record.series)
    function = f", {percent(FUNCTION_THRESHOLD)} of a function's" if timed else ""
    spent = f"{record.rounds} rounds in {record.seconds:,.0f} of {record.budget_s:,.0f} s"
    return f"{record.source}, {spent}; slower is {percent(record.threshold)} of a time{function}"


def _command(heading: str, text: str) -> str:
    """A command beside its heading, whole."""
    return f"{heading:{INDENT}}{harmless(text)}"


def _lines(heading: str, text: str) -> Iterable[str]:
    """A paragraph beside its heading."""
    first, *others = wrapped(text, WIDTH - INDENT)
    return [f"{heading:{INDENT}}{first}", *(" " * INDENT + line for line in others)]
