"""RVC as a subject of measurement (`harness.subject`). No torch import here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.checks import one_of
from harness.subject import DEFAULT_DURATION_S
from subjects.rvc import plan as plans
from subjects.rvc.plan import Plan
from subjects.rvc.request import Request, request
from subjects.rvc.setup import Setup

if TYPE_CHECKING:
    from torch import nn

    from harness.memory import MemoryBudget
    from harness.subject import Component
    from harness.trace.fake_card import FakeCard
    from subjects.rvc.backends.mlx_process import Mlx
    from subjects.rvc.engine import Engine
    from subjects.rvc.result import Result

MLX = "mlx"


@dataclass(frozen=True)
class RVC:
    """See `harness.subject.Subject` and `harness.subject.Compared`."""

    name: str = "rvc"
    stages: tuple[str, ...] = (
        *("load_audio", "pitch", "features", "text_encode", "flow", "generate"),
        *("post", "save"),
    )
    columns: Mapping[str, tuple[str, ...]] = field(
        default_factory=lambda: {
            "rmvpe_s": ("pitch",),
            "hubert_s": ("features",),
            "synthesis_s": ("text_encode", "flow", "generate"),
        }
    )
    tokens: tuple[str, str] | None = None

    def setup(self, source: str | None = None, **choices: Any) -> Setup:
        return Setup.choose(source, **choices)

    def request(self, duration_s: float | None = DEFAULT_DURATION_S, **fields: Any) -> Request:
        return request(duration_s, **fields)

    def resolve(self, request: Request, setup: Setup) -> Plan:
        return plans.resolve(request, setup)

    def load(self, setup: Setup, *, budget: MemoryBudget | None = None, threads: int | None = None) -> Engine:
        from subjects.rvc.engine import Engine

        return Engine.from_setup(setup, budget=budget, threads=threads)

    def load_fake(self, setup: Setup, card: FakeCard, budget: MemoryBudget) -> Engine:
        from subjects.rvc import fake_engine

        return fake_engine.load(setup, card, budget)

    def stand_ins(self, setup: Setup) -> dict[str, Any]:
        return {}

    def repeated(self) -> tuple[type[nn.Module], ...]:
        from subjects.rvc.fake_engine import REPEATED

        return REPEATED

    def check(self, result: Result, plan: Plan) -> str | None:
        """Count, length to the sample, finite, heard, not clipped."""
        from subjects.rvc.check import problem_of

        return problem_of(result, plan)

    def components(self, source: str) -> dict[str, Component]:
        from subjects.rvc.networks import components

        return components(source)

    def elsewhere(self, backend: str, setup: Setup) -> Mlx:
        from subjects.rvc.backends import mlx_process

        one_of("backend", backend, (MLX,))
        return mlx_process.Mlx(setup)

    def distance(self, setup: Setup, part: str, comparison: str) -> dict[str, Any]:
        from subjects.rvc.bench import parity

        return parity.distance(setup, part, comparison)

    def accuracy(self, voice: str) -> dict[str, float | None]:
        from subjects.rvc.bench import parity

        return parity.pitch_accuracy(voice)

    def fresh(self, plan: Plan) -> dict[str, Any]:
        import torch

        from subjects.rvc.bench import fresh

        return fresh.fresh(plan, torch.get_num_threads())


SUBJECT = RVC()
