"""Work and memory of a trace, summed by stage. No torch import here.

A kernel takes as long as the longest of its arithmetic, its traffic, its launch and the least that the card
needs for any; what crosses the link between host and card comes on top. A recorded step is one launch of many
kernels, a compiled region a few kernels of many operators. That is a roofline, not a bound: caches and
launches that run ahead of the card make it faster, all else slower. Time is in whole picoseconds: sums do not
depend on their order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import groupby, zip_longest
from typing import NamedTuple

from harness import spans
from harness.cards import Card

OUTSIDE = "other"
PS = 10**12
MOST_SAMPLES = 4096
RESOURCES = ("compute", "memory", "launches", "kernels", "link")
KINDS: tuple[str, ...] = ("matmul", "attention", "convolution", "pointwise")  # of kernels


class Work(NamedTuple):
    """Work of one operator. Bytes are of the card's memory, or of the link where they cross it.

    `launches` are the host's, `kernels` what the card runs, copies included: more where steps are recorded.
    `fp32_flop`: of `flop`, those at a card's rate of fp32 (`Card.rate`).
    """

    flop: int = 0
    read_bytes: int = 0
    written_bytes: int = 0
    launches: int = 0
    syncs: int = 0
    to_card_bytes: int = 0
    to_host_bytes: int = 0
    kernels: int = 0
    fp32_flop: int = 0

    kind = "pointwise"  # of kernel: what of a card it keeps busy, and how well

    @property
    def crosses(self) -> bool:
        """Whether something goes over the link between host and card."""
        return bool(self.syncs or self.to_card_bytes or self.to_host_bytes)


class Matmul(Work):
    """Of a product of matrices."""

    kind = "matmul"


class Attention(Work):
    """Of a fused attention kernel."""

    kind = "attention"


class Convolution(Work):
    """Of a convolution."""

    kind = "convolution"


class Sample(NamedTuple):
    """Memory at one moment of the estimated time."""

    t_ps: int
    stage: str
    allocated_bytes: int
    reserved_bytes: int


@dataclass
class Stage:
    """One stage's sums. `ps`: picoseconds by kind of kernel and the resource that bounds it. `flop`: by kind.

    `sites`: bytes alive at the peak of allocated memory, by the call site in the engine that allocated them.
    `reads`, `copies`: how often something went to the host, and to the card, by the operator and its line.
    """

    name: str
    work: list[int | Fraction] = field(default_factory=lambda: [0] * len(Work._fields))
    ps: dict[tuple[str, str], int | Fraction] = field(default_factory=dict)
    flop: dict[str, int | Fraction] = field(default_factory=dict)
    peak_live_bytes: int = 0
    peak_allocated_bytes: int = 0
    peak_reserved_bytes: int = 0
    sites: dict[str, int] = field(default_factory=dict)
    reads: Counter[str] = field(default_factory=Counter)
    copies: Counter[str] = field(default_factory=Counter)

    def total(self) -> Work:
        """Its work, summed."""
        return Work(*map(round, self.work))

    def bound_ps(self, resource: str) -> int | Fraction:
        """Picoseconds of the kernels that a resource bounds."""
        return sum((amount for (_, bound), amount in self.ps.items() if bound == resource), Fraction())

    def add_ps(self, kind: str, resource: str, amount: int | Fraction) -> None:
        """Add to the time that a resource bounds kernels of a kind."""
        if amount:
            self.ps[kind, resource] = self.ps.get((kind, resource), 0) + amount


class Clock:
    """The estimated time: of one card, or of several that take turns."""

    ps: int | Fraction = 0


class StageCosts:
    """Stages in the order they begin, as `spans` has them."""

    def __init__(self, card: Card):
        self.stages: dict[str, Stage] = {}
        self.samples: list[Sample] = []
        self._flop_per_s, self._fp32_flop_per_s = int(card.flop_per_s), int(card.fp32_flop_per_s)
        self._bytes_per_s = int(card.bytes_per_s)
        self._link_bytes_per_s = int(card.link_bytes_per_s)
        self._launch_ps = round(card.launch_s * PS)
        self._kernel_ps = round(card.kernel_s * PS)
        self._grain_bytes = card.memory_bytes // 400  # a smaller change of memory is not drawn
        self._durations: dict[Work, tuple[str, int, int]] = {}
        self.clock = Clock()

    def stage(self) -> Stage:
        """The stage that is running."""
        name = spans.stage() or OUTSIDE
        stage = self.stages.get(name)
        if stage is None:
            stage = self.stages[name] = Stage(name)
        return stage

    def charge(self, work: Work) -> None:
        """Add the work of an operator to the stage that is running."""
        stage = self.stage()
        for index, amount in enumerate(work):
            if amount:
                stage.work[index] += amount
        duration = self._durations.get(work)
        if duration is None:
            duration = self._durations[work] = self._duration(work)
        if work.flop:
            stage.flop[work.kind] = stage.flop.get(work.kind, 0) + work.flop
        bound, kernel_ps, link_ps = duration
        stage.add_ps(work.kind, bound, kernel_ps)
        stage.add_ps(work.kind, "link", link_ps)
        self.clock.ps += kernel_ps + link_ps

    def _duration(self, work: Work) -> tuple[str, int, int]:
        """What bounds a kernel, how long that takes, and how long its way over the link."""
        moved_bytes = work.read_bytes + work.written_bytes
        wide_ps = work.fp32_flop * PS // self._fp32_flop_per_s
        kernel_ps = {
            "compute": (work.flop - work.fp32_flop) * PS // self._flop_per_s + wide_ps,
            "memory": moved_bytes * PS // self._bytes_per_s,
            "launches": work.launches * self._launch_ps,
            "kernels": work.kernels * self._kernel_ps,
        }
        bound = max(kernel_ps, key=kernel_ps.__getitem__)
        crossed_bytes = work.to_card_bytes + work.to_host_bytes
        return bound, kernel_ps[bound], crossed_bytes * PS // self._link_bytes_per_s

    def memory(self, live: int, allocated: int, reserved: int) -> bool:
        """Note what is in use now; whether it is the most that the stage has allocated."""
        stage = self.stage()
        stage.peak_live_bytes = max(stage.peak_live_bytes, live)
        stage.peak_reserved_bytes = max(stage.peak_reserved_bytes, reserved)
        self._draw(stage, allocated, reserved)
        if allocated <= stage.peak_allocated_bytes:
            return False
        stage.peak_allocated_bytes = allocated
        return True

    @contextmanager
    def counting(self, times: int) -> Iterator[None]:
        """Inside, what is charged to the stage that is running counts so many times; once, where it fails."""
        stage = self.stage()
        work, ps, flop, clock_ps = stage.work, stage.ps, stage.flop, self.clock.ps
        reads, copies = stage.reads.copy(), stage.copies.copy()
        stage.work, stage.ps, stage.flop, self.clock.ps = [0] * len(work), {}, {}, round(clock_ps)
        try:
            yield
        except BaseException:
            times = 1  # it was not done again
            raise
        finally:
            self.clock.ps = clock_ps + (self.clock.ps - round(clock_ps)) * times
            stage.work = [old + new * times for old, new in zip(work, stage.work, strict=True)]
            inside, stage.ps = stage.ps, ps
            for (kind, resource), amount in inside.items():
                stage.add_ps(kind, resource, amount * times)
            inside_flop, stage.flop = stage.flop, flop
            for kind, amount in inside_flop.items():
                stage.flop[kind] = stage.flop.get(kind, 0) + amount * times
            for crossings, before in ((stage.reads, reads), (stage.copies, copies)):
                for where, count in (crossings - before).items():
                    crossings[where] = before[where] + count * times

    def _draw(self, stage: Stage, allocated: int, reserved: int) -> None:
        if self.samples:
            last = self.samples[-1]
            moved = max(abs(allocated - last.allocated_bytes), abs(reserved - last.reserved_bytes))
            if last.stage == stage.name and moved < self._grain_bytes:
                return
        self.samples.append(Sample(round(self.clock.ps), stage.name, allocated, reserved))
        if len(self.samples) > MOST_SAMPLES:
            self.samples = list(_thinned(self.samples))


def _thinned(samples: list[Sample]) -> Iterator[Sample]:
    """Of each two neighbours of a stage the higher one."""
    for _, same in groupby(samples, key=lambda sample: sample.stage):
        stage = list(same)
        for pair in zip_longest(stage[::2], stage[1::2]):
            yield max(filter(None, pair), key=lambda sample: sample.allocated_bytes)
