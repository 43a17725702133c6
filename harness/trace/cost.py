"""Predicted cost of a generation on a card, as records. No torch import here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from harness.adjustments import Fallback
from harness.cards import Card
from harness.trace.expected import Kinds, Range
from harness.trace.stage_costs import Sample, Work

LOADING = "load"  # the stage before the clock starts
FIRST = "cuda:0"  # the card that is not beside another


@dataclass(frozen=True, slots=True)
class StageCost:
    """One stage. `seconds`: a roofline, of which `bound_by` is the most: compute, memory, launches,
    kernels or link.

    `kinds`: the same seconds by kind of kernel and the resource that bounds it. `expected_s`: how long it may
    take, from and to. `sites`: bytes alive when the stage had most allocated, by the function of the engine
    that asked for them. `reads`, `copies`: how often something went to the host, and to the card, by the
    operator and its line.
    """

    stage: str
    work: Work
    seconds: float
    bound_by: str
    kinds: Kinds
    expected_s: Range
    peak_live_bytes: int
    peak_allocated_bytes: int
    peak_reserved_bytes: int
    sites: Mapping[str, int]
    reads: Mapping[str, int]
    copies: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Where the card was too small: stage, operator of torch, function of the engine, and what was wanted.

    `segment_bytes`: what the allocator then asked the card for, of which `free_bytes` were left.
    """

    stage: str
    operator: str
    site: str
    wanted_bytes: int
    segment_bytes: int
    free_bytes: int

    def __str__(self) -> str:
        return f"{self.stage}: {self.operator} in {self.site} wanted {self.wanted_bytes:,} bytes"


@dataclass(frozen=True, slots=True)
class Cost:
    """A prediction, and what it rests on.

    `out_of_memory`: where it ended, None if it did not. `refusals`: every time the card was too small, those
    the engine recovered from too. `fallbacks`: what it did about them. `counts`: of the result, empty without
    one. `environment`: torch, the `dtype`, the `islands` of fp32 and the quantizations that were loaded, what
    stands in for what could not be traced, `calibration` of what lies below PyTorch, or "uncalibrated", and
    what `expected` times rest on. Memory is the allocator's; the card's `context_bytes` come on top.

    `beside`: the books of other cards that parts are on, by device; each has what its own card does, and ends
    nowhere where another card was too small. Cards take turns: seconds of all add up.
    """

    card: Card
    cap_bytes: int
    plan: Mapping[str, Any]
    environment: Mapping[str, Any]
    stages: tuple[StageCost, ...]
    samples: tuple[Sample, ...]
    out_of_memory: Refusal | None
    refusals: tuple[Refusal, ...]
    fallbacks: tuple[Fallback, ...]
    counts: Mapping[str, int | float]
    retries: int
    beside: Mapping[str, Cost] = field(default_factory=dict)

    @property
    def books(self) -> dict[str, Cost]:
        """Of every card, by device: this one is the first."""
        return {FIRST: self, **self.beside}

    @property
    def fits(self) -> bool:
        return self.out_of_memory is None and all(book.fits for book in self.beside.values())

    @property
    def ended(self) -> Refusal | None:
        """Where it ended, on whichever card."""
        return next((book.out_of_memory for book in self.books.values() if book.out_of_memory), None)

    @property
    def stages_s(self) -> dict[str, float]:
        """Seconds of each stage of the generation itself, of all cards together."""
        seconds: dict[str, float] = {}
        for book in self.books.values():
            for stage in book.running:
                seconds[stage.stage] = seconds.get(stage.stage, 0.0) + stage.seconds
        return seconds

    @property
    def peak_live_bytes(self) -> int:
        return max((stage.peak_live_bytes for stage in self.stages), default=0)

    @property
    def peak_allocated_bytes(self) -> int:
        return max((stage.peak_allocated_bytes for stage in self.stages), default=0)

    @property
    def peak_reserved_bytes(self) -> int:
        return max((stage.peak_reserved_bytes for stage in self.stages), default=0)

    @property
    def peak_bytes(self) -> int:
        """Of the card, context included: what a monitor would show."""
        return self.peak_reserved_bytes + self.card.context_bytes

    @property
    def running(self) -> tuple[StageCost, ...]:
        """The stages of the generation itself, without loading."""
        return tuple(stage for stage in self.stages if stage.stage != LOADING)

    @property
    def seconds(self) -> float:
        """The roofline of the generation itself."""
        return sum(stage.seconds for stage in self.running)

    @property
    def expected_s(self) -> Range:
        """How long the generation itself may take, from and to."""
        ranges = [stage.expected_s for stage in self.running]
        return Range(sum(each.low for each in ranges), sum(each.high for each in ranges))

    @property
    def work(self) -> Work:
        """Of the generation itself."""
        return Work(*map(sum, zip(*(stage.work for stage in self.running), strict=True)))

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values; the same bytes for the same engine, card and torch."""
        stages = [asdict(stage) | {"work": stage.work._asdict()} for stage in self.stages]
        samples = [sample._asdict() for sample in self.samples]
        totals = {
            "fits": self.fits,
            "seconds": self.seconds,
            "expected_s": self.expected_s,
            "work": self.work._asdict() if self.running else None,
            "peak_bytes": self.peak_bytes,
            "peak_live_bytes": self.peak_live_bytes,
            "peak_allocated_bytes": self.peak_allocated_bytes,
            "peak_reserved_bytes": self.peak_reserved_bytes,
        }
        own = asdict(replace(self, beside={})) | {"stages": stages, "samples": samples}
        del own["beside"]
        beside = {device: book.as_dict() for device, book in self.beside.items()}
        return {"predicted": True} | totals | own | ({"beside": beside} if beside else {})
