"""A second subject, as small as one can be: two linear layers and a convolution. No torch import here.

Noise of 25 frames a second becomes audio of 100 samples a second in two channels. It proves that costs,
parity, records, benchmarks and tier tests know a subject by the protocol alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from harness import accelerators
from harness.accelerators import Accelerator
from harness.adjustments import Adjustment, Adjustments, Fallback, Warned
from harness.checks import one_of, within

if TYPE_CHECKING:
    import torch
    from torch import nn

    from harness.memory import MemoryBudget
    from harness.subject import Component
    from harness.trace.fake_card import FakeCard
    from tests.toy_subject.engine import Engine

SOURCE = "random"
FRAMES_PER_SECOND, SAMPLES_PER_FRAME = 25, 4
LONGEST_S = 60.0


@dataclass(frozen=True)
class Setup:
    """What is loaded, and where."""

    source: str
    source_origin: str
    device: str
    dtype: str
    accelerator: Accelerator


@dataclass(frozen=True)
class Request:
    """How much noise to make audio of."""

    duration_s: float
    batch_size: int
    seed: int


@dataclass(frozen=True)
class Plan(Warned):
    """A request as it will run."""

    setup: Setup
    request: Request
    adjustments: tuple[Adjustment, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def frames(self) -> int:
        return round(self.request.duration_s * FRAMES_PER_SECOND)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self.request) | {"source": self.setup.source}


@dataclass(frozen=True)
class Counts:
    """Work done, per item."""

    audio_s: float
    frames: int


@dataclass(frozen=True)
class Result:
    """What happened. `audio`: fp32 CPU `[B, 2, samples]`."""

    audio: torch.Tensor
    wall_s: float
    stages_s: Mapping[str, float]
    details_s: Mapping[str, float]
    counts: Counts
    environment: Mapping[str, Any]
    fallbacks: tuple[Fallback, ...] = ()


@dataclass(frozen=True)
class Toy:
    """See `harness.subject.Subject`."""

    name: str = "tests.toy_subject"
    stages: tuple[str, ...] = ("encode", "decode")
    columns: Mapping[str, tuple[str, ...]] = field(
        default_factory=lambda: {"encode_s": ("encode",), "decode_s": ("decode",)}
    )
    tokens: tuple[str, str] | None = None

    def setup(
        self,
        source: str | None = None,
        *,
        device: str = "cpu",
        dtype: str = "fp32",
        accelerator: Accelerator | None = None,
    ) -> Setup:
        one_of("source", source, (None, SOURCE))
        origin = "default" if source is None else "argument"
        return Setup(SOURCE, origin, device, dtype, accelerator or accelerators.detect(device))

    def request(self, duration_s: float = 1.0, batch_size: int = 1, seed: int = 0) -> Request:
        within("duration_s", duration_s, 0.04, 3600)
        return Request(duration_s, batch_size, seed)

    def resolve(self, request: Request, setup: Setup) -> Plan:
        changes = Adjustments(strict=False)
        if request.duration_s > LONGEST_S:
            changes.note("duration_s", request.duration_s, LONGEST_S, "is too long")
        duration_s = min(request.duration_s, LONGEST_S)
        return Plan(setup, Request(duration_s, request.batch_size, request.seed), tuple(changes))

    def load(self, setup: Setup, *, budget: MemoryBudget | None = None) -> Engine:
        from tests.toy_subject.engine import Engine

        return Engine(setup, setup.device)

    def load_fake(self, setup: Setup, card: FakeCard, budget: MemoryBudget) -> Engine:
        from tests.toy_subject.engine import Engine

        return Engine(setup, "virtual")

    def stand_ins(self, setup: Setup) -> dict[str, Any]:
        return {}

    def repeated(self) -> tuple[type[nn.Module], ...]:
        from tests.toy_subject.network import Encoder

        return (Encoder,)

    def check(self, result: Result, plan: Plan) -> str | None:
        shape = (plan.request.batch_size, 2, plan.frames * SAMPLES_PER_FRAME)
        if tuple(result.audio.shape) != shape:
            return f"audio is {tuple(result.audio.shape)}, {shape} was asked for"
        return None if bool(result.audio.isfinite().all()) else "audio is not finite"

    def components(self, source: str) -> dict[str, Component]:
        from tests.toy_subject.network import component

        return {"network": component()}


SUBJECT = Toy()
