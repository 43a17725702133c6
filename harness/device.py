"""Which device, which number format, how to wait for it and what to ask of its allocator.

Nothing is switched silently: a device that was named and is not there is an error with the reason.
"""

from __future__ import annotations

import ctypes
import platform
import sys
from collections.abc import Callable
from typing import Any

import torch

from harness import dtypes
from harness.errors import MissingPrerequisite, UsageError
from harness.records import machine

VIRTUAL = "virtual"  # the card that `harness.virtual_card` makes of host memory; unknown to torch without it
DTYPES = {dtypes.BF16: torch.bfloat16, dtypes.FP16: torch.float16, dtypes.FP32: torch.float32}


def resolve_device(name: str) -> torch.device:
    """`auto` takes cuda, then mps, then cpu. Raises UsageError or MissingPrerequisite."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"device: {name!r} is not allowed; use auto, cuda, cuda:N, mps or cpu") from None
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if (device.index or 0) >= count:
            raise MissingPrerequisite(
                f"device: {name} is not here (torch {torch.__version__} sees {count} CUDA devices); use cpu"
            )
    elif device.type == "mps":
        if not torch.backends.mps.is_available():
            raise MissingPrerequisite("device: mps is not here (no Metal device); use cpu")
    elif device.type not in ("cpu", VIRTUAL):
        raise UsageError(f"device: {name!r} is not allowed; use auto, cuda, cuda:N, mps or cpu")
    return device


def resolve_dtype(name: str, device: torch.device, stored: str) -> torch.dtype:
    """`auto`: what `harness.dtypes` chooses for a card; on cpu the checkpoint's bf16 where the processor has
    bf16 arithmetic, fp32 elsewhere (emulated bf16 is many times slower than fp32).

    What stands in for a card multiplies bf16 unless its capability is known. Raises UsageError.
    """
    chosen = dtypes.chosen(name, device.type, cuda_capability(device))
    if chosen != dtypes.AUTO:
        return DTYPES[chosen]
    if device.type != "cpu":
        return torch.bfloat16
    return torch.bfloat16 if stored == "bfloat16" and _cpu_has_bf16() else torch.float32


def _cpu_has_bf16() -> bool:
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(flag) for flag in ("avx512_bf16", "amx_bf16", "bf16", "arm_bf16"))


def _card_capability(device: torch.device) -> tuple[int, int]:
    # Compiled code asks: of functools.cache Dynamo warns, of a dictionary it takes what is there.
    if device not in _met:
        _met[device] = torch.cuda.get_device_capability(device)
    return _met[device]


_met: dict[torch.device, tuple[int, int]] = {}  # capabilities of cards
# What tells the compute capability of a card, by the type of its device.
capabilities: dict[str, Callable[[torch.device], tuple[int, int]]] = {"cuda": _card_capability}


def cuda_capability(device: torch.device) -> tuple[int, int] | None:
    """Compute capability of a CUDA card, or of what stands in for one in a trace; None for other devices."""
    find = capabilities.get(device.type)
    return find(device) if find else None


def hold_precision(device: torch.device) -> None:
    """On a CUDA card, let fp32 be fp32 and sums of fp16 be fp32.

    By default cuDNN multiplies fp32 as TF32, of 10 bits, and cuBLAS adds the parts of a long sum of fp16 in
    fp16, which ends at 65,504. It holds for the whole process.
    """
    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False


def synchroniser(*devices: torch.device) -> Callable[[], None] | None:
    """What waits for the queues of devices; None where calls return when the work is done."""
    waits = [wait for device in devices if (wait := _synchroniser(device))]
    if len(waits) < 2:
        return waits[0] if waits else None

    def each() -> None:
        for wait in waits:
            wait()

    return each


def _synchroniser(device: torch.device) -> Callable[[], None] | None:
    if device.type == "cuda":
        return lambda: torch.cuda.synchronize(device)
    return torch.mps.synchronize if device.type == "mps" else None


def keep_freed_memory(device: torch.device) -> None:
    """On a CPU under glibc, let freed activations be reused instead of handed back to the kernel.

    By default every large tensor is a fresh mapping whose pages fault in one by one and are unmapped
    when it dies; at 48 kHz that costs more than the arithmetic (tiny VAE, 15 s of audio: 0.36 s with,
    0.13 s without, same peak). It holds for the whole process. CUDA and MPS cache by themselves.
    """
    if device.type == "cpu":
        _tune_malloc(mmap_threshold=1 << 30, trim_threshold=(1 << 31) - 1)


def return_freed_memory() -> None:
    """Under glibc, let every large tensor be a mapping of its own, gone when it is freed: for loading.

    By default the first one freed raises the size below which tensors share one heap, and what a quantized
    model leaves of the weights it was made from are holes in it: a DiT that should peak at 0.37 of its
    unquantized bytes peaked at 1.07. It holds until `keep_freed_memory`.
    """
    _tune_malloc(mmap_threshold=1 << 20, trim_threshold=1 << 20)


def trim_freed_memory() -> None:
    """Under glibc, hand what is freed and kept for reuse back to the kernel, now."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim:
        trim(0)


def _tune_malloc(mmap_threshold: int, trim_threshold: int) -> None:
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have none
    if mallopt:
        m_trim_threshold, m_mmap_threshold = -1, -3  # malloc.h
        mallopt(m_mmap_threshold, mmap_threshold)
        mallopt(m_trim_threshold, trim_threshold)


def describe(device: torch.device) -> str:
    """Name of the device as its maker has it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "mps":
        return "Apple GPU"
    return machine.cpu_name() or platform.machine()
