"""A driver that is not here: NVML's functions, answering for cards that a test makes up and may change.

What of a card is None the driver does not tell, as NVML has it: by an error.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

GIB = 2**30


@dataclass
class FakeGPU:
    """One card, in NVML's own units: mW, mJ, MHz, bytes by process."""

    name: str | None = "NVIDIA H200"
    uuid: str | None = "GPU-1"
    total_bytes: int | None = 150_754_820_096
    used_bytes: int = 0
    processes: dict[int, int | None] | None = field(default_factory=dict)
    capability: tuple[int, int] | None = (9, 0)
    energy_mj: int | None = 0
    power_mw: int | None = 350_000
    limit_mw: int | None = 699_500
    sm_mhz: int | None = 1980
    memory_mhz: int | None = 3201
    temperature_c: int | None = 41
    reasons: int | None = 0
    mig: bool | None = False
    old_driver: bool = False  # which knows the reasons by their first name alone

    def holds(self, size_bytes: int | None) -> None:
        """This process holds so much of the card."""
        self.processes = {os.getpid(): size_bytes}
        self.used_bytes = size_bytes or 0


class FakeNVML:
    """The driver of `cards`; without a version there is none. `held`: how often it was started and not let go
    of."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *cards: FakeGPU):
        self.cards = list(cards)
        self.driver: str | None = "580.65"
        self.countable = True
        self.held = 0
        for name, answer in inspect.getmembers(self, inspect.ismethod):
            if name.startswith("nvml"):
                monkeypatch.setattr(pynvml, name, answer)
        for name, answer in self._of_cards().items():
            monkeypatch.setattr(pynvml, f"nvmlDeviceGet{name}", answer)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def nvmlInit(self) -> None:
        known(self.driver)
        self.held += 1

    def nvmlShutdown(self) -> None:
        self.held -= 1

    def nvmlSystemGetDriverVersion(self) -> str:
        return known(self.driver)

    def nvmlDeviceGetCount(self) -> int:
        return known(len(self.cards) if self.countable else None)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> FakeGPU:
        assert self.held > 0, "the driver is not started"
        return known(self.cards[index] if index < len(self.cards) else None)

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> FakeGPU:
        return known(next((card for card in self.cards if card.uuid == uuid), None))

    def _of_cards(self) -> dict[str, Callable[..., Any]]:
        """Questions about a card, which is its own handle."""
        return {
            "Name": lambda card: known(card.name),
            "UUID": lambda card: known(card.uuid),
            "MemoryInfo": _memory,
            "ComputeRunningProcesses": lambda card: [
                SimpleNamespace(pid=pid, usedGpuMemory=size) for pid, size in known(card.processes).items()
            ],
            "CudaComputeCapability": lambda card: known(card.capability),
            "TotalEnergyConsumption": lambda card: known(card.energy_mj),
            "PowerUsage": lambda card: known(card.power_mw),
            "EnforcedPowerLimit": lambda card: known(card.limit_mw),
            "ClockInfo": lambda card, kind: known(
                {pynvml.NVML_CLOCK_SM: card.sm_mhz, pynvml.NVML_CLOCK_MEM: card.memory_mhz}[kind]
            ),
            "Temperature": lambda card, kind: known(card.temperature_c),
            "CurrentClocksEventReasons": lambda card: known(None if card.old_driver else card.reasons),
            "CurrentClocksThrottleReasons": lambda card: known(card.reasons),
            "MigMode": lambda card: [int(known(card.mig)), 1],
        }


def _memory(card: FakeGPU) -> SimpleNamespace:
    return SimpleNamespace(total=known(card.total_bytes), used=card.used_bytes)


def known(value: Any) -> Any:
    """`value`, or NVML's error for what it does not tell."""
    if value is None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
    return value
