"""A run as one HTML file: the tables, and the memory of each case over time under its cap.

Nothing is loaded from elsewhere and nothing is a script, so the file can be mailed. Every text is escaped:
what a worker printed or a model wrote stays text.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.chart import STYLE, Chart, safe, size
from harness.records.schema import Header
from tiersim.case import subject_of
from tiersim.notes import basis, label, lm_size, notes, predicted_on, with_lm
from tiersim.record import Record

NARROW = "td:not(:last-child) { white-space: nowrap }"
NUMERIC = ("Batch", "Duration", "Peak", "Wall")


def page(header: Header, records: Sequence[Record], tables: Sequence[str] = ()) -> str:
    """The whole document. `tables`: what was printed at the end, shown as it was."""
    title = "Tier test, predicted" if any(record.requested.card for record in records) else "Tier test"
    cells = [_cells(number, record) for number, record in enumerate(records)]
    heads = "".join(f"<th{_class(head)}>{head}</th>" for head in (cells[0] if cells else ()))
    rows = "".join(
        f"<tr>{''.join(f'<td{_class(head)}>{cell}</td>' for head, cell in row.items())}</tr>" for row in cells
    )
    blocks = "".join(f"<pre>{safe(table)}</pre>" for table in tables)
    sections = "".join(_section(number, record) for number, record in enumerate(records))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}{NARROW}</style></head><body><h1>{title}</h1>"
        f'<p class="facts">{safe(" · ".join((*predicted_on(records), *_facts(header))))}</p>'
        f'<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'
        f"{blocks}{sections}</body></html>\n"
    )


def _class(head: str) -> str:
    return ' class="n"' if head in NUMERIC else ""


def _facts(header: Header) -> tuple[str, ...]:
    commit = f"{header.commit[:12]}{' and changes' if header.dirty else ''}" if header.commit else "no commit"
    cards = ", ".join(gpu.name for gpu in header.machine.gpus if gpu.name)
    where = cards or header.machine.cpu or "unknown processor"
    torch = f"torch {header.versions.get('torch', 'unknown')}"
    started = f"{header.started_utc:%Y-%m-%d %H:%M} UTC"
    return commit, header.source, header.dit, where, torch, started


def _cells(number: int, record: Record) -> dict[str, str]:
    """A row of the table of cases, as markup."""
    kind = "failed" if record.failed else "partly" if label(record) == "OK*" else record.status
    return {
        "VRAM": f'<a href="#case{number}">{record.requested.tier_gb:g}GB</a>',
        "Tier": safe(record.tier),
        "Variant": safe(record.requested.variant),
        "LM": safe(lm_size(record.lm)),
        "Batch": str(record.effective.batch_size),
        "Duration": f"{record.effective.duration_s:g}s",
        "Status": f'<span class="{kind}">{safe(label(record))}</span>',
        "Peak": size(record.peak_bytes),
        "Wall": "—"
        if record.wall_s is None
        else f"{'~ ' if record.requested.card else ''}{record.wall_s:.2f}s",
        "Notes": safe("; ".join(notes(record))),
    }


def _section(number: int, record: Record) -> str:
    asked, cap = record.requested, record.cap
    batch = record.effective.batch_size
    title = f"{asked.tier_gb:g}GB {asked.variant}, {with_lm(record.lm)}, batch {batch}"
    proven = ", verified" if cap and cap.verified else ""
    facts = (
        label(record),
        f"{basis(record)} at {size(cap.bytes)}{proven}" if cap else "no cap",
        f"peak {size(record.peak_bytes)} ({record.peak_source or 'not measured'})",
    )
    chart = ""
    if len(record.timeline) > 1:
        picture = Chart(record.timeline, cap.bytes if cap else 0, subject_of(asked).stages).svg()
        chart = f'<div class="scroll">{picture}</div>'
    log = f"<details><summary>log</summary><pre>{safe(record.log)}</pre></details>" if record.log else ""
    told = f'<h2>{safe(title)}</h2><p class="facts">{safe(" · ".join(facts))}</p>'
    return f'<section id="case{number}">{told}{chart}{log}</section>'
