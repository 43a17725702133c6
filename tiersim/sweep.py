"""Which cases a run consists of: tiers, variants, language model, batches; each configuration once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from acestep.gpu_config import tier_for
from harness.accelerators import snap
from tiersim.case import Case, Plan, Variant, resolve
from tiersim.record import Record


def has_lm(tier_gb: float) -> bool:
    """Whether a card of that size has room for a language model."""
    return bool(tier_for(snap(tier_gb)).lm_sizes)


def cases(
    base: Case, tiers_gb: Iterable[float], *, with_lm: bool, variants: Sequence[Variant], repeats: int = 1
) -> list[Case]:
    """The cases of a tier test, ascending. `with_lm`: plan with a language model where the tier has one."""
    return [
        replace(base, tier_gb=size, variant=variant, lm=with_lm and has_lm(size), repeat=repeat)
        for size in sorted(set(tiers_gb))
        for variant in variants
        for repeat in range(repeats)
    ]


def unique(asked: Iterable[Case]) -> list[tuple[Case, Plan]]:
    """The cases without those that would run as an earlier one does, each with its plan."""
    plans: dict[str, tuple[Case, Plan]] = {}
    for case in asked:
        plan = resolve(case)
        plans.setdefault(plan.key, (case, plan))
    return list(plans.values())


def rungs(
    base: Case, tiers_gb: Iterable[float], batches: Iterable[int], repeats: int = 1
) -> list[list[Case]]:
    """Per batch size every card, without and with its language model, as far as it has room for one.

    The tiers' limits are off: they are what is tested.
    """
    cards = [(size, lm) for size in sorted(set(tiers_gb)) for lm in (False, True) if has_lm(size) or not lm]
    return [
        [
            replace(base, tier_gb=size, lm=lm, batch_size=batch, no_limits=True, repeat=repeat)
            for size, lm in cards
            for repeat in range(repeats)
        ]
        for batch in sorted(set(batches))
    ]


def climb(rungs: Iterable[Sequence[Case]], run: Callable[[Sequence[Case]], list[Record]]) -> list[Record]:
    """Run rung after rung; a card that did not pass one takes no part in the next.

    All cards climb a rung together, so that a rung can be spread over devices.
    """
    records: list[Record] = []
    fell: set[tuple[float, bool]] = set()
    for rung in rungs:
        done = run([case for case in rung if (case.tier_gb, case.lm) not in fell])
        records += done
        fell |= {(r.requested.tier_gb, r.requested.lm) for r in done if r.status != "ok"}
    return records
