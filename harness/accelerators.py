"""Detection of the accelerator a process would run on, by its driver: no torch, no CUDA context.

A card is sold by a nominal size and reports a little less: an "8 GB" card shows 7.66 GiB, a T4 of 16 GB with
ECC 14.56. `snap` gives the size it was sold by; `MAX_CUDA_VRAM` replaces what is reported, on any device.

    >>> detect("cpu").device
    'cpu'
"""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from harness import flags, nvml
from harness.checks import shown
from harness.errors import MissingPrerequisite, UsageError
from harness.memory import GIB

MAX_VRAM_VARIABLE = "MAX_CUDA_VRAM"
MAX_GB = 1024  # a size beyond was meant in MB

NOMINAL_GB = (4, 5, 6, 8, 10, 11, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 128, 141, 192)
# ECC and firmware take up to 9.2 % of a nominal size (T4: 14.56 of 16); 10 and 11 are in the list so
# that a 3080 (9.65) and a 1080 Ti (10.91) are not rounded up to 12.
SNAP_LOWEST_SHARE = 0.908
SNAP_HIGHEST_SHARE = 1.005


@dataclass(frozen=True, slots=True)
class Accelerator:
    """What generation would run on. `memory_gib` is as reported, or as simulated by MAX_CUDA_VRAM."""

    device: str  # cuda, mps or cpu
    name: str
    memory_gib: float
    simulated: bool = False
    capability: tuple[int, int] | None = None  # of CUDA, of a card that is not here; None: ask the driver


class TorchBuild(NamedTuple):
    """The torch that is installed: its version, and that of the CUDA it was built for, None for none."""

    version: str
    cuda: str | None


def torch_build() -> TorchBuild | None:
    """What torch says of itself in its files; None where there is none. It is not imported."""
    spec = find_spec("torch")
    file = spec and spec.origin and Path(spec.origin).with_name("version.py")
    if not file or not file.is_file():
        return None
    facts = dict(
        re.findall(r"^(__version__|cuda)\b[^=\n]*= *'([^']+)'", file.read_text("utf-8"), re.MULTILINE)
    )
    return TorchBuild(facts.get("__version__", ""), facts.get("cuda"))


def snap(reported_gib: float) -> float:
    """The nominal size in GB of a card that reports `reported_gib`, or that figure if it is none."""
    for nominal in NOMINAL_GB:
        if SNAP_LOWEST_SHARE * nominal <= reported_gib <= SNAP_HIGHEST_SHARE * nominal:
            return float(nominal)
    return reported_gib


def detect(device: str = "auto", environ: Mapping[str, str] = os.environ) -> Accelerator:
    """Find the device without importing torch; `auto` is cuda, then mps, then cpu.

    `MAX_CUDA_VRAM` (GB) replaces the reported size, on any device. Raises UsageError for an unknown
    device or a bad MAX_CUDA_VRAM, MissingPrerequisite for a device that was named and is not there.
    """
    named = re.fullmatch(r"auto|mps|cpu|cuda(?::([0-9]{1,4}))?", device)
    if named is None:
        raise UsageError(f"device: {device!r} is not known; use auto, cuda, cuda:N, mps or cpu")
    accelerator = None
    if device == "auto" or device.startswith("cuda"):
        accelerator = _cuda(int(named[1] or 0), environ)
    if device == "mps" or (device == "auto" and accelerator is None):
        accelerator = _mps()
    if device == "cpu" or (device == "auto" and accelerator is None):
        accelerator = Accelerator("cpu", "CPU", _ram_gib())
    if accelerator is None:
        raise MissingPrerequisite(f"device: {device} is not available here; use --device auto or cpu")
    simulated_gib = max_vram_gb(environ)
    return (
        accelerator
        if simulated_gib is None
        else replace(accelerator, memory_gib=simulated_gib, simulated=True)
    )


def of_run(device: str, simulated: Accelerator | None) -> tuple[Accelerator, str]:
    """The card of a run, `simulated` where one is, and the name of its device. Raises as `detect` does."""
    card = simulated or detect(device)
    return card, card.device if device == "auto" else device


def every(environ: Mapping[str, str] = os.environ) -> Iterator[tuple[str, Accelerator]]:
    """The devices of this machine by their names, at their own sizes; the first is what auto takes."""
    for index in itertools.count():
        card = _cuda(index, environ)
        if card is None:
            break
        yield f"cuda:{index}", replace(card, capability=capability(index, environ))
    if card := _mps():
        yield "mps", card
    yield "cpu", Accelerator("cpu", "CPU", _ram_gib())


def max_vram_gb(environ: Mapping[str, str] = os.environ) -> float | None:
    """`MAX_CUDA_VRAM` in GB, or None where it is not set or empty. Raises as `size_gb` does."""
    text = environ.get(MAX_VRAM_VARIABLE, "")
    return size_gb(MAX_VRAM_VARIABLE, text) if text.strip() else None


def size_gb(name: str, text: str) -> float:
    """The size of a card in GB that `text` is. Raises UsageError, about `name`, unless it is one."""
    try:
        size = flags.number(text)
    except argparse.ArgumentTypeError:
        size = 0.0
    if not 0 < size <= MAX_GB:
        raise UsageError(f"{name}: {shown(text)} is not allowed; use GB above 0 and up to {MAX_GB}, e.g. 8")
    return size


def _cuda(index: int, environ: Mapping[str, str]) -> Accelerator | None:
    with nvml.Card(nvml.name_of(index, environ)) as card:
        name, memory_bytes = card.name, card.total_bytes
    if name is None or memory_bytes is None:
        return None
    return Accelerator("cuda", str(name), memory_bytes / GIB)


def capability(index: int, environ: Mapping[str, str] = os.environ) -> tuple[int, int] | None:
    """Compute capability of CUDA device `index`, as the driver says; None without it."""
    with nvml.Card(nvml.name_of(index, environ)) as card:
        return card.capability


def capability_of(card: Accelerator, device: str) -> tuple[int, int] | None:
    """Compute capability of `card`, the CUDA `device`; None for one of another kind, and without a driver."""
    if card.device != "cuda" or card.capability:
        return card.capability
    return capability(int(device.partition(":")[2] or 0))


def _mps() -> Accelerator | None:
    """Apple silicon. Metal recommends about 75 % of unified memory to the GPU; asking it needs torch."""
    if platform.system() != "Darwin" or platform.machine() != "arm64":
        return None
    return Accelerator("mps", "Apple silicon", 0.75 * _ram_gib())


def _ram_gib() -> float:
    import psutil

    return psutil.virtual_memory().total / GIB
