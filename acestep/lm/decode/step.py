"""The step of audio codes as a graph: feed the codes before, choose the next ones.

It is one function of fixed buffers: KV cache, hidden states and positions (`KVState`), uniform draws, marks,
index and codes (`CodeDecoder`). Guidance, the mask of codes, penalty, top-k, top-p, temperature and the draw
are inside, and nothing is read back. Python only knows how far it is, and by that which step runs next: steps
differ in how many items go on, and in the block of the cache that the longest row has come to.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from torch import Tensor

from acestep.lm.decode.selector import CodeDecoder, TokenSelector
from harness.compiling import Compiled
from harness.graphs import Graphs
from harness.nn.sampling import Pick
from harness.spans import span

if TYPE_CHECKING:
    from acestep.lm.decode.loop import KVState

OnCode = Callable[[int], object]  # told how many codes the longest item has


class Window(Protocol):
    """The rows of a KV cache that a step feeds. Equal windows are the same memory, and take equal steps."""

    def step(self, tokens: Tensor) -> None:
        """Feed each row one token: `tokens [rows]`."""
        ...

    def head(self, rows: slice | Tensor) -> Tensor:
        """fp32 logits `[rows, V]` of each row's next token, over `V` rows of the head."""
        ...


@dataclass(frozen=True)
class CodeStep:
    """The next code of the first `live` items. Equal ones are one recording."""

    window: Window
    codes: CodeDecoder
    live: int
    pick: Pick | None = None

    @property
    def bucket(self) -> tuple[Hashable, ...]:
        """What its compiled graphs hold for."""
        return "LM", self.live, self.codes.branches, self.pick and self.codes.selector.sampling

    def __call__(self) -> None:
        with span("forward"):
            self.window.step(self.codes.before(self.live))
        self.codes.next(self.window.head, self.live, self.pick)


def code_steps(state: KVState, codes: CodeDecoder, pick: Pick | None = None) -> Iterator[CodeStep]:
    """A step for each code but the first, which the prompts predict; to be taken as they come."""
    for index in range(1, codes.longest):
        live = codes.live(index)
        yield CodeStep(state.window(live * codes.branches, index), codes, live, pick)


def told(steps: Iterable[CodeStep], on_code: OnCode) -> Iterator[CodeStep]:
    """The steps as they come. `on_code` is told of the first code, which is chosen, and of each step's once
    the next step is asked for."""
    on_code(1)
    for count, step in enumerate(steps, start=2):
        yield step
        on_code(count)


def compiled_pick(compiled: Compiled | None, selector: TokenSelector) -> Pick | None:
    """How a code is drawn, compiled, which goes through 64,000 of them a dozen times: on a card that is 40
    launches. A CPU launches nothing, and builds it for ten seconds."""
    if compiled is None or selector.device.type == "cpu":
        return None
    return compiled.function(selector.sampling.pick)


def prepare(steps: Iterable[CodeStep], state: KVState, graphs: Graphs, compiled: Compiled | None) -> None:
    """Compile and record the steps to come, in a stage `compile`. All is then as before, but for slots of the
    cache and codes that are still to be written."""
    if not (compiled or graphs.recording):
        return
    steps = list(dict.fromkeys(steps))
    if compiled:
        compiled.room(step.bucket for step in steps)
    for step in steps:
        if compiled:
            compiled.warm(step.bucket, lambda step=step: _once(step, state))
        if graphs.recording:
            with span("compile"):
                _once(step, state)
                graphs.record(step, step)


def _once(step: CodeStep, state: KVState) -> None:
    """Run `step`, and leave no trace of it."""
    buffers = [*state.buffers, *step.codes.buffers]
    before = [buffer.clone() for buffer in buffers]
    step()
    for buffer, value in zip(buffers, before, strict=True):
        buffer.copy_(value)
