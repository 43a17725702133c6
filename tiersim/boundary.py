"""Boundaries: the smallest card for each capability (no quantization, no offloading, a batch size).

A card has a capability when it and every larger card tested pass. The first pass from below is no minimum
while a larger card fails; that is said, as non-monotonic. Nor is it one where no smaller card was tried: the
minimum is at most that, as the largest batch is at least the largest that was tried. Only running out of
memory is a failure here: a crash or a timeout says nothing of the memory a case needs, so it is unknown, and
no pass either.

    Without INT8 Quantization                       rows that ran unquantized, models parked as usual
    Without CPU Offload (and no quantization)       rows with everything on the card, in bf16
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from harness import cards
from harness.memory import GIB
from harness.tiers import TINY, Tier
from tiersim.case import PREDICTED, Variant, subject_of
from tiersim.record import Record

MOST_OF_CARD = 0.92  # a limit is raised only where this much of the card is enough
CONFIRMING_REPEATS = 3  # and as often, where a repeat can differ


def _unquantized(record: Record) -> bool:
    return record.quantization is None and record.requested.variant != "no-offload"


def _resident(record: Record) -> bool:
    return record.quantization is None and not (record.offload_to_cpu or record.offload_dit_to_cpu)


# By the variant that tests it: what it is called, and which rows show it.
CAPABILITIES: dict[Variant, tuple[str, Callable[[Record], bool]]] = {
    "no-quant": ("Without INT8 Quantization", _unquantized),
    "no-offload": ("Without CPU Offload (and no quantization)", _resident),
}


@dataclass(frozen=True, slots=True)
class Minimum:
    """What was learned of the smallest card for `variant`. `cards`: a record of each that ran, ascending."""

    variant: Variant
    cards: tuple[Record, ...]

    @property
    def capability(self) -> str:
        return CAPABILITIES[self.variant][0]

    @property
    def record(self) -> Record | None:
        """Of the smallest card that passed, as every larger one did."""
        return self.cards[self._first] if self._first < len(self.cards) else None

    @property
    def proven(self) -> bool:
        """Whether a smaller card does not do: the next below was tried, and ran out of memory."""
        return self.record is not None and self._first > 0 and _out_of_memory(self.cards[self._first - 1])

    @property
    def last_failure(self) -> Record | None:
        """Of the largest card below that, or of all, that ran out of memory."""
        return next(filter(_out_of_memory, reversed(self.cards[: self._first])), None)

    @property
    def offending(self) -> tuple[Record, ...]:
        """Failures of cards larger than one that passed."""
        smallest = next((i for i, card in enumerate(self.cards) if card.status == "ok"), len(self.cards))
        return tuple(filter(_out_of_memory, self.cards[smallest:]))

    @property
    def unknown(self) -> tuple[Record, ...]:
        """Cards of which nothing was learned."""
        return tuple(card for card in self.cards if card.unknown)

    @property
    def _first(self) -> int:
        failed = (i for i, card in enumerate(self.cards) if card.status != "ok")
        return max(failed, default=-1) + 1

    def __str__(self) -> str:
        if self.record is None:
            largest = self.cards[-1] if self.cards else None
            return "N/A" if largest is None else "unknown" if largest.unknown else "none that was tried"
        return f"{'' if self.proven else '≤ '}{cards.of_size(self.record.requested.tier_gb)}"

    @property
    def basis(self) -> str:
        """Why it is no more than a bound; empty where it is the minimum."""
        if self.record is None or self.proven:
            return ""
        below = self.cards[self._first - 1] if self._first else None
        unknown = f"of {cards.of_size(below.requested.tier_gb)} nothing was learned" if below else ""
        return unknown or "the smallest tried"


def minima(records: Iterable[Record]) -> list[Minimum]:
    """The minimum of every capability, from whatever rows show it."""
    listed = list(records)
    return [minimum(variant, filter(shows, listed)) for variant, (_, shows) in CAPABILITIES.items()]


def minimum(variant: Variant, records: Iterable[Record]) -> Minimum:
    """The minimum of cases that differ in the card alone; skipped rows show nothing."""
    ran = (record for record in records if record.status != "skip")
    return Minimum(variant, tuple(_worst_of_each(ran, lambda r: r.requested.tier_gb)))


@dataclass(frozen=True, slots=True)
class Ladder:
    """How large a batch one card takes: `best` passed, 0 if not even one item did.

    `stopped`: the record that ended the climb; None where the largest that was tried fits, so that the
    maximum is not known. `roomy`: the largest batch that left some of the card free and is proven so.
    """

    tier_gb: float
    tier: Tier
    lm: bool
    best: int
    roomy: int
    peak_bytes: int | None
    stopped: Record | None

    def __str__(self) -> str:
        if self.fell:
            return str(self.best or "FAIL")
        return f"≥ {self.best}{f' (stopped: {self.stopped.status})' if self.stopped else ''}"

    @property
    def fell(self) -> bool:
        """Whether memory ended it, so that there is a maximum: not something else, nor the last batch."""
        return self.stopped is not None and _out_of_memory(self.stopped)


def ladders(records: Iterable[Record]) -> list[tuple[Ladder, Ladder | None]]:
    """Per card its ladder without a language model, and with one if it has one; ascending."""
    ran = sorted((r for r in records if r.status != "skip"), key=_rung)
    climbed = {card: _climbed(list(rungs)) for card, rungs in groupby(ran, key=lambda r: _rung(r)[:2])}
    sizes = sorted({tier_gb for tier_gb, _ in climbed})
    return [(climbed[size, False], climbed.get((size, True))) for size in sizes if (size, False) in climbed]


def _climbed(records: Sequence[Record]) -> Ladder:
    """The ladder of one card from its records, which are all of it."""
    rungs = _worst_of_each(records, lambda r: r.requested.batch_size)
    stop = next((i for i, rung in enumerate(rungs) if rung.status != "ok"), len(rungs))
    passed = rungs[:stop]
    roomy = [rung for rung in passed if _proves_room(rung, records)]
    case = records[0].requested
    return Ladder(
        tier_gb=case.tier_gb,
        tier=subject_of(case).tier(case),
        lm=case.lm,
        best=passed[-1].requested.batch_size if passed else 0,
        roomy=roomy[-1].requested.batch_size if roomy else 0,
        peak_bytes=passed[-1].peak_bytes if passed else None,
        stopped=rungs[stop] if stop < len(rungs) else None,
    )


def leaves_room(record: Record) -> bool:
    """Whether most of its card was enough. Of what was not measured that is not known."""
    room = MOST_OF_CARD * record.requested.tier_gb * GIB
    return record.peak_bytes is not None and record.peak_bytes <= room


def _proves_room(rung: Record, records: Iterable[Record]) -> bool:
    """Whether a limit may be raised to it. A virtual cap counts bytes, the same in each repeat; a real
    allocator has to be asked again. Tiny weights leave room on every card and prove nothing, nor does a
    prediction.
    """
    kind = rung.cap and rung.cap.kind
    if rung.environment.get("source") == TINY or kind == PREDICTED:
        return False
    repeats = sum(r.requested.batch_size == rung.requested.batch_size for r in records)
    exact = kind == "virtual"
    enough = exact or repeats >= CONFIRMING_REPEATS
    return enough and leaves_room(rung)


@dataclass(frozen=True, slots=True)
class BatchLimit:
    """What a tier allows beside what was found: `configured, measured` for each, and what to change."""

    tier_gb: float
    alone: str
    with_lm: str
    suggestion: str


def batch_limits(ladders: Iterable[tuple[Ladder, Ladder | None]]) -> list[BatchLimit]:
    """Each card's ladders beside its tier's limits."""
    limits = []
    for alone, lm in ladders:
        tier = alone.tier
        changes = [_change("no_lm", tier.max_batch, alone)]
        changes += [_change("lm", tier.max_batch_with_lm, lm)] if lm else []
        limits.append(
            BatchLimit(
                tier_gb=alone.tier_gb,
                alone=f"{tier.max_batch}, found {alone}",
                with_lm=f"{tier.max_batch_with_lm}, found {lm}" if lm else "N/A",
                suggestion=", ".join(filter(None, changes)) or "OK",
            )
        )
    return limits


def _change(name: str, limit: int, ladder: Ladder) -> str:
    """A limit that memory does not hold is lowered; one is raised only on proof, with room to spare."""
    if ladder.best < limit:
        return f"{name}: {limit}→{ladder.best}" if ladder.fell else f"{name}: unknown"
    if ladder.roomy > limit:
        return f"{name}: {limit}→{ladder.roomy}"
    return ""


def _worst_of_each(records: Iterable[Record], of: Callable[[Record], float]) -> list[Record]:
    """One record per value of `of`, ascending: of repeats a failed one, else with the highest peak of all."""
    worst_of_each = []
    for _, repeats in groupby(sorted(records, key=of), key=of):
        listed = list(repeats)
        peak_bytes = max((r.peak_bytes for r in listed if r.peak_bytes is not None), default=None)
        worst = next((r for r in listed if r.failed), listed[0])
        worst_of_each.append(replace(worst, peak_bytes=peak_bytes))
    return worst_of_each


def _rung(record: Record) -> tuple[float, bool, int]:
    return record.requested.tier_gb, record.requested.lm, record.requested.batch_size


def _out_of_memory(record: Record) -> bool:
    return record.status in ("oom", "host-oom")
