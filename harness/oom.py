"""Out-of-memory errors: is a failure one, of which memory, and what is said of it in words.

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
from dataclasses import dataclass, replace
from typing import Literal

from harness.memory import GIB, hand_back
from harness.spans import path_of

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
UNITS = {"GiB": 2**30, "MiB": 2**20, "KiB": 2**10, "bytes": 1}
AMOUNT = r"([\d.]+) (bytes|KiB|MiB|GiB)"
REQUESTED = re.compile(f"ried to allocate {AMOUNT}")
FREE, TOTAL = re.compile(f"of which {AMOUNT} is free"), re.compile(f"total capacity of {AMOUNT}")
# Of an allocator that is held to a part of its card: the part, and what it has reserved of it.
ALLOWED, ALLOCATED, UNALLOCATED = (
    re.compile(AMOUNT + text)
    for text in (" allowed; ", " is allocated by PyTorch", " is reserved by PyTorch but unallocated")
)
# What a stage does, where its name does not say it.
DOING = {
    "load": "while loading",
    "offload": "while offloading",
    "transfer": "while copying between devices",
    "compile": "while compiling",
    "other": "between stages",
}


@dataclass(frozen=True, slots=True)
class Failure:
    """An exception reduced to what may be kept of it.

    Of memory that ran out: how much more was asked for, and was free of how much, as far as it tells.
    `stage`: the path of the spans that it left, with the outermost first.
    """

    kind: Kind
    error: str
    message: str
    requested_bytes: int | None = None
    free_bytes: int | None = None
    total_bytes: int | None = None
    stage: str = ""

    @property
    def words(self) -> str:
        """What to say of it: of memory that ran out `in_words`, else the exception's own message."""
        if self.kind == "other":
            return self.message
        return in_words(self.kind, self.requested_bytes, self.free_bytes, self.total_bytes, self.stage)

    @property
    def exception(self) -> str:
        """What it was, for a record."""
        return f"{self.error}: {self.message}"


def in_words(
    kind: Kind,
    requested_bytes: int | None = None,
    free_bytes: int | None = None,
    total_bytes: int | None = None,
    stage: str = "",
) -> str:
    """That memory ran out: how much more was asked for, in which stage, how much was free of how much.

    What is not known is left out.

    >>> in_words("device", 24 * 2**20, int(23.1 * 2**20), 8 * GIB, "offload")
    '24 MiB more were asked for while offloading; 23.1 MiB were free of 8 GB'
    """
    whose = "" if kind == "device" else " of the host's memory"
    what = f"{kind} memory ran out" if requested_bytes is None else ""
    what = what or f"{_amount(requested_bytes or 0)} more{whose} were asked for"
    first, _, part = stage.partition("/")
    doing = DOING.get(first, f"in {first}" if first else "")
    where = f" {doing} {part}".rstrip() if first == "load" else f" {doing}".rstrip()
    if free_bytes is None:
        return f"{what}{where}"
    of_total = f" of {round(total_bytes / GIB, 2):g} GB" if total_bytes else ""
    return f"{what}{where}; {_amount(free_bytes)} were free{of_total}"


def _amount(size_bytes: int) -> str:
    unit = next((unit for unit, size in UNITS.items() if size_bytes >= size), "bytes")
    return f"{round(size_bytes / UNITS[unit], 2 if unit == 'GiB' else 1):g} {unit}"


def classify(error: BaseException) -> Failure:
    """Reduce `error`, looking through what it was raised from."""
    for link in _chain(error):
        kind = _kind(link)
        if kind != "other":
            return replace(_failure(kind, link), stage=path_of(link) or path_of(error))
    return replace(_failure("other", error), stage=path_of(error))


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
    free_bytes, total_bytes = _left(message)
    return Failure(
        kind,
        type(error).__name__,
        message.partition("\n")[0],
        _bytes(REQUESTED, message),
        free_bytes,
        total_bytes,
    )


def _left(message: str) -> tuple[int | None, int | None]:
    """Bytes that were free, and of how many; under a cap of the allocator's of what it may have."""
    held = [_bytes(pattern, message) for pattern in (ALLOWED, ALLOCATED, UNALLOCATED)]
    allowed, allocated, unallocated = held
    if allowed is None or allocated is None or unallocated is None:
        return _bytes(FREE, message), _bytes(TOTAL, message)
    return max(allowed - allocated - unallocated, 0), allowed


def _bytes(pattern: re.Pattern[str], message: str) -> int | None:
    amount = pattern.search(message)
    return int(float(amount[1]) * UNITS[amount[2]]) if amount else None
