"""Report of a prediction, for a terminal of 80 columns. No torch import here.

Memory is in GiB, as cards are sized; what is moved in GB of 10^9 bytes, as bandwidths are given.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence

from harness.cards import Card
from harness.memory import GIB
from harness.oom import in_words
from harness.text import harmless
from harness.trace import times
from harness.trace.cost import Cost, StageCost
from harness.trace.stage_costs import OUTSIDE, Work

COLUMNS = 79
LABEL = 8
TOTAL = "all but load"
GB, TFLOP = 1e9, 1e12
TOP_SITES, LEAST_SHARE = 5, 0.005
WIDTHS = (12, 8, 9, 7, 7, 12, 6, 6, 6, 6)
WIDTHS_LONG = (14, 8, 9, 6, 6, 12, 6, 6, 6, 6)  # where a stage has a longer name
HEADS = (
    ("", "", "", "", "GB", "launches", "", "GB", "peak", "GiB"),
    ("stage", "seconds", "bound by", "TFLOP", "moved", "/kernels", "syncs", "link", "alloc", "resvd"),
)


def text(cost: Cost, facts: Mapping[str, str]) -> str:
    """All of it: the verdict and `facts` of what was resolved; of each card stages, seconds, whether it was
    enough, and what the highest peak is of."""
    answer = textwrap.wrap(harmless(verdict(cost)), COLUMNS, break_on_hyphens=False)
    resolved = [line for name, fact in facts.items() for line in _wrapped(name, fact)]
    resolved += textwrap.wrap(harmless(label(cost)), COLUMNS, subsequent_indent="  ", break_on_hyphens=False)
    blocks = [answer, resolved, *_book(cost)]
    for device, book in cost.beside.items():
        blocks += [_wrapped(device, f"{book.card.name}: {book.card.memory_gib:.2f} GiB"), *_book(book)]
    if cost.beside:
        seconds = sum(cost.stages_s.values())
        blocks.append(_wrapped("in all", f"{seconds:.3f} s at the roofline, as cards take turns"))
    return "\n\n".join("\n".join(block) for block in blocks)


def verdict(cost: Cost) -> str:
    """Whether it fits, with what to spare, and how long it takes; from the record alone."""
    cards = [f"{book.card.name} of {book.card.memory_gib:g} GiB" for book in cost.books.values()]
    if ended := cost.ended:
        number = [book.out_of_memory for book in cost.books.values()].index(ended)
        words = in_words("device", ended.segment_bytes, stage=ended.stage)
        return f"Does not fit {cards[number]}: {words}. Predicted."
    spare = [book.card.memory_gib - book.peak_bytes / GIB for book in cost.books.values()]
    fits = [f"{card} with {left:.2f} GiB to spare" for card, left in zip(cards, spare, strict=True)]
    ranges = [book.expected_s for book in cost.books.values()]
    low, high = sum(each.low for each in ranges), sum(each.high for each in ranges)
    audio_s, items = cost.counts.get("audio_s"), cost.plan.get("batch_size", 1)
    of = f" for {f'{items} x ' if items > 1 else ''}{audio_s:g} s of audio" if audio_s else ""
    return f"Fits {' and '.join(fits)}; {times.short(low)} to {times.short(high)} s{of}. Predicted."


def _book(cost: Cost) -> list[list[str]]:
    """What one card does, and whether that fits it."""
    verdict = [line for name, fact in facts_of_verdict(cost) for line in _wrapped(name, fact)]
    sites = _sites(cost) if cost.stages else []
    return [_table(cost), times.table(cost, ordered(cost), TOTAL), verdict, sites]


def listing(cards: Sequence[Card]) -> str:
    """A table of cards."""
    lines = [f"{'card':<44}{'GiB':>6}{'TFLOP/s':>9}{'fp32':>7}{'GB/s':>7}{'link':>6}"]
    for card in cards:
        peaks = f"{card.tflop_per_s:>9g}{card.fp32_tflop_per_s:>7.1f}"
        figures = f"{card.memory_gib:>6g}{peaks}{card.gb_per_s:>7g}{card.link_gb_per_s:>6g}"
        lines += [f"{card.name:<44}{figures}"] if len(card.name) <= 44 else [card.name, f"{'':44}{figures}"]
    return "\n".join(lines)


def label(cost: Cost) -> str:
    """What every figure is worth."""
    of = cost.environment
    return f"predicted, {of['calibration']}, torch {of['torch']}, seconds are a roofline"


def rates(cost: Cost) -> str:
    """TFLOP a second of the card's tensor cores, and in fp32 where that is computed with."""
    card = cost.card
    wide = f" ({card.fp32_tflop_per_s:g} in fp32)" if cost.work.fp32_flop else ""
    return f"{card.tflop_per_s:g} TFLOP/s{wide}"


def card_rates(cost: Cost) -> str:
    """What the card computes, moves and launches."""
    card = cost.card
    return (
        f"{rates(cost)}, {card.gb_per_s:g} GB/s, link {card.link_gb_per_s:g} GB/s, "
        f"{card.launch_us:g} µs a launch, {card.kernel_us:g} µs a kernel"
    )


def ordered(cost: Cost) -> list[StageCost]:
    """The stages as they began; what belongs to none comes last."""
    return sorted(cost.stages, key=lambda stage: stage.stage == OUTSIDE)


def bound(stage: StageCost) -> str:
    """The resource that takes most of the stage's time; empty where it takes none."""
    return stage.bound_by if stage.seconds else ""


def highest(cost: Cost) -> StageCost:
    """The stage that has most allocated."""
    return max(cost.stages, key=lambda stage: stage.peak_allocated_bytes)


def amounts(work: Work) -> tuple[str, ...]:
    """TFLOP, GB moved, launches, kernels, syncs, GB over the link."""
    moved, linked = work.read_bytes + work.written_bytes, work.to_card_bytes + work.to_host_bytes
    return (
        _short(work.flop / TFLOP),
        _short(moved / GB),
        str(work.launches),
        str(work.kernels),
        str(work.syncs),
        _short(linked / GB),
    )


def facts_of_verdict(cost: Cost) -> Iterator[tuple[str, str]]:
    """Whether it fits, where it ended, and what it took to get there."""
    reserved, context = cost.peak_reserved_bytes / GIB, cost.card.context_bytes / GIB
    card = f"{cost.card.name} of {cost.card.memory_gib:g} GiB"
    if ended := cost.out_of_memory:
        yield "verdict", f"does not fit {card}: out of memory in {ended.stage}"
        card_bytes = int(cost.card.memory_gib * GIB)
        words = in_words("device", ended.segment_bytes, ended.free_bytes, card_bytes, ended.stage)
        yield "ended", f"{words}, {ended.site}"
    else:
        yield "verdict", f"fits {card}"
    total = f"{reserved + context:.2f} of {cost.card.memory_gib:.2f} GiB"
    yield "peak", f"{reserved:.2f} GiB reserved + {context:.2f} GiB context = {total}"
    for fallback in cost.fallbacks:
        yield "instead", str(fallback)
    if cost.retries:
        yield "retries", f"{cost.retries}: the allocator gave back what it cached, and tried again"


def _table(cost: Cost) -> list[str]:
    rows: list[Sequence[str]] = [*HEADS]
    for stage in ordered(cost):
        peaks = (stage.peak_allocated_bytes, stage.peak_reserved_bytes)
        rows.append(_row(stage.stage, stage.seconds, bound(stage), stage.work, peaks))
    if cost.running:
        peaks = (cost.peak_allocated_bytes, cost.peak_reserved_bytes)
        rows.append(_row(TOTAL, cost.seconds, "", cost.work, peaks))
    widths = WIDTHS_LONG if any(len(row[0]) > WIDTHS[0] for row in rows) else WIDTHS
    return [_aligned(row, widths) for row in rows]


def _row(name: str, seconds: float, bound: str, work: Work, peaks: tuple[int, int]) -> tuple[str, ...]:
    tflop, moved, launches, kernels, syncs, link = amounts(work)
    launched = launches if launches == kernels else f"{_count(launches)}/{_count(kernels)}"
    held = (_short(peak / GIB) for peak in peaks)
    return name, times.short(seconds), bound, tflop, moved, launched, _count(syncs), link, *held


def _aligned(cells: Sequence[str], columns: Sequence[int]) -> str:
    name, seconds, bound, *others = cells
    first, second, third, *widths = columns
    left = f"{name:<{first}}{seconds:>{second}} {bound:<{third - 1}}"
    return left + "".join(f"{cell:>{width}}" for cell, width in zip(others, widths, strict=True))


def _sites(cost: Cost) -> list[str]:
    stage = highest(cost)
    lines = [f"highest peak: {stage.stage}, {stage.peak_allocated_bytes / GIB:.2f} GiB allocated, made of"]
    for site, size_bytes in list(stage.sites.items())[:TOP_SITES]:
        share = size_bytes / stage.peak_allocated_bytes
        if share >= LEAST_SHARE:
            held = f"{size_bytes / GIB:>8.2f} GiB {share:>4.0%}  "
            lines += textwrap.wrap(
                held + harmless(site),
                COLUMNS,
                subsequent_indent=" " * len(held),
                break_on_hyphens=False,
            )
    return lines


def _count(number: str) -> str:
    """A whole number in five characters."""
    if len(number) < 6:
        return number
    millions = int(number) / 1e6
    places = 2 if millions < 9.995 else 1 if millions < 99.95 else 0
    return f"{millions:.{places}f}M"


def _short(amount: float) -> str:
    """Five characters."""
    if amount >= 99_999.5:
        return f"{amount / 1e3:.0f}k" if amount < 9_999_500 else f"{amount / 1e6:.0f}M"
    return f"{amount:.0f}" if amount >= 999.95 else f"{amount:.1f}" if amount >= 99.995 else f"{amount:.2f}"


def _wrapped(name: str, fact: str) -> list[str]:
    return textwrap.wrap(
        harmless(fact),
        COLUMNS,
        initial_indent=f"{name:<{LABEL}}",
        subsequent_indent=" " * LABEL,
        break_on_hyphens=False,
    )
