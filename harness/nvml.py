"""What the NVIDIA driver tells of its cards, by NVML: no torch, and no CUDA context is made.

    with Card.of_device("cuda:1") as card:
        card.energy_j, card.throttling

None is what it does not tell, never zero: without a driver, its library or the card, of what a card has no
sensor for, of one instance of a split card. Nothing here raises.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, Self

VISIBLE_VARIABLE = "CUDA_VISIBLE_DEVICES"
# NVML's bits of why clocks are below those asked for. An idle card, bit 1, is not held back.
REASONS = {
    0x002: "clocks set by the user",
    0x004: "power cap",
    0x008: "hardware slowdown",
    0x010: "sync boost",
    0x020: "thermal slowdown by the driver",
    0x040: "thermal slowdown by the hardware",
    0x080: "power brake",
    0x100: "clocks of the display",
}
# Of a card that is slower than it could be. One at its power limit is at work.
SLOWED = frozenset(REASONS[bit] for bit in (0x008, 0x020, 0x040, 0x080))


class Card:
    """One card, by the name that CUDA_VISIBLE_DEVICES has for it: a number or a UUID. None is no card.

    The driver is held until the card is closed, or left.
    """

    def __init__(self, name: str | None):
        self._library: Any = None if name is None else _started()
        self._handle: Any = None if self._library is None else self._find(str(name))

    @classmethod
    def of_device(cls, device: str, environ: Mapping[str, str] = os.environ) -> Self:
        """The card that torch names `device`, "cuda" or "cuda:N"; of any other device there is none."""
        kind, _, index = device.partition(":")
        return cls(name_of(int(index or 0), environ) if kind == "cuda" else None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the driver go; of a closed card nothing is known."""
        if self._library is not None:
            _answer(self._library, "nvmlShutdown")
        self._library = self._handle = None

    def _find(self, name: str) -> Any:
        if name.startswith(("GPU-", "MIG-")):
            return _answer(self._library, "nvmlDeviceGetHandleByUUID", name)
        if not re.fullmatch("[0-9]{1,4}", name):
            return None
        return _answer(self._library, "nvmlDeviceGetHandleByIndex", int(name))

    def _ask(self, question: str, *about: Any) -> Any:
        if self._handle is None:
            return None
        return _answer(self._library, f"nvmlDeviceGet{question}", self._handle, *about)

    @property
    def found(self) -> bool:
        """Whether there is such a card."""
        return self._handle is not None

    @property
    def driver(self) -> str | None:
        """The driver's version."""
        return _answer(self._library, "nvmlSystemGetDriverVersion") if self.found else None

    @property
    def name(self) -> str | None:
        """As its maker has it."""
        return self._ask("Name")

    @property
    def uuid(self) -> str | None:
        return self._ask("UUID")

    @property
    def capability(self) -> tuple[int, int] | None:
        """CUDA compute capability."""
        return self._ask("CudaComputeCapability")

    @property
    def mig(self) -> bool | None:
        """Whether it is split into instances."""
        modes = self._ask("MigMode")  # what it is now, what it will be after a reset
        return None if modes is None else modes[0] == self._library.NVML_DEVICE_MIG_ENABLE

    @property
    def total_bytes(self) -> int | None:
        memory = self._ask("MemoryInfo")
        return None if memory is None else int(memory.total)

    @property
    def used_bytes(self) -> int | None:
        """In use by anybody."""
        memory = self._ask("MemoryInfo")
        return None if memory is None else int(memory.used)

    @property
    def process_bytes(self) -> int | None:
        """In use by this process: context, libraries and allocator together.

        None in a container, where the driver knows processes by other numbers, and on Windows.
        """
        processes = self._ask("ComputeRunningProcesses") or ()
        return next((one.usedGpuMemory for one in processes if one.pid == os.getpid()), None)

    @property
    def energy_j(self) -> float | None:
        """Joules since the driver was loaded, of the whole card; counted from Volta on, in steps of some tens
        of milliseconds."""
        return _thousandth(self._ask("TotalEnergyConsumption"))

    @property
    def power_w(self) -> float | None:
        return _thousandth(self._ask("PowerUsage"))

    @property
    def power_limit_w(self) -> float | None:
        """The one in force."""
        return _thousandth(self._ask("EnforcedPowerLimit"))

    @property
    def sm_clock_mhz(self) -> int | None:
        return None if self._library is None else self._ask("ClockInfo", self._library.NVML_CLOCK_SM)

    @property
    def memory_clock_mhz(self) -> int | None:
        return None if self._library is None else self._ask("ClockInfo", self._library.NVML_CLOCK_MEM)

    @property
    def temperature_c(self) -> int | None:
        return None if self._library is None else self._ask("Temperature", self._library.NVML_TEMPERATURE_GPU)

    @property
    def throttling(self) -> tuple[str, ...] | None:
        """Why clocks are below those asked for, as in REASONS; empty where they are not."""
        bits = self._ask("CurrentClocksEventReasons")
        if bits is None:
            bits = self._ask("CurrentClocksThrottleReasons")  # its name before driver 535
        return None if bits is None else tuple(reason for bit, reason in REASONS.items() if bits & bit)


def count() -> int | None:
    """How many cards the driver has, visible to CUDA or not; None without a driver."""
    library = _started()
    if library is None:
        return None
    number = _answer(library, "nvmlDeviceGetCount")
    _answer(library, "nvmlShutdown")
    return number


def visible(environ: Mapping[str, str] = os.environ) -> list[str]:
    """Names of the cards that CUDA may use: all of the machine's where CUDA_VISIBLE_DEVICES is not set."""
    listed = environ.get(VISIBLE_VARIABLE)
    if listed is None:
        return [str(index) for index in range(count() or 0)]
    return [name.strip() for name in listed.split(",") if name.strip() not in ("", "-1")]


def name_of(index: int, environ: Mapping[str, str] = os.environ) -> str | None:
    """The name of CUDA device `index`; None for one that is hidden."""
    listed = environ.get(VISIBLE_VARIABLE)
    if listed is None:
        return str(index)
    names = [name.strip() for name in listed.split(",")]
    return names[index] if index < len(names) else None


def _started() -> Any | None:
    """The library, which counts how often it was started; None without a driver."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    return pynvml


def _answer(library: Any, question: str, *about: Any) -> Any:
    try:
        return getattr(library, question)(*about)
    except library.NVMLError:
        return None


def _thousandth(value: int | None) -> float | None:
    return None if value is None else value / 1000
