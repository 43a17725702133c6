"""Which cases a run consists of: tiers, variants, language model, batches; each configuration once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from tiersim.case import Case, Plan, Variant, subject_of
from tiersim.record import Record


def cases(
    base: Case, tiers_gb: Iterable[float], *, with_lm: bool, variants: Sequence[Variant], repeats: int = 1
) -> list[Case]:
    """The cases of a tier test, ascending. `with_lm`: plan with a language model where the tier has one."""
    return [
        replace(base, tier_gb=size, variant=variant, lm=with_lm and _has_lm(base, size), repeat=repeat)
        for size in sorted(set(tiers_gb))
        for variant in variants
        for repeat in range(repeats)
    ]


def by_key(plans: Iterable[Plan]) -> dict[str, Plan]:
    """The plans by what they run: of those that run the same, the first."""
    distinct: dict[str, Plan] = {}
    for plan in plans:
        distinct.setdefault(plan.key, plan)
    return distinct


def rungs(
    base: Case, tiers_gb: Iterable[float], batches: Iterable[int], repeats: int = 1
) -> list[list[Case]]:
    """Per batch size every card, without and with its language model, as far as it has room for one.

    The tiers' limits are off: they are what is tested.
    """
    sizes = sorted(set(tiers_gb))
    cards = [(size, lm) for size in sizes for lm in (False, True) if not lm or _has_lm(base, size)]
    return [
        [
            replace(base, tier_gb=size, lm=lm, batch_size=batch, no_limits=True, repeat=repeat)
            for size, lm in cards
            for repeat in range(repeats)
        ]
        for batch in sorted(set(batches))
    ]


def climb(rungs: Iterable[Sequence[Plan]], run: Callable[[Sequence[Plan]], list[Record]]) -> list[Record]:
    """Run rung after rung; a card that did not pass one takes no part in the next.

    All cards climb a rung together, so that a rung can be spread over devices.
    """
    records: list[Record] = []
    fallen: set[tuple[float, bool]] = set()
    for rung in rungs:
        of_rung = run([plan for plan in rung if _card(plan.requested) not in fallen])
        records += of_rung
        fallen |= {_card(record.requested) for record in of_rung if record.status != "ok"}
    return records


def _has_lm(base: Case, tier_gb: float) -> bool:
    return subject_of(base).tier(replace(base, tier_gb=tier_gb)).has_lm


def _card(case: Case) -> tuple[float, bool]:
    return case.tier_gb, case.lm
