"""RVC as a subject of measurement (`harness.subject`). No torch import here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from harness.checks import one_of
from harness.subject import Folder

if TYPE_CHECKING:
    from subjects.rvc.backends.mlx_process import Mlx
    from subjects.rvc.plan import Plan
    from subjects.rvc.result import Result
    from subjects.rvc.setup import Setup

MLX = "mlx"


@dataclass(frozen=True)
class RVC(Folder):
    """See `harness.subject.Subject` and `harness.subject.Compared`."""

    package: ClassVar[str] = "subjects.rvc"
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

    def check(self, result: Result, plan: Plan) -> str | None:
        """Count, length to the sample, finite, heard, not clipped."""
        from subjects.rvc.check import problem_of

        return problem_of(result, plan)

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
