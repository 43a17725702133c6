"""What the tests of predictions share: small networks on any device, and what becomes of memory meanwhile."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple

import pytest
import torch
from msgspec.structs import replace
from torch import Tensor, nn
from torch._C._profiler import _EventType
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils._python_dispatch import TorchDispatchMode

from acestep.models.ace_step import AceStep
from acestep.models.vae import Oobleck
from acestep.request import GenerationConfig, GenerationParams
from acestep.resolver import resolve
from acestep.setup import Setup
from acestep.subject import SUBJECT
from acestep.tracing.closed_form import Networks, networks
from acestep.weights import synthetic
from acestep.weights.layout import LMS
from acestep.weights.synthetic_configs import CONFIGS
from harness.accelerators import Accelerator
from harness.cards import find
from harness.checkpoint import assign, on_meta
from harness.nn.qwen3 import Qwen3
from harness.trace.allocator import Block
from harness.trace.cost import Cost
from harness.trace.fake_card import FakeCard
from harness.trace.predict import predict
from harness.trace.stage_costs import Work
from harness.trace.tracker import Alloc
from harness.virtual_card import tensors

TINY = "synthetic-tiny"
TURBO, BASE, XL = "acestep-v15-turbo", "acestep-v15-base", "acestep-v15-xl-turbo"
CARD = find("rtx4090")
MIB = 2**20
LAYERS = 2  # of a DiT: one with a window, one without
VOCABULARY = 1000  # of 217,204: the table is most of a tiny model, and only looked up in
aten = torch.ops.aten

Call = Callable[[], object]


@dataclass
class Small:
    """Every network of a tiny source on one device; values are zero."""

    of: Networks
    device: torch.device
    dtype: torch.dtype
    ace_step: AceStep
    vae: Oobleck
    lm: Qwen3

    def modules(self) -> tuple[nn.Module, ...]:
        return self.ace_step, self.vae, self.lm

    def zeros(self, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        return torch.zeros(shape, dtype=dtype or self.dtype, device=self.device)


def small(dtype: torch.dtype, device: str = "cpu", dit: str = TURBO, source: str = TINY) -> Small:
    of = networks(source, dit, LMS[0], dtype.itemsize)
    assert of.dit
    assert of.lm
    config, vae, lm = of.dit, of.vae, replace(of.lm, vocab_size=VOCABULARY)
    modules = on_meta(lambda: AceStep(config)), on_meta(lambda: Oobleck(vae)), on_meta(lambda: Qwen3(lm))
    for module in modules:
        for name, parameter in list(module.named_parameters()):
            assign(module, name, torch.zeros(parameter.shape, dtype=dtype, device=device))
    return Small(of, torch.device(device), dtype, *modules)


class Memory(NamedTuple):
    """Bytes of each tensor in the order they came (+) and went (-)."""

    changes: list[int]

    @property
    def peak_bytes(self) -> int:
        return max(accumulate(self.changes, initial=0))


class Clerk:
    """Writes down what a card's books are told."""

    def __init__(self) -> None:
        self.memory = Memory([])
        self.work = Work()
        self._sizes: dict[int, int] = {}

    def on_alloc(self, block: Block, what: Alloc) -> None:
        self._sizes[id(block)] = what.size
        self._change(what.size)

    def on_free(self, block: Block) -> None:
        self._change(-self._sizes.pop(id(block), 0))

    def on_op(self, work: Work) -> None:
        self.work = Work(*map(sum, zip(self.work, work, strict=True)))

    def _change(self, size: int) -> None:
        if size:
            self.memory.changes.append(size)


@contextmanager
def clerk_of(card: FakeCard) -> Iterator[Clerk]:
    clerk = Clerk()
    card.tracker.listeners.append(clerk)
    try:
        yield clerk
    finally:
        card.tracker.listeners.remove(clerk)


def predicted(card: FakeCard, call: Call) -> Clerk:
    """What `call` does to the card that is entered. What it makes is let go."""
    with clerk_of(card) as clerk, torch.inference_mode():
        call()
    return clerk


class Births(TorchDispatchMode):
    """Notes where each operator's new tensors lie, composites taken apart. Each operator is an event
    `#number` of the profile."""

    def __init__(self) -> None:
        super().__init__()
        self.of: list[list[int]] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        with self:
            result = func.decompose(*args, **kwargs)
        if result is not NotImplemented:
            return result
        literal = func is aten.lift_fresh.default  # is made beside all operators, and comes in here
        given = () if literal else tensors((args, kwargs.values()))
        old = {tensor.untyped_storage()._cdata for tensor in given}
        with record_function(f"#{len(self.of)}"):
            result = func(*args, **kwargs)
        new = [tensor.untyped_storage() for tensor in tensors((result,))]
        self.of.append([storage.data_ptr() for storage in new if storage._cdata not in old and len(storage)])
        return result


class Piece(NamedTuple):
    """Memory that the CPU's allocator has given or got back."""

    address: int
    size: int  # negative when it is got back


class Profiled(NamedTuple):
    """What the CPU's allocator did: for `tensors`, and for whoever asked, kernels' scratch memory too."""

    tensors: Memory
    everything: Memory


def profiled(call: Call, births: Births | None = None) -> list[Piece | int]:
    """The allocator's own events in order, and the numbers of `births` where each operator ended."""
    gc.collect()
    gc.disable()
    try:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as run, torch.inference_mode():
            if births is None:
                call()
            else:
                with births:
                    call()
    finally:
        gc.enable()
    assert run.profiler
    return list(_events(run.profiler.kineto_results.experimental_event_tree()))


def _events(tree: Any) -> Iterator[Piece | int]:
    for event in sorted(tree, key=lambda event: event.start_time_ns):
        if event.tag == _EventType.Allocation:
            yield Piece(event.extra_fields.ptr, event.extra_fields.alloc_size)
        else:
            yield from _events(event.children)
            if event.name.startswith("#"):
                yield int(event.name[1:])


def measured(call: Call) -> Profiled:
    """What a real `call` on the CPU does to memory. What it makes is let go."""
    births = Births()
    events = profiled(call, births)
    alive: dict[int, int] = {}  # the place among `events` of what lies at an address
    belongs: set[int] = set()  # places of tensors' memory: coming, and going
    for place, event in enumerate(events):
        if isinstance(event, int):
            belongs.update(alive[address] for address in births.of[event])
        elif event.size > 0:
            alive[event.address] = place
        elif alive.pop(event.address, None) in belongs:
            belongs.add(place)
    pieces = [(place, event.size) for place, event in enumerate(events) if isinstance(event, Piece)]
    return Profiled(
        Memory([size for place, size in pieces if place in belongs]), Memory([size for _, size in pieces])
    )


def setup(gib: float = 24, lm: bool = False, dit: str = TURBO, source: str = TINY, **more: Any) -> Setup:
    """A card of `gib`, its tier offloading; nothing quantized, compiled or recorded unless `more` does."""
    return Setup.choose(
        source,
        dit=dit,
        accelerator=Accelerator("cuda", CARD.name, gib, simulated=True),
        lm=LMS[0] if lm else None,
        want_lm=lm,
        **({"lm_backend": "pt"} if lm else {})
        | {"quantization": "none", "compile": False, "graphs": False}
        | more,
    )


def song(seconds: float = 10, steps: int = 2, lm: bool = False, **more: Any) -> GenerationParams:
    """A request that leaves nothing to chance."""
    return GenerationParams(
        caption="Warm synth-pop",
        lyrics="[Verse]\nStreetlights hum a quiet tune",
        duration=seconds,
        bpm=120,
        keyscale="C major",
        timesignature="4",
        vocal_language="en",
        thinking=lm,
        inference_steps=steps,
        **more,
    )


def cost(
    chosen: Setup | None = None, params: GenerationParams | None = None, batch: int = 1, **more: Any
) -> Cost:
    chosen = chosen or setup()
    params = params or song(lm=chosen.lm is not None)
    return predict(SUBJECT, resolve(params, GenerationConfig(batch_size=batch), chosen), CARD, **more)


@contextmanager
def fewer_layers() -> Iterator[None]:
    """Tiny DiTs with a layer of each kind: the others are like these."""
    with pytest.MonkeyPatch.context() as patch:
        for dit in (TURBO, BASE, XL):
            config = CONFIGS[TINY][dit]
            fewer = {"num_hidden_layers": LAYERS, "layer_types": config["layer_types"][:LAYERS]}
            patch.setitem(CONFIGS[TINY], dit, config | fewer)
        synthetic._shapes.cache_clear()  # which other tests may have filled, and others will
        yield
    synthetic._shapes.cache_clear()


@pytest.fixture(scope="module", autouse=True)
def small_models() -> Iterator[None]:
    with fewer_layers():
        yield


@pytest.fixture
def card() -> Iterator[FakeCard]:
    with FakeCard(CARD) as entered:
        yield entered
