"""The matrices of a transformer's layers in eight or four bits: half or a quarter of bf16, for an error.

    name               weights    activations        a product is
    int8_weight_only   int8       as they are        of x and the widened integers, then scaled
    fp8_weight_only    fp8 e4m3   as they are        of x and the weights put back into x's format
    w8a8_dynamic       int8       int8, per token    of integers, then scaled twice
    int4_weight_only   int4       as they are        one kernel, which puts the weights back as it reads them

In eight bits every output channel has a scale of its own. Integers are spread evenly over twice the channel's
largest weight, so no error is above a 255th of that; e4m3 keeps three bits of mantissa at every size. In four
bits each group of up to 128 weights has a scale and a middle: 15 steps from its smallest to its largest.
The linears of attention and MLP are nearly all of a transformer; norms, embeddings and whatever is outside
the layers stay. Those that read one input (`harness.nn.packed`) are products of their own again.

w8a8 alone computes in eight bits. int8 and fp8 widen a matrix whenever it is used, which costs time unless
the layers are compiled. What is scaled after the product would leave the range of fp16 before it is: there
the input is made smaller first, and the result larger (`harness.nn.scaled`). int4 is laid out for the device
that multiplies it, and made there: for the tensor cores of a card, rows filled up to whole 1024s (torchao's
`tile_packed_to_4d`, PyTorch's `_weight_int4pack_mm`), or for a CPU (`_weight_int4pack_mm_for_cpu`).

    quantize(layer, "int8_weight_only")

What can run here is answered without importing torch.
"""

from __future__ import annotations

import logging
import platform
import re
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import accelerators, dtypes
from harness.checks import one_of
from harness.errors import UsageError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

INT8, FP8, W8A8, INT4 = SCHEMES = ("int8_weight_only", "fp8_weight_only", "w8a8_dynamic", "int4_weight_only")
QUANTIZATIONS = (INT8, FP8, W8A8)  # of a network that takes all its tokens at once
LM_QUANTIZATIONS = (INT8, INT4)  # of one that writes them one by one, and reads every weight for each
# The first cards that multiply e4m3 (Ada) and bf16, which int4 is put back into (Ampere); CUDA C++
# Programming Guide, "Compute Capabilities".
CAPABILITIES = {FP8: (8, 9), INT4: dtypes.AMPERE}
GROUPS = (128, 64, 32)  # weights of a row with one scale in int4: the most that divide the row
OUTS, ROW = 16, 1024  # a CPU takes rows of int4 in so many, a card fills each up to so many weights
CPUINFO = Path("/proc/cpuinfo")


def unavailable(
    name: str, device: str, capability: tuple[int, int] | None = None, dtype: str = dtypes.AUTO
) -> str | None:
    """Why `name` cannot run on `device` (`cpu`, `cuda`, `cuda:N`, `mps` or `virtual`) in `dtype`, or None.

    `capability`: of a CUDA card that is not here; else the driver says. Imports no torch. The answer
    continues a sentence whose subject is the quantization. Raises UsageError for a name that is none of
    SCHEMES.
    """
    one_of("quantization", name, SCHEMES)
    kind, _, index = device.partition(":")
    if kind not in ("cpu", "cuda", "virtual"):
        return f"is not for {kind}; use cuda, cpu or no quantization"
    if find_spec("torchao") is None:
        return "needs torchao, which is not installed; pip install '.[quantization]'"
    if kind == "virtual" and name == INT4:
        return f"has no layout for a card that the host stands for; use {INT8}"
    if kind == "cuda" and name in CAPABILITIES:
        too_old = _too_old(name, capability or accelerators.capability(int(index or 0)))
        if too_old:
            return too_old
    if kind == "cuda" and name == INT4 and dtype not in (dtypes.AUTO, dtypes.BF16):
        return f"is of bf16 only on a card, and this is {dtype}; use bf16, or {INT8}"
    if kind == "cpu" and name == W8A8:
        return _without_exact_int8()
    return None


def _too_old(name: str, capability: tuple[int, int] | None) -> str | None:
    needed = "needs a card of compute capability {}.{} or above".format(*CAPABILITIES[name])
    if capability is None:
        return f"{needed}, and there is none; use {INT8}"
    if capability < CAPABILITIES[name]:
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


def unfit(name: str, matrices: Iterable[tuple[int, int]]) -> str | None:
    """Why `name` is not for one of `matrices [out, in]`, or None; worded as `unavailable`."""
    if name != INT4:
        return None
    odd = next(((out, row) for out, row in matrices if out % OUTS or row % GROUPS[-1]), None)
    return odd and f"needs matrices of whole {OUTS}s by {GROUPS[-1]}s, not {odd[0]} by {odd[1]}; use {INT8}"


def matrix_bytes(name: str | None, out: int, row: int, dtype_bytes: int, on_card: bool = True) -> int:
    """Bytes of a matrix `[out, row]` with its scales; int8 has a middle of a byte, too."""
    if name is None:
        return out * row * dtype_bytes
    if name == INT4:
        padded = -(-row // ROW) * ROW if on_card else row
        return out * padded // 2 + 2 * dtype_bytes * out * (padded // _group(row))
    return out * (row + 4 + (name != FP8))


def _group(row: int) -> int:
    return next(group for group in GROUPS if row % group == 0)


def quantize(layer: nn.Module, name: str) -> None:
    """Quantize every linear of `layer` in place and where it is: int4 where it is to be multiplied.

    Weights become torchao's tensors, which answer to the shape and dtype of what they stand for: int8 or fp8
    `[out, in]` and fp32 scales `[out, 1]`, or the packed integers of int4 and `[in / group, out, 2]`, scale
    and middle. `harness.residency.stored` tells what they are made of. Raises UsageError, also for a matrix
    that int4 does not fit.
    """
    one_of("quantization", name, SCHEMES)
    from torch import nn

    from harness.nn.packed import unpack
    from harness.nn.scaled import hold_sums

    unpack(layer)
    quantize_ = quantizer()
    for linear in [module for module in layer.modules() if isinstance(module, nn.Linear)]:
        with _current(linear.weight.device):
            quantize_(linear, _config(name, linear.weight))
    if name in (INT8, W8A8):
        hold_sums(layer)


def _current(device: torch.device) -> AbstractContextManager[object]:
    """Inside, `device` is the current card, which is the one that torchao asks what it can do."""
    import torch

    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def quantizer() -> Callable[[nn.Linear, Any], None]:
    """What quantizes a linear in place, as a configuration of torchao's says."""
    return _torchao()[0]


def _config(name: str, weight: Tensor) -> Any:
    """How torchao quantizes `weight`; its settings of the compiler would be the whole process's."""
    from harness.device import cuda_capability

    if name != INT4:
        return _torchao()[1][name](set_inductor_config=False)
    out, row = weight.shape
    if reason := unfit(name, [(out, row)]):
        raise UsageError(f"quantization: {name} {reason}")
    group = _group(row)
    if cuda_capability(weight.device):
        from torchao.quantization import Int4WeightOnlyConfig
        from torchao.quantization.quantize_.workflows import Int4PackingFormat

        layout = Int4PackingFormat.TILE_PACKED_TO_4D
        return Int4WeightOnlyConfig(group, set_inductor_config=False, int4_packing_format=layout)
    from torchao.prototype.quantization.int4 import PrototypeInt4WeightOnlyConfig

    return PrototypeInt4WeightOnlyConfig(group, set_inductor_config=False)


def place(name: str, home: torch.device, device: torch.device) -> torch.device:
    """Where to quantize a layer that is kept at `home` and multiplied on `device`."""
    return device if name == INT4 else home


def scheme_of(weight: Tensor) -> str | None:
    """The name of the quantization of a matrix, read from what it is made of; None for a plain one."""
    if not hasattr(weight, "qdata"):
        return None
    stored: Any = weight
    if stored.qdata.dtype.is_floating_point:
        return FP8
    if hasattr(stored, "scale_and_zero"):
        return INT4
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
