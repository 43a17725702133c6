"""A run as one HTML file: the answer, the fit matrix, and of each case the memory over time under its cap.

What each case did is folded; a link to it, as from its cell of the matrix, opens it in the browser.

Nothing is loaded from elsewhere and nothing is a script, so the file can be mailed. Every text is escaped:
what a worker printed or a model wrote stays text.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness import cards
from harness.chart import Chart, size
from harness.page import render
from harness.records.schema import Header
from tiersim import picture
from tiersim.answer import HEADS as ANSWER_HEADS
from tiersim.answer import Answer
from tiersim.case import subject_of
from tiersim.fits import FitMatrix
from tiersim.notes import basis, chosen, label, lm_size, notes, of_process, predicted_on, with_lm
from tiersim.record import Record

TEMPLATE = Path(__file__).with_name("page.html")
NUMERIC = ("Batch", "Duration", "Peak", "Wall")
NOTHING = Answer("nothing ran")


def page(
    header: Header,
    records: Sequence[Record],
    tables: Sequence[str] = (),
    matrix: FitMatrix | None = None,
    answer: Answer = NOTHING,
) -> str:
    """The whole document. `tables`: what was printed at the end, shown as it was. `matrix`, `answer`: of
    `records`."""
    predicted = any(record.requested.card for record in records)
    title = "Tier test, predicted" if predicted else "Tier test"
    links = {record.key: f"#case{number}" for number, record in enumerate(records)}
    cases = [_case(record) for record in records]
    return render(
        TEMPLATE,
        title=title,
        heading=title,
        answer=answer,
        answer_heads=ANSWER_HEADS,
        facts=" · ".join((*predicted_on(records), *_facts(header))),
        heads=list(cases[0]["cells"]) if cases else [],
        numeric=NUMERIC,
        cases=cases,
        tables=tables,
        fits=picture.svg(matrix, (), links, predicted=predicted) if matrix else None,
    )


def _facts(header: Header) -> tuple[str, ...]:
    commit = f"{header.commit[:12]}{' and changes' if header.dirty else ''}" if header.commit else "no commit"
    gpus = ", ".join(gpu.name for gpu in header.machine.gpus if gpu.name)
    where = gpus or header.machine.cpu or "unknown processor"
    torch = f"torch {header.versions.get('torch', 'unknown')}"
    started = f"{header.started_utc:%Y-%m-%d %H:%M} UTC"
    return commit, header.source, header.dit, where, torch, started


def _case(record: Record) -> dict[str, Any]:
    """A case as the template shows it: its row of the table, then what it did over time."""
    requested, cap = record.requested, record.cap
    proven = ", verified" if cap and cap.verified else ""
    facts = (
        label(record),
        f"{basis(record)} at {size(cap.bytes)}{proven}" if cap else "no cap",
        f"peak {size(record.peak_bytes)} ({record.peak_source or 'not measured'})",
        *of_process(record),
    )
    chart = None
    if len(record.timeline) > 1:
        chart = Chart(record.timeline, cap.bytes if cap else 0, subject_of(requested).stages).svg()
    batch = record.effective.batch_size
    return {
        "cells": _cells(record),
        "kind": "failed" if record.failed else "partly" if label(record) == "OK*" else record.status,
        "title": ", ".join(
            filter(
                None,
                (
                    f"{cards.of_size(requested.tier_gb)}, {requested.variant}",
                    with_lm(record.lm),
                    f"batch {batch}",
                    chosen(requested),
                ),
            )
        ),
        "facts": " · ".join(facts),
        "chart": chart,
        "log": "\n".join(filter(None, (record.exception, record.log))),
    }


def _cells(record: Record) -> dict[str, str]:
    """A row of the table of cases."""
    about = "~ " if record.requested.card else ""
    return {
        "Card": cards.of_size(record.requested.tier_gb),
        "Variant": record.requested.variant,
        "LM": lm_size(record.lm),
        "Batch": str(record.effective.batch_size),
        "Duration": f"{record.effective.duration_s:g}s",
        "Status": label(record),
        "Peak": size(record.peak_bytes),
        "Wall": "—" if record.wall_s is None else f"{about}{record.wall_s:.2f}s",
        "Notes": "; ".join(filter(None, (chosen(record.requested), *notes(record)))),
    }
