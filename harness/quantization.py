"""The matrices of a transformer's layers in eight bits: half the bytes of bf16, for a small error.

    name               weights    activations        a product is
    int8_weight_only   int8       as they are        of x and the widened integers, then scaled
    fp8_weight_only    fp8 e4m3   as they are        of x and the weights put back into x's format
    w8a8_dynamic       int8       int8, per token    of integers, then scaled twice

Every output channel has a scale of its own. Integers are spread evenly over twice the channel's largest
weight, so no error is above a 255th of that; e4m3 keeps three bits of mantissa at every size. The linears of
attention and MLP are nearly all of a transformer; norms, embeddings and whatever is outside the layers stay.
Only the last scheme also computes in eight bits. The others widen a matrix whenever it is used, which costs
time unless the layers are compiled. What is scaled after the product would leave the range of fp16 before it
is: there the input is made smaller first, and the result larger (`harness.nn.scaled`).

    quantize(layer, "int8_weight_only")

What can run here is answered without importing torch.
"""

from __future__ import annotations

import logging
import platform
import re
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import accelerators
from harness.checks import one_of

if TYPE_CHECKING:
    from torch import Tensor, nn

INT8, FP8, W8A8 = QUANTIZATIONS = ("int8_weight_only", "fp8_weight_only", "w8a8_dynamic")
FP8_CAPABILITY = (8, 9)  # the first with e4m3: Ada; CUDA C++ Programming Guide, "Compute Capabilities"
CPUINFO = Path("/proc/cpuinfo")


def unavailable(name: str, device: str, capability: tuple[int, int] | None = None) -> str | None:
    """Why `name` cannot run on `device` (`cpu`, `cuda`, `cuda:N` or `mps`), or None.

    `capability`: of a CUDA card that is not here; else the driver says. Imports no torch. The answer
    continues a sentence whose subject is the quantization. Raises UsageError for a name that is none of
    QUANTIZATIONS.
    """
    one_of("quantization", name, QUANTIZATIONS)
    kind, _, index = device.partition(":")
    if kind not in ("cpu", "cuda"):
        return f"is not for {kind}; use cuda, cpu or no quantization"
    if find_spec("torchao") is None:
        return "needs torchao, which is not installed; pip install '.[quantization]'"
    if kind == "cuda" and name == FP8:
        return _without_fp8(capability or accelerators.capability(int(index or 0)))
    if kind == "cpu" and name == W8A8:
        return _without_exact_int8()
    return None


def _without_fp8(capability: tuple[int, int] | None) -> str | None:
    needed = "needs a card of compute capability 8.9 or above"
    if capability is None:
        return f"{needed}, and there is none; use {INT8}"
    if capability < FP8_CAPABILITY:
        return f"{needed}, and this one has {capability[0]}.{capability[1]}; use {INT8}"
    return None


def _without_exact_int8() -> str | None:
    """x86 before VNNI adds pairs of int8 products in 16 bits, which saturate: wrong by far, and silently."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return None
    text = CPUINFO.read_text(encoding="utf-8") if CPUINFO.exists() else ""
    if re.search(r"\b(avx512_vnni|avx_vnni|amx_int8)\b", text):
        return None
    return f"needs a processor with VNNI, without which int8 sums overflow; use {INT8}"


def quantize(layer: nn.Module, name: str) -> None:
    """Quantize every linear of `layer` in place and where it is. Raises UsageError.

    Weights become torchao's tensors: int8 or fp8 `[out, in]` and fp32 scales `[out, 1]`, which answer to the
    shape and dtype of what they stand for. `harness.residency.stored` tells what they are made of.
    """
    one_of("quantization", name, QUANTIZATIONS)
    from harness.nn.packed import unpack
    from harness.nn.scaled import hold_sums

    quantize_, configs = _torchao()
    unpack(layer)
    quantize_(layer, configs[name](set_inductor_config=False))  # which would be the whole process's
    if name != FP8:
        hold_sums(layer)


def scheme_of(weight: Tensor) -> str | None:
    """The name of the quantization of a matrix, read from what it is made of; None for a plain one."""
    if not hasattr(weight, "qdata"):
        return None
    stored: Any = weight
    if stored.qdata.dtype.is_floating_point:
        return FP8
    return INT8 if stored.act_quant_kwargs is None else W8A8


def scheme(layer: nn.Module) -> str | None:
    """The quantization of all linears of `layer`, or None; names joined by "and" where they differ."""
    from torch import nn

    names = {scheme_of(module.weight) for module in layer.modules() if isinstance(module, nn.Linear)}
    if names == {None}:
        return None
    return " and ".join(sorted(name or "none" for name in names))


@cache
def _torchao() -> tuple[Callable[..., None], dict[str, Callable[..., Any]]]:
    """What quantizes and the configuration of each name, imported without a word on kernels not used here."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        from torchao.quantization import (
            Float8WeightOnlyConfig,
            Int8DynamicActivationInt8WeightConfig,
            Int8WeightOnlyConfig,
            quantize_,
        )
    finally:
        logging.disable(disabled)
    return quantize_, {
        INT8: Int8WeightOnlyConfig,
        FP8: Float8WeightOnlyConfig,
        W8A8: Int8DynamicActivationInt8WeightConfig,
    }
