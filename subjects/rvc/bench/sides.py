"""Which backends a measuring command runs, on what, and how often, as its flags say. No torch import here."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from harness.checks import check_threads, within
from harness.errors import MissingPrerequisite, UsageError
from subjects.rvc.backends import mlx_process
from subjects.rvc.setup import Setup

MLX = "mlx"
TORCH_ONLY = "PyTorch alone is measured here; audio-parity has MLX"
MOST_RUNS = 1_000


@dataclass(frozen=True, slots=True)
class Sides:
    """What runs, and how often. `mlx`: the setup that MLX has beside PyTorch, or alone, where it runs.
    `absent`: why a backend that was not left out does not run, by its name."""

    setup: Setup
    runs: int
    warmup: bool
    threads: int | None
    absent: dict[str, str]
    mlx: Setup | None = None
    mlx_alone: bool = False

    @classmethod
    def of(cls, options: argparse.Namespace, *, has_mlx: bool = True) -> Sides:
        """What the flags say; `has_mlx`: whether MLX has a part in it.

        Raises UsageError, MissingPrerequisite.
        """
        runs = getattr(options, "runs", 1)  # a command that times nothing has no such flag
        within("runs", runs, 1, MOST_RUNS, kind=int)
        check_threads(options.threads)
        for flag, value in (("--mlx-only", options.mlx_only), ("--mlx-model", options.mlx_model)):
            if options.pytorch_only and value:
                raise UsageError(f"--pytorch-only: given together with {flag}; use one of them")
        absent = {} if options.pytorch_only else mlx_absent() if has_mlx else {MLX: TORCH_ONLY}
        if absent and (options.mlx_only or options.mlx_model):
            flag = "--mlx-only" if options.mlx_only else "--mlx-model"
            error = MissingPrerequisite if has_mlx else UsageError
            raise error(f"{flag}: {absent[MLX]}; use --pytorch-only")
        choices = {"device": options.device, "strict": options.strict}
        setup = mlx = Setup.choose(options.source, model=options.model, voice=options.voice, **choices)
        if options.pytorch_only or absent:
            mlx = None
        elif options.mlx_model:
            mlx = Setup.choose(options.source, voice=options.mlx_model, **choices)
        return cls(
            setup=setup,
            runs=runs,
            warmup=not getattr(options, "no_warmup", False),
            threads=options.threads,
            absent=absent,
            mlx=mlx,
            mlx_alone=options.mlx_only,
        )


def mlx_absent() -> dict[str, str]:
    """Why MLX does not run, or nothing."""
    reason = mlx_process.absent()
    return {MLX: reason} if reason else {}
