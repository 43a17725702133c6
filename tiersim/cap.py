"""Memory caps: limit what this process may allocate, and prove that the limit holds.

    cuda      the caching allocator's fraction: checked before each new segment, against reserved bytes.
              The driver context is outside it, which is why the caller subtracts a reference context.
    mps       the same by name, compared with everything the process allocated through Metal.
    virtual   a card made of host memory (`harness.virtual_card`): every tensor on it, to the byte.
    host      the control group the supervisor put this process in, where it may make some (`tiersim.cgroup`).
              Else RLIMIT_DATA on Linux (private writable memory, reserved or not), plus the supervisor's
              watchdog on the resident set; elsewhere the watchdog alone, which nothing here can verify.

RLIMIT_DATA comes after `import torch` and a warm-up: below the import's own need the process dies in
ways that say nothing about the case, and libgomp exits with code 1 when a thread cannot start. The
hard limit lies 64 MiB above the soft one: an out-of-memory must still be able to say so.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from harness.memory import MemoryBudget
from harness.oom import classify
from tiersim import cgroup
from tiersim.record import Cap

MIB = 2**20
RESERVE_BYTES = 64 * MIB


class CapError(Exception):
    """The cap could not be installed, or did not hold when tried."""


def install(kind: str, device: str, cap_bytes: int, beside: int = 0) -> tuple[Cap, MemoryBudget]:
    """Cap this process at `cap_bytes` of `kind`, and the budget that knows it; so are the cards `beside` it.

    Raises CapError unless the cap is proven; `Cap.verified` is False only where nothing can prove it.
    """
    if kind == "virtual":
        return _cap_virtual(cap_bytes, beside)
    if kind == "cuda":
        for number in range(1, beside + 1):
            _cap_cuda(f"cuda:{number}", cap_bytes)
    caps = {"cuda": _cap_cuda, "mps": _cap_mps, "host": _cap_host}
    return caps[kind](device, cap_bytes), MemoryBudget(device, cap_bytes)


def _cap_virtual(cap_bytes: int, beside: int) -> tuple[Cap, MemoryBudget]:
    from harness.virtual_card import VirtualBudget, VirtualCard

    others = [VirtualCard(cap_bytes) for _ in range(beside)]
    card = VirtualCard(cap_bytes, others).__enter__()  # for the rest of the process
    _try("virtual", too_much=cap_bytes + 1, enough=min(cap_bytes // 2, RESERVE_BYTES))
    budget = VirtualBudget(card)
    budget.reset_peak()
    return Cap("virtual", cap_bytes, verified=True), budget


def loosen() -> None:
    """After an out-of-memory: open the reserve above the soft limit, so that it can be reported."""
    if sys.platform == "linux":
        import resource

        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))


def _cap_cuda(device: str, cap_bytes: int) -> Cap:
    import torch

    backend = torch.cuda.get_allocator_backend()
    if backend != "native":
        raise CapError(f"the {backend} allocator cannot be capped; unset it in PYTORCH_CUDA_ALLOC_CONF")
    fraction = min(1.0, cap_bytes / MemoryBudget(device).total_bytes())
    index = torch.device(device).index or 0  # these two want a number
    torch.cuda.set_per_process_memory_fraction(fraction, index)
    in_force = torch.cuda.get_per_process_memory_fraction(index)
    if abs(in_force - fraction) > 1e-6:
        raise CapError(f"asked for a memory fraction of {fraction:.6f}, {in_force:.6f} is in force")
    _try(device, too_much=cap_bytes + RESERVE_BYTES, enough=cap_bytes // 2)
    torch.cuda.empty_cache()
    return Cap("cuda-fraction", cap_bytes, verified=True)


def _cap_mps(device: str, cap_bytes: int) -> Cap:
    import torch

    torch.mps.set_per_process_memory_fraction(min(1.0, cap_bytes / MemoryBudget(device).total_bytes()))
    _try(device, too_much=cap_bytes + RESERVE_BYTES, enough=cap_bytes // 2)
    torch.mps.empty_cache()
    return Cap("mps-fraction", cap_bytes, verified=True)


def _cap_host(device: str, cap_bytes: int) -> Cap:
    limit_bytes = cgroup.limit_bytes()  # whole pages
    if limit_bytes and limit_bytes <= cap_bytes:  # proven by the supervisor: exceeding it would be our end
        return Cap("cgroup", limit_bytes, verified=True)
    if sys.platform != "linux":
        return Cap("watchdog", cap_bytes, verified=False)
    return _cap_data(device, cap_bytes)


def _cap_data(device: str, cap_bytes: int) -> Cap:
    """Bound private memory so that it and the shared library pages together stay within the cap."""
    import resource

    _warm_up()
    private_bytes, shared_bytes = _status_bytes("VmData"), _status_bytes("RssFile", "RssShmem")
    limit_bytes = cap_bytes - shared_bytes
    if private_bytes >= limit_bytes:
        in_use = (private_bytes + shared_bytes) / MIB
        raise CapError(f"torch alone uses {in_use:.0f} MiB of host memory, the cap is {cap_bytes / MIB:.0f}")
    resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes, limit_bytes + RESERVE_BYTES))
    _try(device, too_much=cap_bytes, enough=(limit_bytes - private_bytes) // 2)
    return Cap("rlimit-data+watchdog", cap_bytes, verified=True)


def _warm_up() -> None:
    """Start torch's threads and load its matrix and convolution kernels."""
    import torch

    x = torch.ones(1, 16, 256)
    torch.nn.functional.conv1d(x, torch.ones(16, 16, 3))
    _ = x.mT @ x


def _status_bytes(*fields: str) -> int:
    text = Path("/proc/self/status").read_text()
    return sum(int(re.search(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE)[1]) * 1024 for name in fields)  # type: ignore[index]


def _try(device: str, too_much: int, enough: int) -> None:
    """The self-test: more than the cap must be refused, half of what it leaves must not."""
    refused = not _can_allocate(device, too_much)
    if not refused:
        raise CapError(f"{too_much / MIB:.0f} MiB could be allocated on {device}: the cap does not hold")
    if not _can_allocate(device, enough):
        raise CapError(f"{enough / MIB:.0f} MiB within the cap could not be allocated on {device}")


def _can_allocate(device: str, size_bytes: int) -> bool:
    """Whether the cap lets it; what anything else refuses proves nothing, and is a CapError."""
    import torch

    try:
        torch.empty(size_bytes, dtype=torch.uint8, device=device)
    except (RuntimeError, MemoryError) as error:
        failure = classify(error)
        if failure.kind != ("host" if device == "cpu" else "device"):
            raise CapError(f"the cap could not be tried: {failure.words}") from None
        return False
    return True
