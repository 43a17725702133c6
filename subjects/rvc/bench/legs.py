"""The sides of a comparison: which backends run, on what, and how a call of theirs is timed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import torch
from torch import Tensor

from harness.comparison import Leg, Work
from harness.device import hold_precision, keep_freed_memory, resolve_device, synchroniser
from harness.memory import budget_of
from harness.progress import Progress
from subjects.rvc.bench.sides import Sides
from subjects.rvc.setup import Setup

TORCH = "torch"


@dataclass(frozen=True, slots=True)
class Side:
    """PyTorch on a device: where networks are, how often they are called. `sides`: what runs beside it."""

    sides: Sides
    device: torch.device

    @classmethod
    def of(cls, sides: Sides) -> Side:
        """PyTorch's side of `sides`, its threads, formats and memory set. Raises MissingPrerequisite."""
        if sides.threads:
            torch.set_num_threads(sides.threads)
        device = resolve_device(sides.setup.device)
        hold_precision(device)
        keep_freed_memory(device)
        budget_of(sides.setup.accelerator, device)
        return cls(sides, device)

    @property
    def setup(self) -> Setup:
        return self.sides.setup

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
        sync, first_s, calls = synchroniser(self.device), None, []
        runs = self.sides.runs + self.sides.warmup
        with Progress(runs, runs) as progress:
            if self.sides.warmup:
                progress.step("the first call")
                first_s = once(call, sync)[0]
            for _ in range(self.sides.runs):
                progress.step("timed calls")
                calls.append(once(call, sync))
        seconds, cpu_s, outputs = zip(*calls, strict=True)
        return Timed(seconds, cpu_s, first_s, outputs[-1])


@dataclass(frozen=True, slots=True)
class Timed:
    """Seconds of calls, of the wall and of all processors, of the one before them, and the last result."""

    seconds: tuple[float, ...]
    cpu_s: tuple[float, ...]
    first_s: float | None
    output: Tensor


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
