"""MLX in a process of its own, beside torch in this one: the same calls in turn, how far apart, how long."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor

from harness.comparison import Leg, UnequalWork, Work, in_turn, in_words, of_pairs, ratio
from harness.device import synchroniser
from harness.parity import Parity, compare
from subjects.rvc.backends.mlx_process import Call, Mlx, no_measure
from subjects.rvc.bench.legs import Side, once
from subjects.rvc.bench.report import Report, absent
from subjects.rvc.bench.sides import Sides

LIMIT = 1e-5  # of the relative RMS of a network from torch's


@dataclass(frozen=True, slots=True)
class Beside:
    """MLX's leg, and torch's of the same calls, if any; how far apart their outputs are, at most `limit`."""

    leg: Leg
    output: Tensor
    reference: Leg | None = None
    expected: Tensor | None = None
    parity: Parity | None = None
    limit: float | None = LIMIT

    @property
    def holds(self) -> bool:
        """Whether they agree; alone it does."""
        return self.parity is None or self.limit is None or self.parity.relative_rms <= self.limit

    def lines(self, name: str) -> list[str]:
        """What it came to, in words."""
        leg = self.leg
        lines = [
            f"{name}: {leg.backend} on {leg.device}, median {1e3 * leg.median_s:.1f} ms,"
            f" {1e3 * median(leg.cpu_s):.1f} of all processors"
        ]
        if self.parity and self.limit is not None:
            apart = f"relative RMS {self.parity.relative_rms:.1e} from torch, at most {self.limit:.0e}"
            lines.append(f"  {apart}{'' if self.holds else ': FAILED'}")
        if self.reference:
            lines.append(f"  {_times(leg, self.reference)}")
        return lines

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        parity = asdict(self.parity) if self.parity else None
        reference = self.reference.as_dict() if self.reference else None
        return {"leg": self.leg.as_dict(), "torch": reference, "parity": parity, "limit": self.limit}


def by_backend(
    sides: Sides, report: Report, mlx: Callable[..., bool], pytorch: Callable[..., bool], *what: Any
) -> int:
    """Measure in MLX, then in PyTorch, each where it is to run, and tell which do not; returns the exit code.

    `mlx(side, process, report, *what)`, `pytorch(side, report, *what)`: measure, and say whether what came is
    what it has to be: if not, the code is 1.
    """
    one, holds = Side.of(sides), True
    with mlx_of(one) as process:
        if process:
            holds = mlx(one, process, report, *what)
    if not sides.mlx_alone:
        holds = pytorch(one, report, *what) and holds
    absent(sides.absent)
    return 0 if holds else 1


@contextmanager
def mlx_of(one: Side) -> Iterator[Mlx | None]:
    """The process of MLX, where it runs; what it lacks is told."""
    if one.sides.mlx is None:
        yield None
        return
    with Mlx(one.sides.mlx, torch.get_num_threads()) as mlx:
        if mlx.note:
            print(f"{mlx.backend}: {mlx.note}")
        yield mlx


def beside(
    one: Side,
    mlx: Mlx,
    name: str,
    inputs: tuple[Tensor, ...],
    work: Work,
    torchs: Callable[[], Callable[[], Tensor]],
    *,
    limit: float | None = LIMIT,
) -> Beside:
    """Calls of `name` (see `Mlx.call`) and, unless MLX is alone, in turn of what `torchs` makes."""
    sides, setup = one.sides, mlx.setup
    sync, weights = synchroniser(one.device), setup.voice or f"{setup.source}/{setup.model}"
    place = {key: mlx.environment[key] for key in ("backend", "device", "dtype")}

    def theirs() -> Call:
        return mlx.call(name, inputs)

    first_s = theirs().seconds if sides.warmup else None
    if sides.mlx_alone:
        calls = [theirs() for _ in range(sides.runs)]
        return Beside(_leg(place, work._replace(weights=weights), calls, first_s), calls[-1].output)
    call = torchs()

    def ours() -> Call:
        return Call(*once(call, sync))

    if sides.warmup:
        ours()
    calls, others = map(list, zip(*in_turn(theirs, ours, sides.runs), strict=True))
    leg = _leg(place, work._replace(weights=weights), calls, first_s)
    place = {"backend": one.backend, "device": str(one.device), "dtype": "float32"}
    output, expected = calls[-1].output, others[-1].output.cpu()
    return Beside(leg, output, _leg(place, work, others), expected, compare(expected, output), limit)


def _leg(place: Mapping[str, Any], work: Work, calls: list[Call], first_s: float | None = None) -> Leg:
    seconds, cpu_s = (tuple(getattr(call, name) for call in calls) for name in ("seconds", "cpu_s"))
    return Leg(**place, work=work, seconds=seconds, cpu_s=cpu_s, first_s=first_s)


def _times(leg: Leg, reference: Leg) -> str:
    """How many times as long MLX takes; on a CPU of processors' time, and no claim about MLX."""
    try:
        wall = ratio(leg, reference)
    except UnequalWork as error:
        return str(error)
    if (reason := no_measure(leg.backend)) is None:
        return f"{in_words(wall)} times as long as {reference.backend}"
    cpu = in_words(of_pairs(leg.cpu_s, reference.cpu_s))
    return f"processor time of {reference.backend} x {cpu};\n  {reason}"
