"""Published figures of ACE-Step on cards, held against what is predicted for them.

    python -m acestep.costs --anchors

`docs/anchors.toml` has the figures, and says what is what. None can be below its floor; and each of those
that are comparable with eager PyTorch should lie where the others, without it, expect it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta

from acestep.weights.layout import DEFAULT_DIT
from harness import cards
from harness.errors import BenchError, UsageError
from harness.reading import read_text
from harness.text import harmless
from harness.trace import expected
from harness.trace.expected import Kinds, Range

FILE = Path(__file__).parents[2] / "docs" / "anchors.toml"
TOTAL = "total"  # all stages but loading
CODES_PER_S = 5
RATES = {"bf16": (1.0, 1.0), "fp16": (2.0, 1.0), "int8": (4.0, 0.5)}  # of computing, and the size of a number

Text = Annotated[str, Meta(min_length=1, max_length=110, pattern="^[ -~]*$")]
Name = Annotated[str, Meta(min_length=1, max_length=22, pattern="^[ -~]*$")]
Seconds = Annotated[float, Meta(gt=0, le=1e5)]


class Anchor(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One figure: see the head of `docs/anchors.toml`."""

    name: Name
    card: Name
    stage: Literal["diffuse", "vae_decode", "lm_decode", "total"]
    ours: Literal["eager", "compiled", "none"]
    by: Text
    dit: Text = DEFAULT_DIT
    lm: Text | None = None
    codes: Annotated[int, Meta(ge=50, le=3000)] | None = None
    duration_s: Annotated[float, Meta(ge=10, le=600)]
    batch: Annotated[int, Meta(ge=1, le=64)]
    steps: Annotated[int, Meta(ge=1, le=200)] = 1
    dtype: Literal["bf16", "fp16", "int8"]
    seconds: Seconds | None = None
    at_most_s: Seconds | None = None
    roofline_s: Seconds | None = None
    source: Text
    date: Annotated[str, Meta(pattern="^20[0-9]{2}-(0[1-9]|1[0-2])(-(0[1-9]|[12][0-9]|3[01]))?$")]
    remark: Text | None = None
    missed: Text | None = None

    @property
    def published(self) -> Range:
        """From and to; from 0 where it is only said to be less."""
        high = self.seconds if self.at_most_s is None else self.at_most_s
        return Range(self.seconds or 0.0, high or 0.0)

    @property
    def bound_only(self) -> bool:
        """Whether it is said to be less than something, and no more."""
        return self.seconds is None

    @property
    def comparable(self) -> bool:
        """Whether it says how fast eager PyTorch is."""
        return self.ours == "eager" and not self.bound_only

    @property
    def efficiency(self) -> float:
        """The share of its roofline that a comparable figure reaches; of a range, in its middle."""
        assert self.roofline_s is not None
        return self.roofline_s / math.sqrt(self.published.low * self.published.high)

    def contradiction(self) -> str | None:
        """What fields that are right by themselves are not together, or None."""
        if self.seconds is None and self.at_most_s is None:
            return "seconds: is missing, and so is at_most_s"
        if self.published.low > self.published.high:
            return f"at_most_s: {self.at_most_s:g} is less than seconds, {self.seconds:g}"
        if (self.ours == "eager") != (self.roofline_s is not None):
            return "roofline_s: belongs to a figure of eager kernels, and each of those has it"
        if self.stage == "lm_decode" and self.lm is None:
            return "lm: which one decodes is missing"
        if (self.lm is None) != (self.codes is None):
            return "codes: belongs to an lm, and an lm has it"
        if self.codes is not None and self.codes != CODES_PER_S * self.duration_s:
            return f"codes: {self.codes} are not those of {self.duration_s:g} s, {CODES_PER_S} a second"
        if self.missed is not None and not self.comparable:
            return "missed: only a comparable figure can be"
        return None


class Compared(NamedTuple):
    """A figure and what is predicted for it.

    `floor_s`: what it cannot be below. `expected_s`: what the other figures make of its roofline; None where
    it is not of eager kernels. `ours_s`: the roofline of our own eager kernels.
    """

    anchor: Anchor
    floor_s: float
    expected_s: Range | None
    ours_s: float

    @property
    def below(self) -> bool:
        """Whether it is faster than can be."""
        return self.anchor.published.high < self.floor_s

    @property
    def within(self) -> bool | None:
        """Whether it lies where the others expect it; None where that says nothing."""
        if not self.anchor.comparable or self.expected_s is None:
            return None
        published = self.anchor.published
        return self.expected_s.low <= published.low and published.high <= self.expected_s.high


def read(path: Path = FILE) -> tuple[Anchor, ...]:
    """The figures of a file. Raises UsageError in one line, file, figure, field and what is allowed, or
    MissingPrerequisite where the file is not there."""
    where = repr(str(path.name))
    try:
        rows = msgspec.toml.decode(_text(path))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where}: not TOML: {harmless(str(error))}") from None
    anchors = rows.get("anchor")
    if [*rows] != ["anchor"] or not isinstance(anchors, list):
        raise UsageError(f"{where}: has to be tables [[anchor]] and nothing else")
    figures = tuple(_anchor(where, number, row) for number, row in enumerate(anchors, 1))
    names = [(figure.card, figure.name) for figure in figures]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"{where}: name: {' '.join(twice)} is there twice; keep one of them")
    return figures


def _text(path: Path) -> str:
    try:
        return read_text(path)
    except BenchError as error:
        raise type(error)(f"{path.name!r}: {error}") from None


def _anchor(where: str, number: int, row: Any) -> Anchor:
    name = row.get("name") if isinstance(row, dict) else None
    which = f"{where}: anchor {number}" + (f", {harmless(name[:40])}" if isinstance(name, str) else "")
    try:
        anchor = msgspec.convert(row, Anchor)
        cards.find(anchor.card)
    except msgspec.ValidationError as error:
        expected_value, _, place = str(error).partition(" - at `$.")
        field = f"{place.strip('`')}: " if place else ""
        raise UsageError(f"{which}: {harmless(field + expected_value)}") from None
    except UsageError as error:
        raise UsageError(f"{which}: {error}") from None
    if contradiction := anchor.contradiction():
        raise UsageError(f"{which}: {contradiction}")
    return anchor


def compared(anchors: Sequence[Anchor], kinds_of: Callable[[Anchor], Kinds]) -> tuple[Compared, ...]:
    """Each figure beside its prediction; `kinds_of` has our eager roofline, by kind of kernel."""
    return tuple(_compared(anchor, anchors, kinds_of(anchor)) for anchor in anchors)


def _compared(anchor: Anchor, anchors: Sequence[Anchor], kinds: Kinds) -> Compared:
    ours_s = expected.roofline_s(kinds)
    if anchor.roofline_s is None:
        return Compared(anchor, expected.ideal_s(kinds, *RATES[anchor.dtype]), None, ours_s)
    return Compared(anchor, anchor.roofline_s, expected_s(anchor, anchors), ours_s)


def expected_s(anchor: Anchor, anchors: Sequence[Anchor]) -> Range:
    """What the other comparable figures make of the roofline of one of eager kernels."""
    assert anchor.roofline_s is not None
    low, high = expected.fitted(
        [other.efficiency for other in anchors if other.comparable and other != anchor]
    )
    return Range(anchor.roofline_s / high, anchor.roofline_s / low)


def refitted(anchors: Sequence[Anchor]) -> Range:
    """The efficiency that all comparable figures have in common, rounded outwards to hundredths."""
    low, high = expected.fitted([anchor.efficiency for anchor in anchors if anchor.comparable])
    return Range(math.floor(low * 100) / 100, math.ceil(high * 100) / 100)
