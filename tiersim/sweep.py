"""Which cases a run consists of: tiers, variants, language model, batches; each configuration once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from acestep.gpu_config import snap, tier_for
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


def climb(
    base: Case,
    tiers_gb: Iterable[float],
    run: Callable[[Sequence[Case]], list[Record]],
    batches: Sequence[int],
    repeats: int = 1,
) -> list[Record]:
    """Grow the batch of every card, without and with its language model, until it no longer passes.

    The tiers' limits are off: they are what is tested. All cards climb a rung together, so that a rung can
    be spread over devices.
    """
    climbing = [
        (size, lm) for size in sorted(set(tiers_gb)) for lm in (False, True) if has_lm(size) or not lm
    ]
    records: list[Record] = []
    for batch in batches:
        rung = [
            replace(base, tier_gb=size, lm=lm, batch_size=batch, no_limits=True, repeat=repeat)
            for size, lm in climbing
            for repeat in range(repeats)
        ]
        done = run(rung)
        records += done
        fell = {(r.requested.tier_gb, r.requested.lm) for r in done if r.status != "ok"}
        climbing = [card for card in climbing if card not in fell]
    return records
