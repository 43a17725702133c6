"""Memory of this process at one moment: by the host's account, and by the driver's of its card.

account = ProcessAccount("cuda:1", budget)
account.read().driver_bytes     # context, libraries and allocator; None where the driver does not tell
"""

from __future__ import annotations

from typing import Self

from harness.memory import MemoryBudget, swapped_bytes
from harness.nvml import Card
from harness.records.memory import ProcessMemory


class ProcessAccount:
    """Reads memory of this process. `device`: as torch names it; `budget`: its memory.

    Of what stands in for a card, and of any other device than a CUDA card, no driver is asked.
    """

    def __init__(self, device: str, budget: MemoryBudget):
        self._budget = budget
        self._host = MemoryBudget("cpu")
        self._card = Card.of_device(device)

    @property
    def rss_source(self) -> str:
        """Where the peak of the resident set comes from; says so if it could not be reset."""
        return self._host.peak_source

    def read(self) -> ProcessMemory:
        """What the process has now. Peaks are since `reset_peak`, of the budget's since its own.

        To be called where nothing else allocates: the allocator and the driver are asked one after the other.
        """
        host = self._host
        return ProcessMemory(
            rss_bytes=host.used_bytes(),
            rss_peak_bytes=host.peak_bytes(),
            swap_bytes=swapped_bytes(),
            **self._on_card(),
        )

    def _on_card(self) -> dict[str, int | None]:
        """What the driver counts beside what the allocator has reserved.

        Where it does not tell processes apart, more reserved than is in use by all of them has been spilled;
        less says nothing.
        """
        if not self._card.found:
            return {}
        reserved_bytes, driver_bytes = self._budget.used_bytes(), self._card.process_bytes
        if driver_bytes is None:
            used_bytes = self._card.used_bytes
            return {
                "spilled_bytes": None if used_bytes is None else _beyond(reserved_bytes, used_bytes) or None
            }
        given_back_bytes = self._budget.peak_bytes() - reserved_bytes
        return {
            "driver_bytes": driver_bytes,
            "driver_peak_bytes": driver_bytes + given_back_bytes,
            "context_bytes": driver_bytes - reserved_bytes if driver_bytes >= reserved_bytes else None,
            "spilled_bytes": _beyond(reserved_bytes, driver_bytes),
        }

    def reset_peak(self) -> None:
        """Start a new peak of the resident set."""
        self._host.reset_peak()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the driver go."""
        self._card.close()


def _beyond(size: int, limit: int) -> int:
    return max(0, size - limit)
