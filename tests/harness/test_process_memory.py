"""A process by its host and its card's driver: what is the allocator's, what is not, what cannot be told."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from fake_nvml import GIB, FakeGPU, FakeNVML

from harness import memory
from harness.memory import MemoryBudget, swapped_bytes
from harness.process_memory import ProcessAccount
from harness.records.memory import ProcessMemory
from harness.spans import record, span
from harness.stage_memory import StageMemory

ON_CARD = ("driver_bytes", "driver_peak_bytes", "context_bytes", "spilled_bytes")


class Budget(MemoryBudget):
    """Of an allocator that has reserved so much, and once more."""

    def __init__(self, reserved_gib: float, peak_gib: float):
        reserved, peak = int(reserved_gib * GIB), int(peak_gib * GIB)
        self._device = SimpleNamespace(  # type: ignore[assignment]
            used_bytes=lambda: reserved,
            peak_bytes=lambda: peak,
            allocated_bytes=lambda: reserved,
            peak_allocated_bytes=lambda: peak,
            reset_peak=lambda: None,
        )
        self.cap_bytes = None


@pytest.fixture
def gpu(monkeypatch) -> FakeGPU:
    gpu = FakeGPU()
    FakeNVML(monkeypatch, gpu)
    return gpu


def on_card(process: ProcessMemory) -> list[float | None]:
    sizes = [getattr(process, name) for name in ON_CARD]
    return [None if size is None else size / GIB for size in sizes]


@pytest.mark.parametrize(
    ("reserved", "peak", "driver", "whole", "expected"),
    [
        (4, 6, 4.5, 9, [4.5, 6.5, 0.5, 0]),  # two of what was reserved are given back
        (4, 4, 4, 4, [4, 4, 0, 0]),
        (9, 9, 7.5, 7.5, [7.5, 7.5, None, 1.5]),  # the rest is in the host's memory, and a context somewhere
        (4, 6, None, 9, [None] * 4),  # as in a container: what is on the card may be another's
        (9, 9, None, 7.5, [None, None, None, 1.5]),  # of all processes together there is less on the card
    ],
)
def test_what_the_driver_counts_beside_what_the_allocator_has(gpu, reserved, peak, driver, whole, expected):
    gpu.holds(None if driver is None else int(driver * GIB))
    gpu.used_bytes = int(whole * GIB)
    with ProcessAccount("cuda", Budget(reserved, peak)) as account:
        assert on_card(account.read()) == expected


@pytest.mark.parametrize("device", ["cpu", "mps", "virtual", "cuda:1"])
def test_of_what_is_no_card_of_the_drivers_nothing_is_said_of_one(gpu, device):
    """Though there is a card, and this process is on it."""
    gpu.holds(GIB)
    with ProcessAccount(device, Budget(4, 6)) as account:
        process = account.read()
    assert on_card(process) == [None] * 4 and process.rss_bytes > 0


def test_swap_is_what_linux_says_and_unknown_elsewhere(monkeypatch, tmp_path):
    status = tmp_path / "status"
    monkeypatch.setattr(memory._Cpu, "STATUS", status)
    assert swapped_bytes() is None
    status.write_text("VmHWM:\t  300 kB\nVmSwap:\t     12 kB\n")
    assert swapped_bytes() == 12 * 1024
    with ProcessAccount("cpu", MemoryBudget("cpu")) as account:
        assert (account.read().swap_bytes, account.read().rss_peak_bytes) == (12 * 1024, 300 * 1024)
    status.write_text("VmHWM:\t  300 kB\n")
    assert swapped_bytes() is None


def test_the_most_of_two_is_the_larger_of_each_that_is_known():
    one = ProcessMemory(rss_bytes=3, rss_peak_bytes=4, driver_bytes=5, context_bytes=0)
    other = ProcessMemory(rss_bytes=2, rss_peak_bytes=6, driver_bytes=7, swap_bytes=0)
    most = ProcessMemory(rss_bytes=3, rss_peak_bytes=6, swap_bytes=0, driver_bytes=7, context_bytes=0)
    assert one.most(other) == other.most(one) == most


def test_a_stage_has_what_the_driver_counts_where_it_ends(gpu, monkeypatch):
    monkeypatch.setattr(torch.cuda, "synchronize", lambda *_: None)
    gpu.holds(int(4.5 * GIB))
    with StageMemory(torch.device("cuda"), Budget(4, 6), lambda: GIB) as watched, record(), span("works"):
        gpu.holds(5 * GIB)
    found = watched.found()
    start, works = found.boundaries
    assert [one.context_bytes for one in (start, works)] == [GIB // 2, GIB]
    assert (works.driver_bytes, works.driver_peak_bytes, works.reserved_bytes) == (5 * GIB, 7 * GIB, 4 * GIB)
    assert (found.most("context_bytes"), found.most("spilled_bytes"), found.error) == (GIB, 0, "")
