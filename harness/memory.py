"""How much memory there is, is left, and was used at most: one object for cuda, mps and cpu.

Everything that decides by memory (offload, VAE tiles, the LM's cache) asks a `MemoryBudget` and
nothing else, because the device's own answer ignores a cap that is in force: under a simulated 8 GB
card, `torch.cuda.mem_get_info` still reports the 80 GB of the real one.

    budget = MemoryBudget("cuda", cap_bytes=8 * GIB)
    budget.free_bytes()     # min(free on the device, cap - used)
    budget.reset_peak(); ...; budget.peak_bytes()

"Used" is what a cap limits: on cuda the bytes the allocator *reserved* (tensors, cache and
fragmentation), on mps the driver's allocation, on cpu the resident set of the process. The module
imports without torch; on cpu it never needs it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch

    from harness.accelerators import Accelerator

GIB = 2**30
# A CUDA process holds about this much outside PyTorch's allocator (driver context, kernels, cuBLAS).
CONTEXT_BYTES = GIB // 2
CONTEXT_SHARE = 1 / 8  # of a card below 4 GB, which exists only as a scaled-down one


def context_within(size_gb: float, of_card: int = CONTEXT_BYTES) -> int:
    """Bytes of a context on a card that is not here: `of_card`, as far as one of `size_gb` has room for it.

    The allocator's cap leaves it out and the peak adds it back, so that both speak of a card.
    """
    return min(of_card, int(size_gb * GIB * CONTEXT_SHARE))


def hand_back() -> None:
    """Return what torch's allocators keep for reuse to the device, where a budget sees it as free."""
    torch = sys.modules.get("torch")
    if torch is None:
        return
    torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()


def swapped_bytes() -> int | None:
    """What of this process is swapped out; None where the system does not tell."""
    return _Cpu.status_bytes("VmSwap")


class _Device(Protocol):
    """What one kind of device can say. `peak_source` names where the peak comes from."""

    peak_source: str

    def total_bytes(self) -> int: ...
    def available_bytes(self) -> int: ...
    def used_bytes(self) -> int: ...
    def allocated_bytes(self) -> int: ...
    def peak_bytes(self) -> int: ...
    def peak_allocated_bytes(self) -> int: ...
    def reset_peak(self) -> None: ...


# What stands in for cards, by the type of their devices: the memory of one, by its name.
stand_ins: dict[str, Callable[[str], _Device]] = {}


class MemoryBudget:
    """Memory of one device under an optional cap. All figures in bytes, read when asked.

    `device`: `cuda`, `cuda:N`, `mps`, `cpu` or a torch.device. `cap_bytes`: what this process may use
    of it; installing the cap is the caller's business (`tiersim`), knowing it is this object's.
    """

    def __init__(self, device: str | torch.device, cap_bytes: int | None = None):
        kind = str(device).partition(":")[0]
        kinds: dict[str, Callable[[str], _Device]] = {"cuda": _Cuda, "mps": _Mps, "cpu": _Cpu}
        if kind not in kinds | stand_ins:
            raise ValueError(f"device: {str(device)!r} has no memory budget; use one of {', '.join(kinds)}")
        self._device = (kinds | stand_ins)[kind](str(device))
        self.cap_bytes = cap_bytes

    def total_bytes(self) -> int:
        """Size of the device, or the cap where that is smaller."""
        total = self._device.total_bytes()
        return total if self.cap_bytes is None else min(total, self.cap_bytes)

    def used_bytes(self) -> int:
        """What counts against the cap now."""
        return self._device.used_bytes()

    def allocated_bytes(self) -> int:
        """What tensors hold now: less than `used_bytes` on cuda, where the allocator caches."""
        return self._device.allocated_bytes()

    def free_bytes(self) -> int:
        """What can still be asked for: free on the device, and within the cap. Never negative."""
        free = self._device.available_bytes()
        if self.cap_bytes is not None:
            free = min(free, self.cap_bytes - self._device.used_bytes())
        return max(0, free)

    def peak_bytes(self) -> int:
        """The most that counted against the cap since `reset_peak` (see `peak_source`)."""
        return self._device.peak_bytes()

    def peak_allocated_bytes(self) -> int:
        """The most that tensors held: less than `peak_bytes` on cuda, where the allocator caches."""
        return self._device.peak_allocated_bytes()

    def reset_peak(self) -> None:
        """Start a new peak at the present use."""
        self._device.reset_peak()

    @property
    def peak_source(self) -> str:
        """Where `peak_bytes` comes from, for the report; says so if it could not be reset."""
        return self._device.peak_source


def hold_to(device: torch.device, size_gib: float) -> MemoryBudget:
    """Hold this process on the CUDA `device` to a card of `size_gib`, and give the budget of that.

    PyTorch's allocator refuses what goes beyond, context left out: running out of memory is then real. It
    holds for the life of the process.
    """
    import torch

    cap_bytes = max(int(size_gib * GIB) - CONTEXT_BYTES, 0)
    share = min(1.0, cap_bytes / MemoryBudget(device).total_bytes())
    torch.cuda.set_per_process_memory_fraction(share, device.index or 0)  # which wants a number
    return MemoryBudget(device, cap_bytes)


def budget_of(card: Accelerator, device: torch.device) -> MemoryBudget:
    """The memory of `device`. Where `MAX_CUDA_VRAM` says how large a CUDA `card` is, this process is held to
    that from here on (`hold_to`): ask for it before anything is loaded."""
    if card.simulated and device.type == "cuda":
        return hold_to(device, card.memory_gib)
    return MemoryBudget(device)


class _Cuda:
    """The caching allocator's counters; the CUDA context (CONTEXT_BYTES) is outside them."""

    peak_source = "torch.cuda.max_memory_reserved"

    def __init__(self, device: str):
        import torch

        self._cuda = torch.cuda
        self._device = torch.device(device)

    def total_bytes(self) -> int:
        return self._cuda.mem_get_info(self._device)[1]

    def available_bytes(self) -> int:
        return self._cuda.mem_get_info(self._device)[0]

    def used_bytes(self) -> int:
        return self._cuda.memory_reserved(self._device)

    def allocated_bytes(self) -> int:
        return self._cuda.memory_allocated(self._device)

    def peak_bytes(self) -> int:
        return self._cuda.max_memory_reserved(self._device)

    def peak_allocated_bytes(self) -> int:
        return self._cuda.max_memory_allocated(self._device)

    def reset_peak(self) -> None:
        self._cuda.reset_peak_memory_stats(self._device)


class _Mps:
    """Unified memory. Metal keeps no peak, so it is the most that any question here has seen."""

    peak_source = "torch.mps.driver_allocated_memory, sampled"

    def __init__(self, device: str):
        import torch

        self._mps = torch.mps
        self._peak = 0

    def total_bytes(self) -> int:
        return self._mps.recommended_max_memory()

    def available_bytes(self) -> int:
        return self.total_bytes() - self.used_bytes()

    def used_bytes(self) -> int:
        used = self._mps.driver_allocated_memory()
        self._peak = max(self._peak, used)
        return used

    def allocated_bytes(self) -> int:
        return self._mps.current_allocated_memory()

    def peak_bytes(self) -> int:
        self.used_bytes()
        return self._peak

    def peak_allocated_bytes(self) -> int:
        return self.peak_bytes()

    def reset_peak(self) -> None:
        self._peak = 0


class _Cpu:
    """The process's resident set.

    Linux keeps its high-water mark (VmHWM) per address space, and writing 5 to `clear_refs` resets it.
    `ru_maxrss` is the fallback only: it survives `exec`, so a child reports the size its parent had
    when it was spawned, and nothing resets it.
    """

    STATUS = Path("/proc/self/status")
    CLEAR_REFS = Path("/proc/self/clear_refs")

    def __init__(self, device: str):
        import psutil

        self._psutil = psutil
        self._process = psutil.Process()
        self.peak_source = "VmHWM" if self._high_water_bytes() is not None else "ru_maxrss, never reset"

    @classmethod
    def status_bytes(cls, field: str) -> int | None:
        """A figure that Linux has of this process; None where there is none."""
        try:
            match = re.search(rf"^{field}:\s+(\d+) kB", cls.STATUS.read_text(), re.MULTILINE)
        except OSError:
            return None
        return int(match[1]) * 1024 if match else None

    def _high_water_bytes(self) -> int | None:
        return self.status_bytes("VmHWM")

    def total_bytes(self) -> int:
        return self._psutil.virtual_memory().total

    def available_bytes(self) -> int:
        return self._psutil.virtual_memory().available

    def used_bytes(self) -> int:
        return self._process.memory_info().rss

    def allocated_bytes(self) -> int:
        return self.used_bytes()

    def peak_bytes(self) -> int:
        high_water = self._high_water_bytes()
        if high_water is not None:
            return high_water
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

    def peak_allocated_bytes(self) -> int:
        return self.peak_bytes()

    def reset_peak(self) -> None:
        if self._high_water_bytes() is None:
            return
        try:
            self.CLEAR_REFS.write_text("5")
            self.peak_source = "VmHWM, reset"
        except OSError:
            self.peak_source = "VmHWM, never reset"
