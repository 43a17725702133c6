"""What a subject offers to be tested on cards of each size: the part of its protocol that tier tests use.

subject.tier(case)                                       # what is allowed on a card of the case's size
plan = subject.case_plan(case, target)                   # a case as it will run there; no torch
subject.load(plan.setup, budget=budget).run(plan)        # the plan as it is: nothing is decided again
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, cast

from harness import registry
from harness.accelerators import Accelerator
from harness.errors import UsageError
from harness.subject import DEFAULT_SEED, Subject

STEPS = 8  # of an iterative sampler, where nobody says how many
LENGTHS_S = (30.0, 60.0, 120.0, 180.0, 240.0, 360.0, 480.0, 600.0)  # that are tried for the longest song
BATCHES = (1, 2, 4, 8, 16, 32, 64)  # for the largest batch; the last is the most of a request
TINY = "synthetic-tiny"  # the source of weights, of every subject, that leaves room on any card
StandIn = Literal["virtual", "predicted"]
Value = str | float
Choices = Mapping[str, Value]  # what a case chooses of its subject, by the names of `Option`


@dataclass(frozen=True, slots=True)
class Tier:
    """What a subject allows on cards of one size, without and with a language model.

    `promised`: whether a case within these limits is to fit, with what it chooses.
    """

    name: str
    class_gb: float  # the nominal size
    has_lm: bool
    max_duration_s: float
    max_duration_with_lm_s: float
    max_batch: int
    max_batch_with_lm: int
    promised: bool = True


@dataclass(frozen=True, slots=True)
class Option:
    """Something of a subject that a case may choose, and the flag that does.

    `flags`: its spellings. `read`: the value of a word, as argparse has it of a type. `allowed`: all values,
    where they can be listed. `several`: whether several values are as many cases. `of_lm`: whether it has a
    use with a language model only. `compared`: its values in a fit matrix, where no flag says any.
    """

    name: str
    flags: tuple[str, ...]
    help: str
    metavar: str = "NAME"
    read: Callable[[str], Value] = str
    allowed: tuple[str, ...] | None = None
    several: bool = True
    of_lm: bool = False
    compared: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Usual:
    """What of a case holds where no flag says it."""

    preset: str
    duration_s: float
    batch_size: int = 1
    steps: int = STEPS
    seed: int = DEFAULT_SEED


@dataclass(frozen=True, slots=True)
class Supported:
    """What predictions support of a tier, with the `choices` of its cases; None where nothing is.

    `variant`: what of the tier's settings can be left out. The limits hold with that, length and items
    together.
    """

    tier: str
    source: str | None
    choices: Choices
    variant: str | None
    max_duration_s: float | None
    max_batch: int | None
    max_duration_with_lm_s: float | None
    max_batch_with_lm: int | None


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
    def tier_gb(self) -> float: ...
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
    @property
    def choices(self) -> tuple[tuple[str, Value], ...]: ...  # by name, each once


class TierSubject(Subject, Protocol):
    """A subject that can be tested tier by tier.

    Its plans travel as JSON: `plan_type` is a frozen dataclass of plain fields, and checks what it is made
    of. Their `as_dict()` has `duration_s` and `batch_size`, and of `dit`, `lm`, `lm_backend`,
    `offload_to_cpu`, `offload_dit_to_cpu`, `quantization`, `lm_quantization`, `compile`, `graphs` and `notes`
    those that it knows, and `place` where parts have cards of their own: devices by part.
    """

    plan_type: type
    lm_backends: Sequence[str]  # of a language model; "auto" is one
    presets: Sequence[str]  # `harness.subject.DEFAULT_PRESET` is one
    options: Sequence[Option]  # what a case may choose besides
    simplified: str  # what a card that is not here runs otherwise, to be said of predictions; may be empty

    def tested_gb(self, choices: Choices) -> Sequence[float]:
        """Sizes of cards to test where none is named."""
        ...

    def usual(self, choices: Choices, preset: str | None) -> Usual:
        """What of a case holds where no flag says it. Raises as `case_request` does."""
        ...

    def tier(self, case: Case) -> Tier:
        """The tier of the case's card."""
        ...

    def case_request(self, case: Case) -> Any:
        """The request of a case, with nothing left open. Raises UsageError where no card can run it, and
        MissingPrerequisite for a file that is not there."""
        ...

    def case_plan(self, case: Case, target: Target) -> Any:
        """A case as it will run on a target. Raises UsageError or MissingPrerequisite."""
        ...

    def not_tried(self, case: Case, target: Target) -> str | None:
        """Why running the case would prove nothing, or None."""
        ...

    def identity(self, case: Case, plan: Any) -> Mapping[str, Any]:
        """What runs, as plain JSON values, and nothing of how it was asked for."""
        ...

    def patch(self, supported: Sequence[Supported]) -> str:
        """The subject's table with what was found, as a unified diff; empty where that changes nothing."""
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
