"""The memory tracker of a card: allocations, frees and work by stage, and the call sites of each peak."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from harness.cards import Card
from harness.trace.allocator import Allocator, Block, NoMemory
from harness.trace.cost import Refusal
from harness.trace.stage_costs import Stage, StageCosts, Work


class Alloc(NamedTuple):
    """A request for `size` bytes, by an `operator` at a `site` in the engine."""

    size: int
    operator: str
    site: str


class TraceListener(Protocol):
    """An observer of every allocation, free and operator."""

    def on_alloc(self, block: Block, alloc: Alloc) -> None: ...

    def on_free(self, block: Block) -> None: ...

    def on_op(self, work: Work) -> None: ...


class MemoryTracker:
    """Memory (`allocator`) and work (`stage_costs`) of `card`, with `cap_bytes` to allocate.

    `refused`: every time that was too little. `listeners` are called with each event as it happens.
    """

    def __init__(self, card: Card, cap_bytes: int):
        self.allocator = Allocator(cap_bytes)
        self.stage_costs = StageCosts(card)
        self.refused: list[Refusal] = []
        self.listeners: list[TraceListener] = []
        self.recording: list[Work] | None = None  # what is only launched, to be replayed
        self._open: dict[int, Alloc] = {}  # by the identity of a block
        self._by_site: dict[str, int] = {}
        self._stage: Stage | None = None  # the one that is running
        self._at_peak = False  # of that stage, until something is given back
        # From a refusal until the engine goes on nothing is measured: when what the failed call held goes
        # depends on the frames that hold it.
        self._unwinding = False

    def take(self, alloc: Alloc) -> Block:
        """Allocate a block. Raises NoMemory, and notes where that was."""
        self._unwinding = False
        stage = self._enter()
        try:
            block = self.allocator.malloc(alloc.size)
        except NoMemory as no:
            sizes = alloc.size, no.wanted_bytes, no.cap_bytes - no.reserved_bytes
            self.refused.append(Refusal(stage.name, alloc.operator, alloc.site, *sizes))
            self._unwinding = True
            raise
        self._open[id(block)] = alloc
        self._by_site[alloc.site] = self._by_site.get(alloc.site, 0) + alloc.size
        for listener in self.listeners:
            listener.on_alloc(block, alloc)
        self._measure()
        return block

    def give(self, block: Block) -> None:
        """Free `block`."""
        self._enter()
        self._note_peak()
        alloc = self._open.pop(id(block))
        self._by_site[alloc.site] -= alloc.size
        for listener in self.listeners:
            listener.on_free(block)
        self.allocator.free(block)
        self._measure()

    def charge(self, work: Work) -> None:
        """Add the work of an operator. Raises RuntimeError where a step is recorded that meets the host."""
        self._enter()
        for listener in self.listeners:
            listener.on_op(work)
        if self.recording is None:
            self.stage_costs.charge(work._replace(kernels=work.launches))
            return
        if work.crosses:
            raise RuntimeError("a step that is recorded waits for the host or copies from it")
        self.recording.append(work._replace(kernels=work.launches, launches=0))
        self.stage_costs.charge(Work(launches=work.launches))

    def replay(self, recording: Sequence[Work]) -> None:
        """Add the kernels of a recorded step, which are launched as one."""
        self._enter()
        for work in (Work(launches=1), *recording):
            self.stage_costs.charge(work)

    def empty_cache(self) -> None:
        """Return cached segments to the card."""
        self._enter()
        self.allocator.empty_cache()
        self._measure()

    def close(self) -> None:
        """The end of the trace."""
        self._note_peak()

    def _enter(self) -> Stage:
        """The stage that is running. It begins with what the one before has left."""
        stage = self.stage_costs.stage()
        if stage is not self._stage and not self._unwinding:
            self._note_peak()
            self._stage = stage
            self._measure()
        return stage

    def _measure(self) -> None:
        memory = self.allocator
        if self._unwinding:
            return
        if self.stage_costs.memory(memory.live_bytes, memory.allocated_bytes, memory.reserved_bytes):
            self._at_peak = True

    def _note_peak(self) -> None:
        """Note the call sites of what is allocated now: the stage is at its peak."""
        if self._at_peak and self._stage:
            self._stage.sites = {site: size for site, size in self._by_site.items() if size}
        self._at_peak = False
