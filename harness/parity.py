"""Numerical parity: the distance between two results that should be equal (quantized, compiled, elsewhere).

    compare(velocity, quantized.velocity)    Parity(relative_rms=0.008, max_abs=0.05, snr_db=41.9)

Relative RMS is the error's length as a share of the reference's, and the signal-to-noise ratio the same in
decibels: -20·log10. Neither depends on how loud or how long the reference is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from harness.subject import Component

LIMITS = {torch.float64: 1e-10, torch.float32: 1e-4}  # of the relative RMS, by what both sides compute in


class InDouble(TorchFunctionMode):
    """Whatever the code inside asks to do in float32 is done in float64."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.Tensor.float:
            func = torch.Tensor.double
        args = [torch.float64 if arg is torch.float32 else arg for arg in args]
        kwargs = {k: torch.float64 if v is torch.float32 else v for k, v in (kwargs or {}).items()}
        return func(*args, **kwargs)


def precision(dtype: torch.dtype) -> AbstractContextManager[object]:
    """The context in which an oracle is built and run at `dtype`.

    In fp64 what it fixes to fp32 (norms, angles) is lifted, so that formulas alone are compared.
    """
    return InDouble() if dtype == torch.float64 else nullcontext()


@dataclass(frozen=True, slots=True)
class Parity:
    """Distance from a reference. Of equal results: 0, 0 and infinite."""

    relative_rms: float
    max_abs: float  # in the unit of what was compared
    snr_db: float


def compare(reference: Tensor, other: Tensor) -> Parity:
    """The distance of `other` from `reference`, real tensors of one shape, in fp64.

    Where either holds an infinity or a NaN the distance is infinite; so is the relative one from a
    reference of zeros. Raises ValueError for other shapes, and for tensors without elements.
    """
    if reference.shape != other.shape or not reference.numel():
        raise ValueError(f"cannot compare {tuple(reference.shape)} with {tuple(other.shape)}")
    wide, noisy = (tensor.detach().to("cpu", torch.float64) for tensor in (reference, other))
    error = noisy - wide
    if not error.isfinite().all():
        return Parity(math.inf, math.inf, -math.inf)
    noise, signal = (torch.linalg.vector_norm(tensor).item() for tensor in (error, wide))
    if noise == 0:
        return Parity(0.0, 0.0, math.inf)
    relative = noise / signal if signal else math.inf
    return Parity(relative, error.abs().max().item(), -20 * math.log10(relative))


@dataclass(frozen=True, slots=True)
class OracleCheck:
    """A component beside its oracle in `dtype`. `control`: the same once a weight was changed.

    It passes within `limit`, and means something only if the control is beyond it.
    """

    dtype: torch.dtype
    limit: float
    parity: Parity
    control: Parity

    @property
    def passes(self) -> bool:
        return self.parity.relative_rms <= self.limit

    @property
    def trips(self) -> bool:
        return self.control.relative_rms > self.limit


@torch.inference_mode()
def check(
    component: Component, size: int, limits: Mapping[torch.dtype, float] = LIMITS, seed: int = 0
) -> tuple[OracleCheck, ...]:
    """Run `component` on inputs of `size` beside its oracle, on the CPU, in each dtype of `limits`.

    Raises ValueError for a component without an oracle, MissingPrerequisite where the oracle's library is
    not installed.
    """
    if component.oracle is None:
        raise ValueError(f"{component.name} has no oracle")
    inputs = component.inputs(size, torch.Generator().manual_seed(seed))
    checks = []
    for dtype, limit in limits.items():
        network = component.build(torch.device("cpu"), dtype)
        cast = [value.to(dtype) if value.is_floating_point() else value for value in inputs]
        reference = component.oracle(network, *cast)
        parity = compare(reference, component.run(network, *cast))
        _change(network)
        control = compare(reference, component.run(network, *cast))
        checks.append(OracleCheck(dtype, limit, parity, control))
    return tuple(checks)


def _change(network: nn.Module) -> None:
    """Double one row of the last matrix."""
    *_, matrix = (parameter for parameter in network.parameters() if parameter.dim() > 1)
    matrix[0] *= 2
