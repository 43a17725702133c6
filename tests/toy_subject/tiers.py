"""The toy subject, tier by tier: what tier tests ask of it besides (`harness.tiers.TierSubject`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from harness.checks import within
from harness.subject import DEFAULT_PRESET
from harness.tiers import Case, Choices, Option, Supported, Target, Tier, Usual
from tests.toy_subject import LONGEST_S, Plan, Request, Toy

SMALL_GB, MOST_ITEMS = 8.0, 4


@dataclass(frozen=True)
class TieredToy(Toy):
    """Cards below 8 GB take one item, the others four."""

    name: str = "tests.toy_subject.tiers"
    plan_type: type = Plan
    lm_backends: tuple[str, ...] = ("auto",)
    presets: tuple[str, ...] = (DEFAULT_PRESET,)
    options: tuple[Option, ...] = ()
    simplified: str = ""

    def tested_gb(self, choices: Choices) -> tuple[float, ...]:
        return (4.0, SMALL_GB)

    def usual(self, choices: Choices, preset: str | None) -> Usual:
        return Usual(preset or DEFAULT_PRESET, 30.0)

    def tier(self, case: Case) -> Tier:
        size_gb = case.tier_gb
        small = size_gb < SMALL_GB
        items = 1 if small else MOST_ITEMS
        return Tier("small" if small else "large", size_gb, False, LONGEST_S, LONGEST_S, items, items)

    def case_request(self, case: Case) -> Request:
        within("batch_size", case.batch_size, 1, MOST_ITEMS, kind=int)
        return self.request(case.duration_s, case.batch_size, case.seed)

    def case_plan(self, case: Case, target: Target) -> Plan:
        setup = self.setup(case.source, device=target.device, accelerator=target.accelerator)
        return self.resolve(self.case_request(case), setup)

    def not_tried(self, case: Case, target: Target) -> str | None:
        return "nothing to take away" if case.variant == "no-offload" else None

    def identity(self, case: Case, plan: Plan) -> Mapping[str, Any]:
        return asdict(plan.request)

    def patch(self, supported: Sequence[Supported]) -> str:
        return "\n".join(f"{of.tier}: {of.max_duration_s:g} s, {of.max_batch} items" for of in supported)

    def case_notes(self, record: Any) -> tuple[str, ...]:
        return (f"{record.counts['frames']} frames",)


SUBJECT = TieredToy()
