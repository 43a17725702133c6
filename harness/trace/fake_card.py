"""A fake CUDA device for traces: it stores and computes nothing, and counts every byte and every kernel.

Tensors on it, and weights on their way to it, are fake: torch's meta device gives them shapes, dtypes and
lifetimes, and no memory. The engine is told what it would see: this card, the host. So it runs as it does
beside a card, whatever the size of the model, and each operator that reaches the card is one launch of a
kernel with its FLOP, its traffic and its allocations, in the order and with the lifetimes of the real run.
Small tensors of the host stay real, and so does what they decide.

    with FakeCard(find("rtx4090")) as card:
        weights = Weightless(open_source("synthetic-full"), card)
        engine = Engine.from_setup(setup, device="virtual", weights=weights)

What is read back from the card has no value: true, 1.0, 0. The engine reads back four things (are latents
finite, are they all zero, how loud is the result, which codes), none of which changes what runs, and the
tokens of a thought, for which `planning` chooses.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from typing import Any, Self, cast

import torch
import torch._dynamo  # torch would on first use, and leave tensors of that moment alive
from torch import Tensor, nn

from harness.cards import Card
from harness.device import VIRTUAL, capabilities
from harness.graphs import recorders
from harness.trace import kernels
from harness.trace.allocator import Block
from harness.trace.frames import unhooked
from harness.trace.libraries import CUDA, SERVED
from harness.trace.link import LinkedCard
from harness.trace.recorder import FakeRecorder
from harness.trace.regions import Regions
from harness.trace.replay import CachedTrace, Event, TraceCache, patched
from harness.trace.shapes import infer, is_composite, names_a_device
from harness.trace.stage_costs import Work
from harness.trace.storage import META
from harness.trace.tracker import Alloc
from harness.virtual_card import STAY, tensors

HOST_REAL_BYTES = 1 << 20  # of a tensor made on the host: below it has values
IS_META = vars(torch._C.TensorBase)["is_meta"].__get__
aten = torch.ops.aten


class FakeCard(LinkedCard):
    """A card of which a `tracker` counts memory and work, and those `beside` it, each with its own.

    `libraries`: what lies below PyTorch; None is a CPU, which has no rules. `traces`: where layers are kept
    that were traced once, which may be shared, of the module types `repeated`; None traces every layer each
    time. For the rest `FakeStorage`.
    """

    def __init__(
        self,
        card: Card,
        cap_bytes: int | None = None,
        libraries: CUDA | None = None,
        traces: dict[Any, CachedTrace] | None = None,
        repeated: Sequence[type[nn.Module]] = (),
        beside: Sequence[Self] = (),
    ):
        super().__init__(card, cap_bytes, beside)
        self.libraries = libraries
        self._records = False  # or has
        self.trace_cache = None if traces is None else TraceCache(self, traces, repeated)
        self.answers |= {IS_META: self.is_empty, Tensor.tolist: self._values}
        # What stays on the host is pinned there where memory is not short, and sent without waiting.
        self.answers[Tensor.is_pinned] = self.is_fake

    def __enter__(self) -> FakeCard:
        if gc.isenabled():
            gc.disable()  # so that what is freed is freed where the last reference goes, every time
            self._entered.callback(gc.enable)
        self._entered.enter_context(unhooked())  # and the last one goes where Python by itself lets it go
        self._entered.enter_context(patched(torch.cuda, "empty_cache", self._empty_caches))
        if self.libraries:
            capabilities[VIRTUAL] = lambda device: cast(CUDA, self.at(device).libraries).capability
            self._entered.callback(capabilities.pop, VIRTUAL)
            capability = self.libraries.capability
            asked = patched(torch.cuda, "get_device_capability", lambda device=None: capability)
            self._entered.enter_context(asked)  # by torchao, before it lays out four bits
        self._entered.enter_context(patched(torch, "compile", Regions(self).compile))
        recorders[VIRTUAL] = lambda device: FakeRecorder(self.at(device))
        self._entered.callback(recorders.pop, VIRTUAL)
        if self.trace_cache:
            self._entered.enter_context(self.trace_cache)
        super().__enter__()
        return self

    def _empty_caches(self) -> None:
        for card in self.cards:
            card.tracker.empty_cache()

    def warm(self) -> None:
        """Take what stays allocated from the first matrix product on. Raises torch.OutOfMemoryError."""
        if self.libraries:
            self.obtain(Alloc(self.libraries.blas_bytes, "cublas", "cuBLAS workspace"))

    def warm_to_record(self) -> None:
        """Take what stays allocated of the stream that steps are recorded on, once."""
        if not self._records:
            self.warm()
        self._records = True

    def run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        inputs = list(tensors((*args, *kwargs.values())))
        source = self.card_among(inputs)
        target: FakeCard | None = source if self._target is STAY else self._target
        if target is None and not any(map(self.is_fake, inputs)):
            return self._on_host(func, args, kwargs, inputs)
        card = target or source or self
        if func is aten._local_scalar_dense.default:
            return card._value(args[0])
        if (serve := SERVED.get(func)) and (target or source):
            return serve(card, *args, **kwargs)
        if func.namespace == "aten" and is_composite(func):
            with self.operators:
                output = func.decompose(*args, **kwargs)
            if output is not NotImplemented:
                return output
        with torch._C.DisableTorchFunction():  # what tensors are, without asking the mode of every property
            output = infer(func, args, kwargs)
            if target or source:
                card._operate(func, args, kwargs, inputs, output)
        for tensor in tensors((output,)):
            if not self.card_of(tensor):
                self.host(tensor.untyped_storage())
        return output

    def make(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        kwargs = {name: value for name, value in kwargs.items() if name != "generator"}
        if func is torch.tensor:  # of values, which are written down on the host first
            host = func(*args, **kwargs | {"device": "cpu"})
            with self.moving(self):
                return torch.Tensor.to(host, "cpu", copy=True)
        with self.moving(self):
            return func(*args, **kwargs | {"device": "meta"})

    def replay(self, trace: CachedTrace) -> Tensor:
        """Repeat the events of a call; its result."""
        taken = self.perform(trace.events)
        parts = []
        for number, size, stride, dtype in trace.outputs:
            part = torch.empty_strided(size, stride, dtype=dtype, device=META)
            if number is None:
                self.host(part.untyped_storage())
            else:
                self.hold(part.untyped_storage(), taken[number])
            parts.append(part)
        return trace.result(parts)

    def perform(self, events: Sequence[Event]) -> dict[int, Block]:
        """Take, free and charge; what is left taken, by the number of its allocation."""
        taken: dict[int, Block] = {}
        count = 0
        try:
            for event in events:
                if isinstance(event, Work):
                    self.tracker.charge(event)
                elif isinstance(event, Alloc):
                    taken[count] = self.obtain(event)
                    count += 1
                else:
                    self.tracker.give(taken.pop(event.number))
        except torch.OutOfMemoryError:
            for block in taken.values():
                self.tracker.give(block)
            raise
        return taken

    def _operate(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], inputs: list[Tensor], output: Any
    ) -> None:
        """Count an operator: memory for its results, and its work."""
        self.operator = func._schema.name
        results = list(tensors((output,)))
        if len(self.cards) > 1 and self._between(func, inputs, results):
            return
        inputs = [tensor for tensor in inputs if self.holds(tensor)]
        if self._crosses(func, args, kwargs, inputs, results):
            return
        if kernels.moves_nothing(func, inputs, results):
            return self._take_new(inputs, results)
        stray = [tensor for tensor in tensors(args) if tensor.dim() and not self.holds(tensor)]
        if stray and inputs and func._overloadpacket not in kernels.TAKES_HOST_TENSORS:
            raise RuntimeError(f"{self.operator}: a tensor on the host meets one on the card")
        sent = [self._send(tensor) for tensor in stray] if inputs else []
        self._take_new(inputs, results)
        for block in sent:
            self.tracker.give(block)
        space = self.libraries.workspace_bytes(func, args) if self.libraries else 0
        work = kernels.work(func, args, kwargs, inputs, output)
        if work.flop and self.libraries and self.libraries.in_fp32(results[0].dtype):
            work = work._replace(fp32_flop=work.flop)
        if self.region is not None:
            return self.region.add(func, args, inputs, results, work, space)
        if space:
            self.tracker.give(self.obtain(Alloc(space, self.operator, "workspace")))
        self.tracker.charge(work)

    def _on_host(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], inputs: Sequence[Tensor]
    ) -> Any:
        """An operator on real tensors only. A large result of no inputs is fake."""
        if not inputs and names_a_device(func) and kwargs.get("device") != META:
            output = infer(func, args, kwargs)
            if isinstance(output, Tensor) and output.nbytes > HOST_REAL_BYTES:
                self.host(output.untyped_storage())
                return output
        return func(*args, **kwargs)
