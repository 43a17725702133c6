"""A cache of traces: a module that is called again with the same shapes is replayed, not traced again.

A model is one block many times over, a schedule one model many times over, a long song one tile many times
over. What a call does to a card follows from the shapes of its arguments, so the first call of a kind is
recorded as allocations, frees and work, and later ones replay that. Allocations are still made one by one:
the totals are those of tracing every call, and a card that is too small refuses at the same operator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch._dynamo.eval_frame
from torch import Tensor, nn

from harness import quantization
from harness.quantization import scheme_of
from harness.trace.allocator import Block
from harness.trace.stage_costs import Work
from harness.trace.tracker import Alloc
from harness.virtual_card import plain

if TYPE_CHECKING:
    from harness.trace.fake_card import FakeCard

PLAIN = (Tensor, nn.Parameter)
Quantize = Callable[[nn.Linear, Any], None]


class Free(NamedTuple):
    """The `number`th allocation of this trace is freed."""

    number: int


Event = Alloc | Free | Work


class Output(NamedTuple):
    """A plain tensor that a call returns, in the `number`th allocation of its trace; None is host memory."""

    number: int | None
    size: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype


class CachedTrace:
    """The allocations, frees and work of one call, and the tensor it returned: one of `outputs`, or a
    quantized one that is made of them."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.outputs: tuple[Output, ...] = ()
        self.repeatable = True
        self._rebuild: Callable[[Sequence[Tensor]], Tensor] = lambda parts: parts[0]
        self._numbers: dict[int, int] = {}  # by the identity of a block
        self._taken = 0

    def on_alloc(self, block: Block, alloc: Alloc) -> None:
        self._numbers[id(block)] = self._taken
        self._taken += 1
        self.events.append(alloc)

    def on_free(self, block: Block) -> None:
        number = self._numbers.pop(id(block), None)
        if number is None:
            self.repeatable = False  # it let go of what was there before
        else:
            self.events.append(Free(number))

    def on_op(self, work: Work) -> None:
        self.events.append(work)
        if work.crosses:
            self.repeatable = False  # each time it is told which line waits

    def end(self, result: Tensor, block_of: Callable[[Tensor], Block | None]) -> None:
        """Note the `result` of the call, whose memory is in blocks. A tensor that was there before, or a part
        of one, cannot be replayed.
        """
        parts = [*plain(result)]
        self.outputs = tuple(self._output(part, block_of(part)) for part in parts)
        if type(result) not in PLAIN:
            self._rebuild = _rebuild(result)
        # Nothing else may be left behind.
        self.repeatable &= not self._numbers and not any(part.storage_offset() for part in parts)

    def _output(self, part: Tensor, block: Block | None) -> Output:
        number = None if block is None else self._numbers.pop(id(block), -1)
        self.repeatable &= number != -1
        return Output(number, tuple(part.shape), part.stride(), part.dtype)

    def result(self, parts: Sequence[Tensor]) -> Tensor:
        """The tensor that is made of `parts`, one for each of `outputs`."""
        return self._rebuild(parts)


def _rebuild(tensor: Any) -> Callable[[Sequence[Tensor]], Tensor]:
    """What makes a tensor like `tensor`, a quantized one, of the plain tensors of another."""
    names, attributes = tensor.__tensor_flatten__()
    kind, size, stride = type(tensor), tensor.shape, tensor.stride()
    return lambda parts: kind.__tensor_unflatten__(
        dict(zip(names, parts, strict=True)), attributes, size, stride
    )


def compiled_runs() -> bool:
    """Whether what is compiled runs as such now (`torch.compiler.set_stance`)."""
    return torch._dynamo.eval_frame._stance.stance != "force_eager"


class TraceCache:
    """A context in which calls of modules of the types `repeated` are cached in `traces` and replayed."""

    def __init__(self, card: FakeCard, traces: dict[Any, CachedTrace], repeated: Sequence[type[nn.Module]]):
        self.traces = traces
        self._repeated = repeated
        self._card = card
        self._entered = ExitStack()

    def __enter__(self) -> TraceCache:
        for kind in self._repeated:
            self._entered.enter_context(patched(kind, "forward", self._through(kind.forward)))
        quantize = self._quantizing(quantization.quantizer)
        self._entered.enter_context(patched(quantization, "quantizer", lambda: quantize))
        return self

    def __exit__(self, *exc: object) -> None:
        self._entered.close()

    def _through(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        def call(module: nn.Module, *args: Any) -> Tensor:
            regions = (card.region for card in self._card.cards)
            if any(region is not None for region in regions):  # operators are wanted, not what each costs
                return forward(module, *args)
            return self._call(forward, module, args, lambda: forward(module, *args))

        return call

    def _quantizing(self, quantizer: Callable[[], Quantize]) -> Quantize:
        def call(linear: nn.Linear, config: Any) -> None:
            def run() -> Tensor:
                quantizer()(linear, config)
                return linear.weight

            weight = linear.weight  # what was there before goes when the call is over, traced or not
            quantized = self._call(("quantize", repr(config)), linear, (), run)
            if linear.weight is weight:
                linear.weight = nn.Parameter(quantized, requires_grad=False)
                linear.extra_repr = linear.extra_repr  # as torchao's, a cycle: it goes when it is collected

        return call

    def knows(self, method: Any) -> bool:
        """Whether `method` is one of a module of the types that are cached."""
        return isinstance(getattr(method, "__self__", None), tuple(self._repeated))

    def call(self, method: Any, args: tuple[Any, ...], run: Callable[[], Tensor]) -> Tensor:
        """The result of `run`, which is what a compiled `method` of a module does with `args`."""
        return self._call((method.__func__, type(method.__self__)), method.__self__, args, run)

    def _call(self, what: Any, module: nn.Module, args: tuple[Any, ...], run: Callable[[], Tensor]) -> Tensor:
        parts = tuple(module.modules())
        weights = [tuple(part._parameters.values()) + tuple(part._buffers.values()) for part in parts]
        with torch._C.DisableTorchFunction():  # what tensors are, without asking the mode of every property
            card = self._card.card_among((*weights, args)) or self._card
            signature = tuple(_signatures(card, (args, *weights)))
        compiled = compiled_runs() and tuple(part._compiled_call_impl is not None for part in parts)
        key = (what, compiled, card.libraries, signature)
        trace = self.traces.get(key)
        if trace is not None and trace.repeatable:
            return card.replay(trace)
        trace = CachedTrace()
        card.tracker.listeners.append(trace)
        try:
            result = run()
        finally:
            card.tracker.listeners.remove(trace)
        trace.end(result, card.block_of)
        self.traces[key] = trace
        return result


@contextmanager
def patched(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Inside, `owner.name` is `value`."""
    kept = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, kept)


def _signatures(card: FakeCard, value: Any) -> Iterator[Any]:
    """The parts of `value` that a trace depends on: shapes of tensors, and everything that is no tensor."""
    if isinstance(value, Tensor):
        kind = type(value) if type(value) in PLAIN else scheme_of(value)  # quantizations share a type
        yield kind, value.shape, value.stride(), value.dtype, card.holds(value)
    elif isinstance(value, (tuple, list)):
        yield len(value)
        for part in value:
            yield from _signatures(card, part)
    elif callable(value) and hasattr(value, "__code__"):  # a function: its code, and what it has closed over
        cells = tuple(cell.cell_contents for cell in value.__closure__ or ())
        yield value.__code__
        yield from _signatures(card, (*cells, *(value.__defaults__ or ())))
    elif hasattr(value, "__dict__"):
        yield type(value)
        yield from _signatures(card, tuple(value.__dict__.values()))
    else:
        yield value
