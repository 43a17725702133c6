"""A record as Markdown: the job summary, and the comment on a pull request.

Whatever a record says may be written by anybody: titles of commits, names, units, parameters. Each such text
is shown as code, cut short, every character that means something to Markdown or HTML spelled as an entity.
Inside `code` GitHub links nothing either: no user is mentioned, no issue and no address linked. The standard
library is all that is needed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator

from harness.cards import of_size
from harness.text import harmless
from scripts.gate.causes import Cause, causes, closer, grown, named, only_cards, percent, placed, shown
from scripts.gate.record import Commit, Machine, Record

MOST_ROWS, MOST_FITS, MOST_COMMANDS, MOST_NOTES = 20, 10, 5, 5  # a comment has at most 65,536 characters
MOST_CHARS = 80  # of a text; each may become an entity of six
PUNCTUATION = re.compile(r"[!-/:-@\[-`{-~]")  # all of ASCII's
MEANING = {
    "same": "Nothing is slower.",
    "faster": "Nothing is slower, and something is faster.",
    "slower": "Something is slower.",
    "cannot tell": "The noise could hide a slowdown that matters: measure again where nothing else runs.",
    "not measured": "Something could not be measured, so nothing is said of it.",
}
ONE_MACHINE = (
    "Both commits were measured on this one machine. Another run may get another processor, and results of"
    " unlike machines are never compared."
)


def markdown(record: Record) -> str:
    """The outcome: what changed, one line a cause, worst first; the machine; the command to see it again."""
    groups = causes(record)
    meaning = only_cards(record) or MEANING[record.verdict]
    parts = [
        f"### Gate: {record.verdict}",
        f"{meaning} This is {_commit(record.head)} against {_commit(record.base)}.",
        _table([cause for cause in groups if cause.verdict != "same"]),
        _fits(record),
        _counts(record),
        *_listed(record.notes, MOST_NOTES),
        _commands(named(groups, "slower")),
        f"{_machine(record.machine)}. {ONE_MACHINE}",
        f"Again: {code(record.command, 4 * MOST_CHARS)}",
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def code(text: str, most: int = MOST_CHARS) -> str:
    """Any text as code that it cannot get out of, on one line."""
    clean = "".join(char if char.isprintable() else f"U+{ord(char):04X}" for char in harmless(text))
    clean = clean if len(clean) <= most else clean[: most - 1] + "…"
    return f"<code>{PUNCTUATION.sub(lambda match: f'&#{ord(match[0])};', clean)}</code>"


def _commit(commit: Commit) -> str:
    return f"{code(commit.sha[:8])} {code(commit.title)}"


def _table(groups: list[Cause]) -> str:
    if not groups:
        return ""
    lines = ["| | stage | change | before → after | series |", "|---|---|---:|---:|---:|"]
    lines += [_row(cause) for cause in groups[:MOST_ROWS]]
    if len(groups) > MOST_ROWS:
        lines.append(f"| | and {len(groups) - MOST_ROWS:,} more | | | |")
    return "\n".join(lines)


def _row(cause: Cause) -> str:
    series = cause.typical
    before, after = (shown(value, series.unit) for value in (series.base, series.head))
    amount, _, unit = before.partition(" ")
    values = code(f"{amount if after.endswith(f' {unit}') else before} → {after}")
    where = code(placed(cause.stage, cause.component))
    verdict = f"**{cause.verdict}**" if cause.verdict == "slower" else cause.verdict
    return f"| {verdict} | {where} | {_change(cause)} | {values} | {len(cause.series)} |"


def _change(cause: Cause) -> str:
    """By how much the typical series changed, its interval, and what could not have been seen."""
    series = cause.typical
    if cause.verdict == "not measured":
        return code(series.reason)
    if cause.kind == "timed":
        words = [percent(series.ratio - 1)] if series.ratio is not None else []
    else:
        words = [code(change)] if (change := grown(cause)) else []
    if series.ratio_low is not None and series.ratio_high is not None:
        words.append(f"({percent(series.ratio_low - 1)} to {percent(series.ratio_high - 1)})")
    if cause.verdict == "cannot tell" and series.detectable is not None:
        words.append(f"up to {percent(series.detectable)} would not show")
    return " ".join(filter(None, words)).replace(" %", "\N{NO-BREAK SPACE}%")


def _fits(record: Record) -> str:
    lines = [
        f"* {code(fit.case)} on {of_size(fit.tier_gb)}: {code(fit.base)} → {code(fit.head)}"
        for fit in record.fits[:MOST_FITS]
    ]
    if len(record.fits) > MOST_FITS:
        lines.append(f"* and {len(record.fits) - MOST_FITS:,} more")
    return "\n".join(["What fits has changed, by prediction:", "", *lines]) if lines else ""


def _counts(record: Record) -> str:
    counts = Counter(one.verdict for one in record.series)
    parts = ", ".join(f"{count:,} {verdict}" for verdict, count in counts.most_common())
    limits = f"slower is {percent(record.threshold)} of a time, {percent(record.exact_threshold)} of a cost"
    return (
        f"{parts or 'nothing was compared'}; {limits}; {record.rounds} rounds, {record.seconds / 60:.0f} min."
    )


def _commands(slower: list[Cause]) -> str:
    """What looks closer at each, behind a fold."""
    commands = list(dict.fromkeys(closer(cause.worst) for cause in slower))[:MOST_COMMANDS]
    lines = "\n".join(f"* {code(command, 2 * MOST_CHARS)}" for command in commands)
    return f"<details><summary>Look closer</summary>\n\n{lines}\n\n</details>" if commands else ""


def _listed(notes: Iterable[str], most: int) -> Iterator[str]:
    lines = [f"* {code(note, 2 * MOST_CHARS)}" for note in notes]
    left = len(lines) - most
    if lines:
        yield "\n".join(lines[:most] + ([f"* and {left:,} more notes"] if left > 0 else []))


def _machine(machine: Machine) -> str:
    facts = [code(machine.cpu), f"{machine.cores} cores"]
    facts += [code(machine.gpu)] if machine.gpu != "none" else []
    facts.append(f"torch {code(machine.torch)}")
    loads = [load for load in (machine.load_before, machine.load_during) if load is not None]
    facts += [f"load {' to '.join(f'{load:.1f}' for load in loads)}"] if loads else []
    facts += ["held below its clock"] if machine.throttled else []
    return ", ".join(facts)
