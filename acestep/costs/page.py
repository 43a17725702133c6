"""A prediction as one HTML file: verdict, stages, memory over the predicted time, what each peak is of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from acestep.costs.report import facts
from acestep.subject import SUBJECT
from harness.chart import Chart, size
from harness.oom import in_words
from harness.page import render
from harness.trace import report, times
from harness.trace.cost import Cost, StageCost
from harness.trace.stage_costs import PS

TEMPLATE = Path(__file__).with_name("page.html")
HEADS = (
    *("Stage", "Seconds", "Expected", "Bound by", "TFLOP", "GB moved", "Launches", "Kernels", "Syncs"),
    *("GB over link", "Allocated", "Reserved"),
)
RESOURCE_HEADS = ("Resource", "Asked for", "The card's", "Seconds")
PEAK_HEADS = ("Stage", "Allocated", "Made of")
TEXTS = ("Stage", "Bound by", "Resource", "Made of")


class Moment(NamedTuple):
    """What the chart draws: seconds of the predicted time, stage, bytes allocated."""

    t_s: float
    phase: str
    used_bytes: int


def page(cost: Cost) -> str:
    """The whole document."""
    return render(
        TEMPLATE,
        title=f"{cost.card.name}: {'fits' if cost.fits else 'does not fit'}",
        heading="What a generation would cost",
        answer=_answer(cost),
        label=report.label(cost),
        facts=[*report.facts_of_verdict(cost), *_beside(cost), *facts(cost).items()],
        kind="ok" if cost.fits else "failed",
        texts=TEXTS,
        stage_heads=HEADS,
        stages=_stages(cost),
        chart=_chart(cost),
        context=size(cost.card.context_bytes),
        expected=cost.environment["expected"],
        resource_heads=RESOURCE_HEADS,
        resources=_resources(cost),
        peak_heads=PEAK_HEADS,
        peaks=_peaks(cost),
    )


def _answer(cost: Cost) -> str:
    """Whether it fits, with how much to spare and about how long it takes; else what ran out, and where."""
    for book in cost.books.values():
        if ended := book.out_of_memory:
            sizes = ended.segment_bytes, ended.free_bytes, book.card.memory_bytes
            return f"Does not fit {_card(book)}: {in_words('device', *sizes, ended.stage)}"
    left_bytes = min(book.card.memory_bytes - book.peak_bytes for book in cost.books.values())
    return f"Fits {_card(cost)}, {size(left_bytes)} left; {cost.seconds:.2f} s at the roofline"


def _card(cost: Cost) -> str:
    return f"{cost.card.name} of {cost.card.memory_gib:g} GB"


def _beside(cost: Cost) -> Iterable[tuple[str, str]]:
    """What comes of the cards beside this one, which the rest of the page is of."""
    for device, book in cost.beside.items():
        yield device, f"{book.seconds:.3f} s at the roofline"
        yield from report.facts_of_verdict(book)


def _stages(cost: Cost) -> Iterable[Sequence[str]]:
    for stage in report.ordered(cost):
        yield _stage(stage.stage, stage.seconds, report.bound(stage), stage)
    if cost.running:
        yield _stage(report.TOTAL, cost.seconds, "", cost)


def _stage(name: str, seconds: float, bound: str, of: StageCost | Cost) -> Sequence[str]:
    peaks = size(of.peak_allocated_bytes), size(of.peak_reserved_bytes)
    expected = times.between(of.expected_s) if seconds else ""
    return name, f"{seconds:.3f}", expected, bound, *report.amounts(of.work), *peaks


def _resources(cost: Cost) -> Iterable[Sequence[str]]:
    """Most wanted first. Their sum is over the total, which takes the longest of each kernel."""
    card, work = cost.card, cost.work
    moved, linked = work.read_bytes + work.written_bytes, work.to_card_bytes + work.to_host_bytes
    flop, gb, _, _, _, link_gb = report.amounts(work)
    compute_s = (work.flop - work.fp32_flop) / card.flop_per_s + work.fp32_flop / card.fp32_flop_per_s
    rows = (
        (compute_s, "compute", f"{flop} TFLOP", report.rates(cost)),
        (moved / card.bytes_per_s, "memory", f"{gb} GB", f"{card.gb_per_s:g} GB/s"),
        (work.launches * card.launch_s, "launches", f"{work.launches:,}", f"{card.launch_us:g} µs each"),
        (work.kernels * card.kernel_s, "kernels", f"{work.kernels:,}", f"{card.kernel_us:g} µs or more"),
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
    return Chart(moments, cost.cap_bytes, SUBJECT.stages, reserved_bytes).svg()
