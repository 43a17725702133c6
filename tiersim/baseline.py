"""Comparison with an earlier run: cases that no longer pass, and cases that need more memory.

Cases are matched by what ran, whatever the code. Times are left out: a capped process runs once and cold,
and how fast the engine is asks for other measurements (`make gate`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from harness import cards
from harness.errors import MissingPrerequisite, UsageError
from harness.records import writer as output
from harness.records.card import TierResult
from harness.records.schema import Item
from tiersim.case import PREDICTED
from tiersim.notes import with_lm

MIB = 2**20
MORE_SHARE = 0.03
MORE_BYTES = 64 * MIB


@dataclass(frozen=True, slots=True)
class Change:
    """One case that is not as it was."""

    worse: bool
    text: str

    def __str__(self) -> str:
        return f"{'worse' if self.worse else 'changed'}  {self.text}"


def load(path: Path, keys: Collection[str], *, predicted: bool = False) -> list[Item]:
    """Items of a results file, or of a folder that has one, to compare a run of `keys` with.

    Raises MissingPrerequisite when there is none. UsageError when it was measured and the run is `predicted`,
    or the other way round: neither says of the other what became worse; and when it has none of the keys.
    """
    try:
        items = output.load(path / "results.json" if path.is_dir() else path)[1]
    except MissingPrerequisite as error:
        raise MissingPrerequisite(f"baseline: {error}") from None
    kinds = {item.card.cap == PREDICTED for item in items if item.card and item.card.cap}
    if kinds == {not predicted}:
        was, now = ("measured", "predicted") if predicted else (PREDICTED, "measured")
        flag = "--run" if predicted else "--predict"
        raise UsageError(
            f"baseline: {str(path)!r} was {was}, this would be {now}; use {flag}, or name another"
        )
    if not any(item.key in keys for item in items):
        raise UsageError(f"baseline: {str(path)!r} has none of these cases; use its flags, or name another")
    return items


def compare(now: Iterable[Item], before: Iterable[Item]) -> list[Change]:
    """What changed, the worse first. Skipped cases and cases of one side only are not compared."""
    earlier = {item.key: item for item in before}
    pairs = [(item, earlier[item.key]) for item in now if item.key in earlier]
    changes = [change for item, was in pairs if (change := _change(item, was))]
    return sorted(changes, key=lambda change: not change.worse)


def _change(item: Item, was: Item) -> Change | None:
    if item.card is None or was.card is None or "skip" in (item.status, was.status):
        return None
    name = _name(item, item.card)
    if item.status != was.status:
        why = f": {item.error}" if item.error else ""
        return Change(was.status == "ok", f"{name}: {was.status} before, {item.status} now{why}")
    used, used_before = item.card.peak_bytes, was.card.peak_bytes
    if item.status != "ok" or used is None or used_before is None:
        return None
    more = used - used_before
    if abs(more) <= min(MORE_SHARE * used_before, MORE_BYTES):
        return None
    share = f" ({more / used_before:+.1%})" if used_before else ""
    return Change(more > 0, f"{name}: peak {used_before / MIB:,.1f} MiB before, {used / MIB:,.1f} now{share}")


def _name(item: Item, card: TierResult) -> str:
    lm = item.effective.get("lm")
    lm = with_lm(None if lm is None else str(lm))
    choices = "".join(f", {name} {value}" for name, value in item.requested.get("choices", {}).items())
    items = f"batch {item.effective.get('batch_size')}"
    return f"{cards.of_size(card.tier_gb)} {card.variant}, {lm}, {items}{choices}"
