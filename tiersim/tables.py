"""Records as text: the guide's table, a wide one, and what was found at the boundaries.

Columns start at fixed display columns: `✅` is two cells wide, so padding counts cells, not characters.
A narrow terminal shortens rules and wraps the last column, or puts it below the others; columns never move.
"GB" of memory is GiB throughout, as card sizes are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.cells import cell_len

from harness import cards
from harness.memory import GIB
from harness.subject import DEFAULT_PRESET
from harness.text import PLAINLY, counted, harmless, wrapped
from tiersim.answer import Answer
from tiersim.boundary import BatchLimit, Ladder, Minimum
from tiersim.case import Plan, Settings, subject_of
from tiersim.layouts import (
    BATCHES,
    LIMITS,
    MINIMA,
    NARROW_PLANS,
    PLANS,
    PREDICTED_TIERS,
    TIERS,
    WIDE,
    Layout,
)
from tiersim.notes import NONE, chosen, label, lm_size, notes, predicted_on
from tiersim.record import Record
from tiersim.telemetry import LOADING

MARKS = {"OK": "✅", "OK*": "⚠️", "SKIP": "➖"}
FAILED_MARK = "❌"
PREDICTED_AS = "nothing ran, times are a roofline"
LEAST_NOTES = 16  # columns of the last cell beside the others
BELOW = 4  # where it starts when it has fewer


class Report:
    """Tables for a terminal of `width` columns, in ASCII where asked. `predicted` ones say so."""

    def __init__(self, width: int, *, ascii: bool = False, wide: bool = False, predicted: bool = False):
        self._width = width
        self._ascii = ascii
        self._wide = wide
        self._predicted = predicted
        self._tiers = PREDICTED_TIERS if predicted else TIERS

    def header(self) -> str:
        """Title, rule and column heads of the table of records."""
        return self._head(WIDE if self._wide else self._tiers)

    def row(self, record: Record) -> str:
        """One case: what was asked, as it ran, and what came of it."""
        return self._wide_row(record) if self._wide else self._row(record)

    def plans(self, plans: Sequence[Plan]) -> str:
        """What would run."""
        if self._width >= PLANS.columns[-1]:
            return self._table(PLANS, [_plan_cells(plan) for plan in plans])
        return self._table(NARROW_PLANS, [_narrow(_plan_cells(plan)) for plan in plans])

    def footer(self, records: Sequence[Record]) -> str:
        """Totals, and which limit stood in for the card."""
        count = {status: sum(r.status == status for r in records) for status in ("ok", "skip")}
        failed = len(records) - sum(count.values())
        of = counted(len(records), "case")
        totals = f"{of}: {count['ok']} ok, {failed} failed, {count['skip']} skipped"
        for preset in sorted({record.requested.preset for record in records} - {DEFAULT_PRESET}):
            totals += f", preset {preset}"
        return self._plain("\n".join([totals, *(self._prose(0, cap) for cap in _caps(records))]))

    def answer(self, answer: Answer) -> str:
        """What the cases come to, line by line."""
        return self._plain("\n".join(self._prose(0 if first else 2, line) for first, line in answer.text))

    def minima(self, minima: Sequence[Minimum], conditions: str) -> str:
        """Per capability the smallest card that has it, what speaks against it, and what it holds for."""
        rows = [(minimum.capability, str(minimum)) for minimum in minima]
        facts = [
            line for m in minima for line in (f"  {m.capability}", *(self._prose(4, f) for f in _findings(m)))
        ]
        holds = self._prose(2, f"Holds for: {conditions}")
        return self._plain("\n".join([self._table(MINIMA, rows), "", *facts, holds]))

    def batches(
        self, ladders: Sequence[tuple[Ladder, Ladder | None]], limits: Sequence[BatchLimit], conditions: str
    ) -> str:
        """Per card the largest batch without and with a language model, then what its tier allows."""
        rows = [
            (cards.of_size(alone.tier_gb), *_ladder_cells(alone), *_ladder_cells(lm)) for alone, lm in ladders
        ]
        compared = [(cards.of_size(of.tier_gb), of.alone, of.with_lm, of.suggestion) for of in limits]
        tables = f"{self._table(BATCHES, rows)}\n\n{self._table(LIMITS, compared)}"
        return tables + self._plain("\n\n" + self._prose(2, f"Holds for: {conditions}"))

    def _row(self, record: Record) -> str:
        note = notes(record)[:1]
        variant = record.requested.variant
        special = (
            *((variant,) if variant != "default" else ()),
            *((f"batch {record.requested.batch_size}",) if record.requested.batch_size > 1 else ()),
            *((chosen(record.requested),) if record.requested.choices else ()),
        )
        cells = (
            _card(record),
            lm_size(record.lm),
            f"{record.effective.duration_s:g}s",
            self._status(record),
            _peak(record.peak_bytes),
            *((NONE if record.wall_s is None else f"{record.wall_s:.2f}s",) if self._predicted else ()),
            ": ".join((*((", ".join(special),) if special else ()), *note)),
        )
        return self._place(self._tiers, cells)

    def _wide_row(self, record: Record) -> str:
        reached = (record.phase_reached or "").partition("/")[0]
        loaded = record.status == "ok" or reached not in ("", *LOADING)
        ran = record.status != "skip"
        cells = (
            _card(record),
            record.tier,
            record.requested.variant,
            "Y" if record.lm else "N",
            lm_size(record.lm),
            record.environment.get("lm_backend") or record.lm_backend or NONE,
            _offload(record),
            _quantization(record.quantization),
            str(record.effective.batch_size),
            ("OK" if loaded else "FAIL") if ran else NONE,
            ("OK" if record.status == "ok" else "FAIL") if loaded and ran else NONE,
            NONE if record.wall_s is None else f"{'~' if self._predicted else ''}{record.wall_s:.2f}",
            NONE if record.peak_bytes is None else f"{record.peak_bytes / GIB:.2f}",
            self._status(record),
            record.cap.kind if record.cap else NONE,
            "; ".join(filter(None, (chosen(record.requested), *notes(record)))),
        )
        return self._place(WIDE, cells)

    def _status(self, record: Record) -> str:
        word = label(record)
        if self._ascii:
            return word if word in MARKS else "FAIL"
        return f"{MARKS.get(word, FAILED_MARK)} {word}"

    def _table(self, layout: Layout, rows: Sequence[tuple[str, ...]]) -> str:
        return "\n".join([self._head(layout), *(self._place(layout, row) for row in rows)])

    def _head(self, layout: Layout) -> str:
        rules = "=" * min(100, self._width), ("  " + "─" * layout.rule)[: self._width]
        title = f"{layout.title} (predicted)" if self._predicted else layout.title
        return self._plain("\n".join([title, rules[0], self._place(layout, layout.heads), rules[1]]))

    def _place(self, layout: Layout, cells: Iterable[str]) -> str:
        """Put each cell at its column, at least one space after the one before; wrap the last."""
        line, last, (*cells, note) = "", layout.columns[-1], map(harmless, cells)
        room = self._width - last
        below = room < min(LEAST_NOTES, cell_len(note))
        lines = wrapped(note, max(self._width - BELOW if below else room, LEAST_NOTES))
        first, more = ("", lines) if below else (lines[0], lines[1:])
        for column, cell in zip(layout.columns, (*cells, first), strict=True):
            gap = column - cell_len(line)
            line += " " * (gap if gap > 0 or not line else 1) + cell
        indent = " " * (BELOW if below else last)
        return self._plain("\n".join([line.rstrip(), *(indent + rest for rest in more)]))

    def _prose(self, indent: int, text: str) -> str:
        """A line of prose, which goes on below itself."""
        first, *more = wrapped(text, max(self._width - indent - 2, LEAST_NOTES))
        return "\n".join([" " * indent + first, *(" " * (indent + 2) + rest for rest in more)])

    def _plain(self, text: str) -> str:
        if not self._ascii:
            return text
        return text.encode("ascii", PLAINLY).decode()


def _caps(records: Sequence[Record]) -> list[str]:
    ran = (r for r in records if r.cap and not r.requested.card)
    kinds = sorted({(r.device, r.cap.kind, r.cap.verified, r.peak_source) for r in ran if r.cap}, key=str)
    stands = "; a simulated card, not a measured one"
    return _predictions(records) + [
        f"cap on {device}: {kind} ({'verified' if verified else 'not verified'}); "
        f"peak: {source or 'not measured'}" + (stands if device == "cpu" else "")
        for device, kind, verified, source in kinds
    ]


def _predictions(records: Sequence[Record]) -> list[str]:
    """What the predicted ones rest on, and what they leave out."""
    bases = predicted_on(records)
    if not bases:
        return []
    simplified = ", ".join(sorted({subject_of(record.requested).simplified for record in records}))
    return [f"{basis}: {', '.join(filter(None, (PREDICTED_AS, simplified)))}" for basis in bases]


def _plan_cells(plan: Plan) -> tuple[str, ...]:
    case, settings = plan.effective, plan.settings
    return (
        cards.of_size(case.tier_gb),
        case.variant,
        lm_size(settings.lm),
        f"{case.duration_s:g}s",
        str(case.batch_size),
        str(case.steps),
        _offload(settings),
        _quantization(settings.quantization),
        "Y" if settings.compile else "N",
        "Y" if settings.graphs else "N",
        plan.cap_kind,
        "; ".join(filter(None, (chosen(case), *_plan_notes(plan)))),
    )


def _narrow(cells: tuple[str, ...]) -> tuple[str, ...]:
    """`cells` of PLANS in columns of NARROW_PLANS."""
    *first, compiled, graphs, cap, note = cells
    switches = ("compiled" if compiled == "Y" else "", "steps as graphs" if graphs == "Y" else "")
    return *first, "; ".join(filter(None, (*switches, cap, note)))


def _plan_notes(plan: Plan) -> tuple[str, ...]:
    return (f"SKIP {plan.skip}",) if plan.skip else (*map(str, plan.adjustments), *plan.notes)


def _findings(minimum: Minimum) -> list[str]:
    """What the analysis rests on, a line per fact."""
    facts = []
    if minimum.record:
        bound = (
            f"at most {_card(minimum.record)}, {minimum.basis}" if minimum.basis else f"minimum: {minimum}"
        )
        facts.append(f"{bound}; peak {_peak(minimum.record.peak_bytes)}")
    if failed := minimum.last_failure:
        facts.append(f"last failure: {_card(failed)}: {failed.reason or failed.status}")
    if minimum.offending:
        shown = ", ".join(f"{_card(record)} {record.status}" for record in minimum.offending)
        facts.append(f"non-monotonic: {shown}, though a smaller card passed")
    facts += [f"unknown: {_card(record)} {record.status}: {record.reason}" for record in minimum.unknown]
    return facts or ["not tested"]


def _ladder_cells(ladder: Ladder | None) -> tuple[str, str]:
    return ("N/A", NONE) if ladder is None else (str(ladder), _peak(ladder.peak_bytes))


def _offload(of: Record | Settings) -> str:
    return "all" if of.offload_dit_to_cpu else "models" if of.offload_to_cpu else "off"


def _quantization(name: str | None) -> str:
    return name.partition("_")[0] if name else NONE


def _card(record: Record) -> str:
    return cards.of_size(record.requested.tier_gb)


def _peak(peak_bytes: int | None) -> str:
    return NONE if peak_bytes is None else f"{peak_bytes / GIB:.1f}GB"
