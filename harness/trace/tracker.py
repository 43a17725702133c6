"""The books of a card: who took memory and gave it back, what was done, what each peak is made of."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from harness.cards import Card
from harness.trace.allocator import Allocator, Block, NoMemory
from harness.trace.cost import Refusal
from harness.trace.stage_costs import Stage, StageCosts, Work


class Alloc(NamedTuple):
    """Memory was asked for, by an operator at a place in the engine."""

    size: int
    operator: str
    site: str


class TraceListener(Protocol):
    """Who is told of every entry."""

    def on_alloc(self, block: Block, what: Alloc) -> None: ...

    def on_free(self, block: Block) -> None: ...

    def on_op(self, work: Work) -> None: ...


class MemoryTracker:
    """Memory (`allocator`) and work (`ledger`) of `card`, with `cap_bytes` to allocate.

    `refused`: every time that was too little. `listeners` are told of each entry as it is made.
    """

    def __init__(self, card: Card, cap_bytes: int):
        self.allocator = Allocator(cap_bytes)
        self.stage_costs = StageCosts(card)
        self.refused: list[Refusal] = []
        self.listeners: list[TraceListener] = []
        self._open: dict[int, Alloc] = {}  # by the identity of a block
        self._by_site: dict[str, int] = {}
        self._stage: Stage | None = None  # the one that is running
        self._at_peak = False  # of that stage, until something is given back
        # From a refusal until the engine goes on nothing is measured: when what the failed call held goes
        # depends on the frames that hold it.
        self._unwinding = False

    def take(self, what: Alloc) -> Block:
        """A block for what is asked for. Raises NoMemory, and notes where that was."""
        self._unwinding = False
        stage = self._enter()
        try:
            block = self.allocator.malloc(what.size)
        except NoMemory:
            self.refused.append(Refusal(stage.name, what.operator, what.site, what.size))
            self._unwinding = True
            raise
        self._open[id(block)] = what
        self._by_site[what.site] = self._by_site.get(what.site, 0) + what.size
        for listener in self.listeners:
            listener.on_alloc(block, what)
        self._measure()
        return block

    def give(self, block: Block) -> None:
        """`block` is free."""
        self._enter()
        self._note_peak()
        what = self._open.pop(id(block))
        self._by_site[what.site] -= what.size
        for listener in self.listeners:
            listener.on_free(block)
        self.allocator.free(block)
        self._measure()

    def charge(self, work: Work) -> None:
        """Add what an operator did."""
        self._enter()
        for listener in self.listeners:
            listener.on_op(work)
        self.stage_costs.charge(work)

    def empty_cache(self) -> None:
        """Give back to the card what is only kept."""
        self._enter()
        self.allocator.empty_cache()
        self._measure()

    def close(self) -> None:
        """Nothing more will happen."""
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
        """What is taken now is what the peak of the stage is made of."""
        if self._at_peak and self._stage:
            self._stage.sites = {site: size for site, size in self._by_site.items() if size}
        self._at_peak = False
