"""What a subject offers to be tested on cards of each size: the part of its protocol that tier tests use.

subject.tier(8)                                          # what is allowed on a card of 8 GB
plan = subject.case_plan(case, target)                   # a case as it will run there; no torch
subject.load(plan.setup, budget=budget).run(plan)        # the plan as it is: nothing is decided again
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, cast

from harness import registry
from harness.accelerators import Accelerator
from harness.errors import UsageError
from harness.subject import Subject

TINY = "synthetic-tiny"  # the source of weights, of every subject, that leaves room on any card
StandIn = Literal["virtual", "predicted"]


@dataclass(frozen=True, slots=True)
class Tier:
    """What a subject allows on cards of one size, without and with a language model."""

    name: str
    class_gb: float  # the nominal size
    has_lm: bool
    max_duration_s: float
    max_duration_with_lm_s: float
    max_batch: int
    max_batch_with_lm: int


@dataclass(frozen=True, slots=True)
class Size:
    """Length and items of a case where no flag says them."""

    duration_s: float
    batch_size: int


@dataclass(frozen=True, slots=True)
class Target:
    """Where a case is to run.

    `accelerator`: the card to plan for, of the tier's memory. `device`: what the engine runs on, as torch
    names it. `stand_in`: what takes the card's place: host memory, or a trace of what nothing runs.
    """

    accelerator: Accelerator
    device: str
    stand_in: StandIn | None = None


class Case(Protocol):
    """One generation of a tier test: what of `tiersim.Case` a subject plans with."""

    @property
    def source(self) -> str | None: ...
    @property
    def duration_s(self) -> float: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def steps(self) -> int: ...
    @property
    def seed(self) -> int: ...
    @property
    def lm(self) -> bool: ...
    @property
    def lm_backend(self) -> str: ...
    @property
    def variant(self) -> str: ...  # default, no-quant or no-offload
    @property
    def preset(self) -> str: ...  # what holds where the case says nothing
    @property
    def skip_compile(self) -> bool: ...
    @property
    def no_limits(self) -> bool: ...


class TierSubject(Subject, Protocol):
    """A subject that can be tested tier by tier.

    Its plans travel as JSON: `plan_type` is a frozen dataclass of plain fields, and checks what it is made
    of. Their `as_dict()` has `duration_s` and `batch_size`, and of `dit`, `lm`, `lm_backend`,
    `offload_to_cpu`, `offload_dit_to_cpu`, `quantization`, `compile`, `graphs` and `notes` those that it
    knows.
    """

    plan_type: type
    tested_gb: Sequence[float]  # sizes of cards to test where none is named
    lm_backends: Sequence[str]  # of a language model; "auto" is one
    presets: Mapping[str, Size]  # by name; `harness.subject.DEFAULT_PRESET` is one
    simplified: str  # what a card that is not here runs otherwise, to be said of predictions; may be empty

    def tier(self, size_gb: float) -> Tier:
        """The tier of a card of `size_gb`."""
        ...

    def case_request(self, case: Case) -> Any:
        """The request of a case, with nothing left open. Raises UsageError where no card can run it."""
        ...

    def case_plan(self, case: Case, target: Target) -> Any:
        """A case as it will run on a target. Raises UsageError or MissingPrerequisite."""
        ...

    def not_tried(self, case: Case, target: Target) -> str | None:
        """Why running the case would prove nothing, or None."""
        ...

    def identity(self, plan: Any) -> Mapping[str, Any]:
        """What runs, as plain JSON values, and nothing of how it was asked for."""
        ...

    def case_notes(self, record: Any) -> Sequence[str]:
        """What is worth knowing of a case that passed (`tiersim.Record`), the most urgent first."""
        ...


def tier_subject(name: str) -> TierSubject:
    """The subject `name`. Raises UsageError where there is none, or it has no tiers."""
    subject = registry.subject(name)
    if not hasattr(subject, "case_plan"):
        raise UsageError(f"subject: {name!r} has no tiers to test; use another")
    return cast(TierSubject, subject)
