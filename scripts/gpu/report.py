"""The report of a run: the verdict first, then a table a part, in Markdown of at most 80 columns.

Tables are padded, so that the same text reads well in a terminal. Texts come from drivers, tests, libraries
and go into pull requests: nothing in them is Markdown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from harness.budget import FLAG, spelled
from harness.records.forms import escaped
from harness.text import wrapped
from scripts.gpu.plan import NAMES, PARTS, enough_s
from scripts.gpu.record import TITLE, Outcome, Record, Row

WIDTH = 80
NONE = "-"
# What the project aims at: of the peaks of a card, at the longest song.
TARGETS = (
    ("LM decode 0.6B", "MBU", "0.6B, ", "lm_decode_mbu", 0.35),
    ("LM decode 1.7B", "MBU", "1.7B, ", "lm_decode_mbu", 0.50),
    ("LM decode 4B", "MBU", "4B, ", "lm_decode_mbu", 0.60),
    ("DiT", "MFU", "no LM, ", "diffuse_mfu", 0.45),
)

Show = Callable[[Any], str]
STATUS = {"failed": "failed", "ok": "measured", "n/a": "not to be had here", "skip": "cut short"}  # of a part
UNTOLD = dict.fromkeys(("peaks", "pairs", "cap", "calibration"), NONE)


class Column(NamedTuple):
    """A heading, the value of a row, and how it is shown."""

    heading: str
    key: str
    show: Show


def _seconds(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _share(value: float) -> str:
    return f"{value:.0%}" if value >= 0.1 else f"{value:.1%}"


def _signed(value: float) -> str:
    return f"{value:+.1%}"


def _gib(value: float) -> str:
    return f"{value / 2**30:.2f}"


def _mib(value: float) -> str:
    return f"{value / 2**20:.1f}"


def _times(value: float) -> str:
    return f"{value:.2f}x"


def _figure(value: float) -> str:
    return f"{value:.4g}"


TABLES: Mapping[str, Sequence[Column]] = {
    "tests": (
        Column("passed", "passed", str),
        Column("failed", "failed", str),
        Column("skipped", "skipped", str),
    ),
    "calibration": (
        Column("TFLOP/s", "tflop_per_s", _figure),
        Column("GB/s", "gb_per_s", _figure),
    ),
    "stages": (
        Column("wall s", "wall_s", _seconds),
        Column("LM s", "lm_decode_s", _seconds),
        Column("MBU", "lm_decode_mbu", _share),
        Column("DiT s", "diffuse_s", _seconds),
        Column("MFU", "diffuse_mfu", _share),
        Column("VAE s", "vae_decode_s", _seconds),
        Column("MFU", "vae_decode_mfu", _share),
    ),
    "modes": (
        Column("wall", "wall_ratio", _times),
        Column("from", "wall_low", _times),
        Column("to", "wall_high", _times),
        Column("LM", "lm_decode_ratio", _times),
        Column("DiT", "diffuse_ratio", _times),
        Column("VAE", "vae_decode_ratio", _times),
        Column("off", "audio_off", "{:.1g}".format),
    ),
    "beside": (
        Column("theirs ms", "theirs_ms", _figure),
        Column("ours ms", "ours_ms", _figure),
        Column("ratio", "ratio", _times),
        Column("from", "low", _times),
        Column("to", "high", _times),
        Column("off", "off", "{:.1g}".format),
    ),
    "peaks": (
        Column("run GiB", "run_bytes", _gib),
        Column("predicted GiB", "predicted_bytes", _gib),
        Column("off", "off", _signed),
        Column("worst stage", "worst_stage", str),
        Column("off", "worst_off", _signed),
    ),
    "energy": (
        Column("J a song", "joules_per_song", _figure),
        Column("J a second", "joules_per_audio_s", _figure),
        Column("mean W", "mean_w", _figure),
        Column("songs", "songs", str),
    ),
}
# What a part has once, in lines.
FIGURES: Mapping[str, Sequence[Column]] = {
    "calibration": (
        Column("context, MiB", "context_mib", _figure),
        Column("workspace of cuBLAS, MiB", "blas_bytes", _mib),
        Column("workspace of a convolution, inputs", "convolution_copies", _figure),
        Column("a launch from Python, us", "launch_us", _figure),
        Column("a kernel in a CUDA graph, us", "kernel_us", _figure),
        Column("link to the card, GB/s", "to_card_gb_per_s", _figure),
        Column("link to the host, GB/s", "to_host_gb_per_s", _figure),
    ),
}
NOTES = {
    "stages": "Songs by length and language model; shares are of the peaks ({peaks}).",
    "modes": "Eager over the other, median and range of {pairs} pairs in turn: above 1 the other is"
    " faster. Off: the audio, relative to eager's RMS; a token sampled otherwise is another song.",
    "beside": "Theirs over ours, median and range of {pairs} pairs in turn, same weights: above 1 ours"
    " is faster. Off: the outputs, relative to the RMS of theirs.",
    "peaks": "Memory of the card with its context, under the cap {cap} (a virtual one counts); the"
    " prediction is {calibration}.",
    "energy": "The whole card's, by its own counter, idle power included; a second is one of audio.",
}


def markdown(record: Record) -> str:
    """The report."""
    parts = {name: record.parts[name] for name in NAMES if name in record.parts}
    blocks = [
        f"{TITLE}{escaped(record.facts.card)}",
        "\n".join(wrapped(_verdict(record, parts), WIDTH)),
        "\n".join(wrapped(_facts(record), WIDTH)),
        _targets(parts) if record.facts.device.startswith("cuda") else "",
        *(_part(name, outcome) for name, outcome in parts.items()),
    ]
    return "\n\n".join(filter(None, blocks)) + "\n"


def _verdict(record: Record, parts: Mapping[str, Outcome]) -> str:
    """What was measured, and what was not, by name."""
    by_status: dict[str, list[str]] = {}
    for part in PARTS:
        outcome = parts.get(part.name)
        by_status.setdefault(outcome.status if outcome else "not run", []).append(part.name)
    counts = [
        f"{len(names)} {STATUS.get(status, status)} ({', '.join(names)})"
        for status in (*STATUS, "not run")
        if (names := by_status.get(status))
    ]
    verdict = "**Something failed**" if "failed" in by_status else "**Nothing failed**"
    sent = (
        f" To send: `calibrations/{record.calibration.replace(chr(92), '/').rpartition('/')[2]}`."
        if record.calibration
        else ""
    )
    return f"{verdict}: {'; '.join(counts)}.{_rest(parts)}{sent}"


def _rest(parts: Mapping[str, Outcome]) -> str:
    """What there was no time for, and the budget that all of it takes, as far as can be said."""
    needs_s = {part.name: outcome.needs_s(part) for part in PARTS if (outcome := parts.get(part.name))}
    cut_s = {name: seconds for name, seconds in needs_s.items() if seconds}
    if not cut_s:
        return ""
    return (
        f" There was no time for all of {', '.join(cut_s)}: started again with"
        f" `{FLAG} {spelled(enough_s(cut_s))}`, it goes on with them."
    )


def _facts(record: Record) -> str:
    facts, gpus = record.facts, record.machine.gpus
    driver = f"driver {gpus[0].driver}, " if facts.device.startswith("cuda") and gpus else ""
    commit = f"{(facts.commit or 'unknown')[:12]}{' and changes' if record.dirty else ''}"
    source = facts.source.replace("\\", "/").rpartition("/")[2]
    return escaped(
        f"{facts.memory_gib:g} GiB, {driver}torch {facts.torch}, weights {source}, commit {commit}, "
        f"{record.spent_s / 60:.1f} of {record.budget_s / 60:g} min, {record.started_utc:%Y-%m-%d}."
    )


def _targets(parts: Mapping[str, Outcome]) -> str:
    """Shares that were reached at the longest song, beside those aimed at."""
    rows = parts.get("stages", Outcome()).rows.values()
    lines = []
    for what, share, prefix, key, target in TARGETS:
        reached = [(row.name, row.values.get(key)) for row in rows if row.name.startswith(prefix)]
        lines += [
            (what, share, name.removeprefix(prefix), _share(value), f"{target:.0%}")
            for name, value in reached
            if isinstance(value, float)
        ][-1:]
    return f"## Targets\n\n{_table(('what', 'share', 'of', 'reached', 'target'), lines)}" if lines else ""


def _part(name: str, outcome: Outcome) -> str:
    title = next(part.title for part in PARTS if part.name == name)
    rows = list(outcome.rows.values())
    measured = [row for row in rows if row.values]
    blocks = [f"## {title[0].upper()}{title[1:]}: {STATUS[outcome.status]}"]
    figures = [(c.heading, _cell(c, row)) for c in FIGURES.get(name, ()) for row in _having(c, measured)]
    if figures:
        blocks.append(_table(("", "value"), figures))
    columns = [column for column in TABLES[name] if _having(column, measured)]
    shown = [row for row in measured if any(_having(column, [row]) for column in columns)]
    if columns:
        cells = ([row.name, *(_cell(column, row) for column in columns)] for row in shown)
        blocks.append(_table(["", *(column.heading for column in columns)], cells))
    if measured and name in NOTES:
        blocks.append("\n".join(wrapped(_note(NOTES[name], measured[0]), WIDTH)))
    blocks += ["\n".join(reasons)] if (reasons := list(_reasons(rows, outcome))) else []
    return "\n\n".join(blocks)


def _having(column: Column, rows: Iterable[Row]) -> list[Row]:
    return [row for row in rows if row.values.get(column.key) is not None]


def _note(note: str, row: Row) -> str:
    return escaped(note.format_map({**UNTOLD, **row.values}))


def _cell(column: Column, row: Row) -> str:
    value = row.values.get(column.key)
    return NONE if value is None else column.show(value)


def _reasons(rows: Iterable[Row], outcome: Outcome) -> Iterator[str]:
    """Why rows were not measured, those of one reason together."""
    alike: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row.status != "ok":
            alike.setdefault((row.status, row.reason), []).append(row.name)
    lines = [f"{' · '.join(names)}: {status}, {reason}" for (status, reason), names in alike.items()]
    for line in [*lines, *([outcome.reason] if outcome.reason else [])]:
        first, *more = wrapped(escaped(line), WIDTH - 2)
        yield "\n".join([f"* {first}", *(f"  {line}" for line in more)])


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table with its cells padded; the first column is text, the others are numbers."""
    lines = [[escaped(cell) for cell in row] for row in (heads, *rows)]
    widths = [max(len(row[i]) for row in lines) for i in range(len(heads))]

    def line(cells: Sequence[str]) -> str:
        first, *others = (
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return f"|{'|'.join([first, *others])}|"

    rule = f"|{'|'.join('-' * (width - 1) + ('-' if i == 0 else ':') for i, width in enumerate(widths))}|"
    return "\n".join([line(lines[0]), rule, *map(line, lines[1:])])
