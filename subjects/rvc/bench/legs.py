"""The sides of a comparison: which backends run, on what, and how a call of theirs is timed."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import torch
from torch import Tensor

from harness.checks import within
from harness.comparison import Leg, Work
from harness.device import hold_precision, keep_freed_memory, resolve_device, synchroniser
from harness.errors import MissingPrerequisite, UsageError
from subjects.rvc.backends import mlx_process
from subjects.rvc.setup import Setup

TORCH, MLX = "torch", "mlx"
TORCH_ONLY = "PyTorch alone is measured here; audio-parity has MLX"
MOST_RUNS, MOST_THREADS = 1_000, 1_024


@dataclass(frozen=True, slots=True)
class Side:
    """PyTorch on a device: where networks are, and how often they are called. `mlx`: the setup that MLX has
    beside it, or alone, where it runs. `absent`: why a backend that was not left out does not run, by its
    name."""

    setup: Setup
    device: torch.device
    runs: int
    warmup: bool
    absent: dict[str, str]
    mlx: Setup | None = None
    mlx_alone: bool = False

    @property
    def backend(self) -> str:
        """torch-cpu, torch-cuda, torch-mps."""
        return f"{TORCH}-{self.device.type}"

    @property
    def weights(self) -> str:
        """Where they come from."""
        return self.setup.voice or f"{self.setup.source}/{self.setup.model}"

    def leg(self, network: torch.nn.Module, work: Work, calls: Timed) -> Leg:
        """Of timed `calls` of `network`, whose device and dtype are read back."""
        parameters = [*network.parameters()]
        return Leg(
            backend=self.backend,
            device=", ".join(sorted({str(parameter.device) for parameter in parameters})),
            dtype=", ".join(
                sorted({str(parameter.dtype).removeprefix("torch.") for parameter in parameters})
            ),
            work=work,
            seconds=calls.seconds,
            cpu_s=calls.cpu_s,
            first_s=calls.first_s,
        )

    def work(self, inputs: Sequence[Tensor], samples: int, frames: int, flop: int) -> Work:
        """The descriptor of a call."""
        return Work(hashed(inputs), self.weights, samples, frames, flop, torch.get_num_threads())

    def timed(self, call: Callable[[], Tensor]) -> Timed:
        """As many calls as were asked for, behind one that is not counted."""
        sync = synchroniser(self.device)
        first_s = once(call, sync)[0] if self.warmup else None
        ran = [once(call, sync) for _ in range(self.runs)]
        return Timed(tuple(run[0] for run in ran), tuple(run[1] for run in ran), first_s, ran[-1][2])


@dataclass(frozen=True, slots=True)
class Timed:
    """Seconds of calls, of the wall and of all processors, of the one before them, and the last result."""

    seconds: tuple[float, ...]
    cpu_s: tuple[float, ...]
    first_s: float | None
    output: Tensor


def side(options: argparse.Namespace, *, has_mlx: bool = True) -> Side:
    """What the flags of a measuring command say; `has_mlx`: whether MLX has a part in it.

    Raises UsageError, MissingPrerequisite.
    """
    within("runs", options.runs, 1, MOST_RUNS, kind=int)
    if options.threads is not None:
        within("threads", options.threads, 1, MOST_THREADS, kind=int)
    for flag, value in (("--mlx-only", options.mlx_only), ("--mlx-model", options.mlx_model)):
        if options.pytorch_only and value:
            raise UsageError(f"--pytorch-only: given together with {flag}; use one of them")
    absent = {} if options.pytorch_only else mlx_absent() if has_mlx else {MLX: TORCH_ONLY}
    if absent and (options.mlx_only or options.mlx_model):
        flag = "--mlx-only" if options.mlx_only else "--mlx-model"
        error = MissingPrerequisite if has_mlx else UsageError
        raise error(f"{flag}: {absent[MLX]}; use --pytorch-only")
    choices = {"model": options.model, "device": options.device, "strict": options.strict}
    setup = Setup.choose(options.source, voice=options.voice, **choices)
    mlx = None
    if not options.pytorch_only and not absent:
        mlx = Setup.choose(options.source, voice=options.mlx_model or options.voice, **choices)
    if options.threads:
        torch.set_num_threads(options.threads)
    device = resolve_device(setup.device)
    hold_precision(device)
    keep_freed_memory(device)
    return Side(setup, device, options.runs, not options.no_warmup, absent, mlx, options.mlx_only)


def mlx_absent() -> dict[str, str]:
    """Why MLX does not run, or nothing."""
    reason = mlx_process.absent()
    return {MLX: reason} if reason else {}


def once(call: Callable[[], Tensor], sync: Callable[[], None] | None) -> tuple[float, float, Tensor]:
    """Seconds of the wall and of all processors that a call takes, and its result."""
    if sync:
        sync()
    start, cpu = time.perf_counter(), time.process_time()
    with torch.inference_mode():
        output = call()
    if sync:
        sync()
    return time.perf_counter() - start, time.process_time() - cpu, output


def hashed(tensors: Sequence[Tensor] | Sequence[Any]) -> str:
    """The first 16 digits of the SHA-256 of what `tensors` hold."""
    digest = sha256()
    for tensor in tensors:
        values = torch.as_tensor(tensor).contiguous().cpu()
        digest.update(f"{tuple(values.shape)} {values.dtype};".encode())
        digest.update(values.view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
