"""The answer of a tier test, before its detail: how much fits, on which card, and what ran out where."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from harness import cards
from tiersim.boundary import Ladder, Minimum, minimum
from tiersim.notes import label, size_of
from tiersim.record import Record

HEADS = ("Case", "Least card", "Fits", "What ran out, and where")


@dataclass(frozen=True, slots=True)
class Line:
    """Cases that differ in the card alone: the least card with what that rests on, and how many cards fit.

    `ended`: what ran out on the largest card that is too small, and what else speaks against the least one.
    """

    case: str
    least: str
    fits: str
    ended: str

    @property
    def cells(self) -> tuple[str, ...]:
        """What stands under HEADS."""
        return self.case, self.least, self.fits, self.ended

    def __str__(self) -> str:
        return "; ".join(filter(None, (f"{self.case}: {self.least}", f"fits {self.fits}", self.ended)))


@dataclass(frozen=True, slots=True)
class Answer:
    """`headline`: all cases in one sentence. `largest`: what else was looked for, a line each."""

    headline: str
    lines: tuple[Line, ...] = ()
    largest: tuple[str, ...] = ()

    @property
    def text(self) -> Iterator[tuple[bool, str]]:
        """Its lines, each with whether it is the first."""
        yield True, self.headline
        for line in (*map(str, self.lines), *self.largest):
            yield False, line


def answer(records: Sequence[Record], largest: Iterable[str] = ()) -> Answer:
    """The answer of `records`, one for every case that was asked for."""
    alike: dict[str, list[Record]] = {}
    for record in records:
        case = record.requested
        name = f"{size_of(case)}, {'LM' if case.lm else 'no LM'}, {case.variant}"
        alike.setdefault(name, []).append(record)
    lines = [_line(name, minimum(of[0].requested.variant, of)) for name, of in alike.items()]
    return Answer(_headline(records), tuple(lines), tuple(largest))


def largest_batches(ladders: Iterable[tuple[Ladder, Ladder | None]]) -> list[str]:
    """The largest batch of each card, in words."""
    return [
        f"{cards.of_size(alone.tier_gb)}: largest batch {alone}" + (f", with LM {lm}" if lm else "")
        for alone, lm in ladders
    ]


def _headline(records: Sequence[Record]) -> str:
    ran = [record for record in records if record.status != "skip"]
    fit = sum(record.status == "ok" for record in ran)
    others = {
        "failed, of whose memory nothing was learned": sum(record.unknown for record in ran),
        "not tried": len(records) - len(ran),
        "not quite as asked for (OK*)": sum(label(record) == "OK*" for record in ran),
    }
    notes = (f"{number} {what}" for what, number in others.items() if number)
    predicted = ", predicted" if any(record.requested.card for record in ran) else ""
    return "; ".join((f"{fit} of {len(ran)} cases fit{predicted}", *notes))


def _line(name: str, least: Minimum) -> Line:
    if not least.cards:
        return Line(name, "not tried", "n/a", "")
    basis = f", {least.basis}" if least.basis else ""
    fits = sum(card.status == "ok" for card in least.cards)
    ended = f"{_where(least.last_failure)}: {least.last_failure.reason}" if least.last_failure else ""
    against = [ended] if ended else []
    against += [f"{_where(record)} {record.status}, though a smaller card fits" for record in least.offending]
    against += [f"{_where(record)}: {record.status}" for record in least.unknown]
    return Line(name, f"{least}{basis}", f"{fits} of {len(least.cards)} cards", "; ".join(against))


def _where(record: Record) -> str:
    return cards.of_size(record.requested.tier_gb)
