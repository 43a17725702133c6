"""A prediction as one HTML file: verdict, stages, memory over the predicted time, what each peak is made of.

Nothing is loaded from elsewhere and nothing is a trace. Every text is escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from acestep.costs import report
from acestep.subject import SUBJECT
from harness.chart import STYLE, Chart, safe, size
from harness.trace.cost import Cost, StageCost
from harness.trace.stage_costs import PS

UNITS = (
    "Memory: GB of 2³⁰ bytes, as cards are sold. Moved, over the link: GB of 10⁹, as bandwidths are given. "
    "Seconds: each kernel by what bounds it; the last line is without loading."
)
HEADS = (
    *("Stage", "Seconds", "Bound by", "TFLOP", "GB moved", "Launches", "Syncs", "GB over link"),
    *("Allocated", "Reserved"),
)
RESOURCE_HEADS = ("Resource", "Asked for", "The card's", "Seconds")
TEXTS = ("Stage", "Bound by", "Resource", "Made of")


class Moment(NamedTuple):
    """What the chart draws: seconds of the predicted time, stage, bytes allocated."""

    t_s: float
    phase: str
    used_bytes: int


def page(cost: Cost) -> str:
    """The whole document."""
    title = f"{cost.card.name}: {'fits' if cost.fits else 'does not fit'}"
    sections = (
        ("Stages", _table(HEADS, _stages(cost)) + _paragraph(UNITS)),
        ("Memory over the predicted time, loading included", _chart(cost)),
        ("Resources: what each alone would take", _table(RESOURCE_HEADS, _resources(cost))),
        ("What each peak is made of", _table(("Stage", "Allocated", "Made of"), _peaks(cost))),
    )
    body = "".join(f"<h2>{safe(head)}</h2>{content}" for head, content in sections)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{safe(title)}</title><style>{STYLE}</style></head><body>"
        f"<h1>What a generation would cost</h1>{_paragraph(report.label(cost))}{_facts(cost)}{body}"
        "</body></html>\n"
    )


def _facts(cost: Cost) -> str:
    """Card, plan and verdict, a line each."""
    kind = "ok" if cost.fits else "failed"
    told = [*report.facts(cost).items(), *report.facts_of_verdict(cost)]
    rows = (
        f"<tr><th>{safe(name)}</th><td{f' class={kind}' if name == 'verdict' else ''}>{safe(fact)}</td></tr>"
        for name, fact in told
    )
    return f'<div class="scroll"><table>{"".join(rows)}</table></div>'


def _stages(cost: Cost) -> Iterable[Sequence[str]]:
    for stage in report.ordered(cost):
        yield _stage(stage.stage, stage.seconds, report.bound(stage), stage)
    if cost.running:
        yield _stage(report.TOTAL, cost.seconds, "", cost)


def _stage(name: str, seconds: float, bound: str, of: StageCost | Cost) -> Sequence[str]:
    peaks = size(of.peak_allocated_bytes), size(of.peak_reserved_bytes)
    return name, f"{seconds:.3f}", bound, *report.amounts(of.work), *peaks


def _resources(cost: Cost) -> Iterable[Sequence[str]]:
    """Most wanted first. Their sum is over the total, which takes the longest of each kernel."""
    card, work = cost.card, cost.work
    moved, linked = work.read_bytes + work.written_bytes, work.to_card_bytes + work.to_host_bytes
    flop, gb, _, _, link_gb = report.amounts(work)
    rows = (
        (work.flop / card.flop_per_s, "compute", f"{flop} TFLOP", f"{card.tflop_per_s:g} TFLOP/s"),
        (moved / card.bytes_per_s, "memory", f"{gb} GB", f"{card.gb_per_s:g} GB/s"),
        (work.launches * card.launch_s, "launches", f"{work.launches:,}", f"{card.launch_us:g} µs each"),
        (linked / card.link_bytes_per_s, "link", f"{link_gb} GB", f"{card.link_gb_per_s:g} GB/s"),
    )
    return ((*row[1:], f"{row[0]:.3f}") for row in sorted(rows, reverse=True))


def _peaks(cost: Cost) -> Iterable[Sequence[str]]:
    for stage in report.ordered(cost):
        parts = [f"{size(held)} {site}" for site, held in list(stage.sites.items())[: report.TOP_SITES]]
        yield stage.stage, size(stage.peak_allocated_bytes), "\n".join(parts)


def _chart(cost: Cost) -> str:
    moments = [Moment(s.t_ps / PS, s.stage, s.allocated_bytes) for s in cost.samples]
    if len(moments) < 2:
        return ""
    reserved_bytes = [sample.reserved_bytes for sample in cost.samples]
    picture = Chart(moments, cost.cap_bytes, SUBJECT.stages, reserved_bytes).svg()
    held = size(cost.card.context_bytes)
    return f'<div class="scroll">{picture}</div>' + _paragraph(
        f"Filled: allocated. The cap is the card less {held} of context."
    )


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Cells are text; its lines are kept."""
    classes = ["" if head in TEXTS else ' class="n"' for head in heads]
    top = "".join(f"<th{kind}>{safe(head)}</th>" for head, kind in zip(heads, classes, strict=True))
    lines = "".join(
        f"<tr>{''.join(f'<td{k}>{_lines(cell)}</td>' for cell, k in zip(row, classes, strict=True))}</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table></div>'


def _lines(cell: str) -> str:
    return safe(cell).replace("\n", "<br>")


def _paragraph(told: str) -> str:
    return f'<p class="facts">{safe(told)}</p>'
