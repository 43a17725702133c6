"""What a generative model offers to be measured: the protocol between a subject and everything that measures.

    subject = registry.subject()
    setup = subject.setup(source="synthetic-tiny", device="cpu")       # what is loaded, and where; no torch
    plan = subject.resolve(subject.request(duration_s=10), setup)      # what runs, changes told; no torch
    result = subject.load(plan.setup).run(plan)                        # torch from here on

Costs, parity, records, tier tests and benchmarks take a subject through this and know no other name. A
subject is a folder that offers one object of this protocol, and a row in `harness.registry`. Importing it
imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

from harness.accelerators import Accelerator
from harness.adjustments import Adjustment, Fallback
from harness.checks import within

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from harness.memory import MemoryBudget
    from harness.trace.fake_card import FakeCard

DEFAULT_DURATION_S = 30.0  # of a request that names no length
DEFAULT_SEED = 42  # of the first item
MAX_SEED = 2**32 - 1
DEFAULT_PRESET = "fixed"  # the values to start from that every subject has: all work is fixed by the request


def item_seeds(seed: int, batch_size: int) -> tuple[int, ...]:
    """One seed per batch item from a single one: consecutive, wrapping at 2³².

    Raises UsageError when `seed` is not one.
    """
    within("seed", seed, 0, MAX_SEED, kind=int)
    return tuple((seed + item) % (MAX_SEED + 1) for item in range(batch_size))


@dataclass(frozen=True)
class Component:
    """One network of a subject, by itself.

    `config`: its dimensions. `build(device, dtype)`: the network with its source's weights. `inputs(size,
    generator)`: fp32 CPU tensors of a request of `size` (seconds, frames or tokens: `unit`). `run(network,
    *inputs)`: what the subject's engine calls. `oracle(network, *inputs)`: the same by an independent
    implementation reading the same weights, None where there is none. `work(size, element_bytes)`: FLOP and
    bytes of one call in closed form.
    """

    name: str
    config: Any
    unit: str
    build: Callable[[torch.device, torch.dtype], nn.Module]
    inputs: Callable[[int, torch.Generator], tuple[Tensor, ...]]
    run: Callable[..., Tensor]
    work: Callable[[int, int], tuple[int, int]]
    oracle: Callable[..., Tensor] | None = None


class Setup(Protocol):
    """What is loaded, and where: a frozen record."""

    @property
    def source(self) -> str: ...  # of the weights
    @property
    def source_origin(self) -> str: ...  # argument, environment or default
    @property
    def device(self) -> str: ...
    @property
    def dtype(self) -> str: ...
    @property
    def accelerator(self) -> Accelerator: ...


class Plan(Protocol):
    """A request as it will run on a setup: a frozen record."""

    @property
    def setup(self) -> Any: ...
    @property
    def adjustments(self) -> tuple[Adjustment, ...]: ...
    @property
    def warnings(self) -> tuple[str, ...]: ...

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        ...


class Result(Protocol):
    """What happened: where the time went, what was counted, what really ran."""

    @property
    def wall_s(self) -> float: ...
    @property
    def stages_s(self) -> Mapping[str, float]: ...
    @property
    def details_s(self) -> Mapping[str, float]: ...
    @property
    def counts(self) -> Any: ...  # a frozen dataclass of numbers, `audio_s` among them
    @property
    def environment(self) -> Mapping[str, Any]: ...
    @property
    def fallbacks(self) -> tuple[Fallback, ...]: ...


class Rates:
    """How fast a result was made."""

    __slots__ = ()
    wall_s: float
    counts: Any

    @property
    def rtf(self) -> float:
        """Real-time factor: wall seconds per second of audio of one item; lower is better."""
        return self.wall_s / self.counts.audio_s

    @property
    def x_realtime(self) -> float:
        """Seconds of audio of one item per second of wall; higher is better."""
        return self.counts.audio_s / self.wall_s


class Engine(Protocol):
    """A loaded setup. It serves any number of plans of it.

    Benchmarks ask for two things more, and are n/a where there are none: `stream(plan)`, of `harness.stream`,
    with `decoded(plan, codes)`, the same items at once; `stage_memory()`, of `harness.stage_memory`.
    """

    load_s: float

    @property
    def environment(self) -> Mapping[str, Any]: ...

    def run(self, plan: Any, save_dir: Path | None = None) -> Any:
        """Run `plan` as it is; its files go under `save_dir` where one is given."""
        ...


class Elsewhere(Protocol):
    """Networks of a setup in another backend, in a process of its own while this is entered."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *error: Any) -> None: ...

    def call(self, name: str, inputs: tuple[Tensor, ...]) -> Any:
        """One call of a component: its `seconds`, and its `output` on the host."""
        ...

    def run(self, plan: Any, save_dir: Path | None = None) -> Any:
        """As `Engine.run`."""
        ...


class Compared(Protocol):
    """What a subject may offer besides: without it, benchmarks that ask for it are n/a. Methods import torch,
    and raise MissingPrerequisite for a backend that is not here."""

    def elsewhere(self, backend: str, setup: Any) -> Elsewhere:
        """The networks of a setup in `backend`."""
        ...

    def distance(self, setup: Any, part: str, comparison: str) -> Mapping[str, Any]:
        """How far `part` is from itself made another way: `relative_rms`, which decides, and its `limit`."""
        ...

    def accuracy(self, voice: str) -> Mapping[str, float | None]:
        """How right what is told of a made-up `voice` is."""
        ...

    def fresh(self, plan: Any) -> Mapping[str, Any]:
        """What a new process takes that runs `plan` twice: `import_s`, `load_s`, `first_call_s`,
        `second_call_s`, `peak_rss_bytes`; and what is wrong with what it made, or None, as `problem`."""
        ...


class Subject(Protocol):
    """A model that can be measured. Methods import torch only where they say so."""

    @property
    def name(self) -> str: ...
    @property
    def stages(self) -> Sequence[str]: ...  # spans of a request, in the order they run
    @property
    def columns(self) -> Mapping[str, Sequence[str]]: ...  # of a table: `NAME_s`, and stages it sums up
    @property
    def tokens(self) -> tuple[str, str] | None: ...  # a count of tokens, and the stage that generates them

    def setup(self, **choices: Any) -> Any:
        """A `Setup`. Raises UsageError or MissingPrerequisite."""
        ...

    def request(self, **fields: Any) -> Any:
        """A request, checked. `duration_s`, `batch_size` and `seed` are every subject's."""
        ...

    def resolve(self, request: Any, setup: Any) -> Any:
        """A `Plan`. Raises UsageError or MissingPrerequisite."""
        ...

    def load(self, setup: Any, *, budget: MemoryBudget | None = None) -> Engine:
        """The engine of a setup. Imports torch."""
        ...

    def load_fake(self, setup: Any, card: FakeCard, budget: MemoryBudget) -> Engine:
        """The same engine on a card that holds no bytes, for a trace. Imports torch."""
        ...

    def stand_ins(self, setup: Any) -> Mapping[str, Any]:
        """What a trace of a setup runs in place of what cannot be traced; part of `Cost.environment`."""
        ...

    def repeated(self) -> tuple[type[nn.Module], ...]:
        """Networks of which a trace needs one call per shape. Imports torch."""
        ...

    def check(self, result: Any, plan: Any) -> str | None:
        """What is wrong with the output of `plan`, or None."""
        ...

    def components(self, source: str) -> Mapping[str, Component]:
        """The networks, by name. Imports torch."""
        ...


class Folder:
    """A subject by the modules of its folder, each imported when it is asked for.

    They have `setup.Setup`, `request.request` and `plan.resolve`; with torch `engine.Engine`,
    `networks.components`, and of the module that `fake_engine` names `load` and `REPEATED`.
    """

    package: ClassVar[str]
    fake_engine: ClassVar[str] = "fake_engine"

    def setup(self, source: str | None = None, **choices: Any) -> Any:
        return self._module("setup").Setup.choose(source, **choices)

    def request(self, duration_s: float | None = DEFAULT_DURATION_S, **fields: Any) -> Any:
        return self._module("request").request(duration_s, **fields)

    def resolve(self, request: Any, setup: Any) -> Any:
        return self._module("plan").resolve(request, setup)

    def load(self, setup: Any, *, budget: MemoryBudget | None = None, threads: int | None = None) -> Any:
        return self._module("engine").Engine.from_setup(setup, budget=budget, threads=threads)

    def load_fake(self, setup: Any, card: FakeCard, budget: MemoryBudget) -> Any:
        return self._module(self.fake_engine).load(setup, card, budget)

    def stand_ins(self, setup: Any) -> Mapping[str, Any]:
        return {}

    def repeated(self) -> tuple[type[nn.Module], ...]:
        return self._module(self.fake_engine).REPEATED

    def components(self, source: str) -> Mapping[str, Component]:
        return self._module("networks").components(source)

    def _module(self, name: str) -> Any:
        return import_module(f"{self.package}.{name}")
