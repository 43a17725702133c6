"""Out-of-memory errors: is a failure one, and of which memory?

Types are asked first, texts second: only `torch.OutOfMemoryError` and `MemoryError` say it by type,
while PyTorch's CPU and MPS allocators, cuBLAS and mmap all raise a plain RuntimeError. The answer holds
strings only. An exception keeps its traceback, the traceback its frames and the frames their tensors,
so whoever stores the exception stores the very memory that was missing. For the same reason `attempt`
recovers after the `except` block: inside it the failed call's frames are still alive.
"""

from __future__ import annotations

import errno
import gc
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from harness.memory import hand_back

Kind = Literal["device", "host", "other"]

HOST_TEXTS = (
    "DefaultCPUAllocator: can't allocate",
    "unable to mmap",
    "can't start new thread",
    "could not create a primitive",  # oneDNN, when its scratch memory is refused
)
DEVICE_TEXTS = (
    "MPS backend out of memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_NOT_INITIALIZED",
    "NVML_SUCCESS == r INTERNAL ASSERT",
)
DEVICE_PATTERN = re.compile(r"CUDNN_STATUS_\w*ALLOC")
# What dies without an exception says so on stderr.
LOG_TEXTS = ("libgomp: Thread creation failed", "std::bad_alloc", "OpenBLAS error: Memory allocation")

CUDA_ERROR_MEMORY_ALLOCATION = 2
UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
REQUESTED = re.compile(r"ried to allocate ([\d.]+) (bytes|KiB|MiB|GiB)")


@dataclass(frozen=True, slots=True)
class Failure:
    """An exception reduced to what may be kept of it."""

    kind: Kind
    error: str
    message: str
    requested_bytes: int | None = None


def classify(error: BaseException) -> Failure:
    """Reduce `error`, looking through what it was raised from."""
    for link in _chain(error):
        kind = _kind(link)
        if kind != "other":
            return _failure(kind, link)
    return _failure("other", error)


def attempt(work: Callable[[], None], recoverable: bool = True) -> Failure | None:
    """Do `work`. When memory ran out in it: why, with all it held let go and given back to the device.

    Every other exception is raised, and with `recoverable` off an out-of-memory is, too.
    """
    try:
        work()
        return None
    except Exception as error:
        failure = classify(error)
        if failure.kind == "other" or not recoverable:
            raise
    gc.collect()
    hand_back()
    return failure


def host_oom_line(log: str) -> str | None:
    """The line by which a process that died without an exception says that host memory ran out."""
    return next((line for line in log.splitlines() if any(text in line for text in LOG_TEXTS)), None)


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__


def _kind(error: BaseException) -> Kind:
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return "device"
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return "host"
    if not isinstance(error, RuntimeError):
        return "other"
    text = str(error)
    if getattr(error, "error_code", None) == CUDA_ERROR_MEMORY_ALLOCATION:  # torch.AcceleratorError
        return "device"
    if any(t in text for t in DEVICE_TEXTS) or DEVICE_PATTERN.search(text):
        return "device"
    return "host" if any(t in text for t in HOST_TEXTS) else "other"


def _failure(kind: Kind, error: BaseException) -> Failure:
    message = str(error).strip()
    requested = REQUESTED.search(message)
    requested_bytes = int(float(requested[1]) * UNITS[requested[2]]) if requested else None
    return Failure(kind, type(error).__name__, message.partition("\n")[0], requested_bytes)
