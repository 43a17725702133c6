"""Memory at the end of each stage: known sizes, what cannot be said, and what cannot be."""

from __future__ import annotations

import mmap
import os

import pytest
import torch

from harness import memory
from harness.cards import find
from harness.device import VIRTUAL
from harness.memory import GIB, MemoryBudget
from harness.records.memory import Boundary, MemoryByStage
from harness.spans import record, span
from harness.stage_memory import StageMemory, shortfall
from harness.trace.fake_card import FakeCard
from harness.virtual_card import MIB, VirtualBudget

CPU = torch.device("cpu")
ON_CARD = ("allocated_bytes", "allocated_peak_bytes", "reserved_bytes", "driver_bytes")
resettable = pytest.mark.skipif(
    not os.access(memory._Cpu.CLEAR_REFS, os.W_OK), reason="needs Linux's /proc/self/clear_refs"
)


def on_cpu(weights_bytes: int = 0) -> StageMemory:
    return StageMemory(CPU, MemoryBudget("cpu"), lambda: weights_bytes)


def pages(mib: int) -> tuple[mmap.mmap, torch.Tensor]:
    """A tensor on fresh pages, whatever an allocator has kept."""
    block = mmap.mmap(-1, mib * MIB)
    return block, torch.frombuffer(block, dtype=torch.uint8).fill_(1)


@resettable
def test_a_tensor_is_seen_in_its_stage_and_its_peak_in_no_later_one():
    with on_cpu() as watched, record():
        with span("holds"):
            block, tensor = pages(64)
        with span("frees"):
            del tensor
            block.close()
        with span("rests"):
            pass
    found = watched.found()
    start, holds, frees, rests = found.boundaries
    assert [one.stage for one in found.boundaries] == ["start", "holds", "frees", "rests"]
    assert holds.rss_bytes - start.rss_bytes == pytest.approx(64 * MIB, abs=8 * MIB)
    assert holds.rss_peak_bytes >= holds.rss_bytes - MIB  # the kernel's two counts are not taken at once
    assert frees.rss_peak_bytes - frees.rss_bytes == pytest.approx(64 * MIB, abs=8 * MIB)
    assert rests.rss_peak_bytes - rests.rss_bytes < 16 * MIB
    assert found.rss_source == "VmHWM, reset" and not found.error
    assert {getattr(one, name) for one in found.boundaries for name in ON_CARD} == {None}


def test_a_peak_that_cannot_be_reset_is_since_the_start_and_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(memory._Cpu, "CLEAR_REFS", tmp_path / "no" / "such")
    with on_cpu() as watched, record(), span("stage"):
        pass
    assert watched.found().rss_source in ("VmHWM, never reset", "ru_maxrss, never reset")


def test_a_card_has_the_figures_of_its_allocator():
    with FakeCard(find("rtx4090")) as card:
        kept = torch.empty(3 * MIB, dtype=torch.uint8, device=VIRTUAL)
        with StageMemory(card.device, VirtualBudget(card), lambda: 3 * MIB) as watched, record():
            with span("works"):
                torch.empty(40 * MIB, dtype=torch.uint8, device=VIRTUAL).add_(1)
            with span("rests"):
                pass
        found = watched.found()
        del kept
    start, works, rests = found.boundaries
    assert [(one.allocated_bytes, one.allocated_peak_bytes) for one in (start, works, rests)] == [
        (3 * MIB, 3 * MIB),
        (3 * MIB, 43 * MIB),
        (3 * MIB, 3 * MIB),
    ]
    assert works.reserved_bytes == rests.reserved_bytes == 60 * MIB  # 20 for the small one, 40 for the other
    assert works.driver_bytes is None and works.weights_bytes == 3 * MIB and not found.error


def boundary(**sizes: int | None) -> Boundary:
    return Boundary(
        **{"stage": "diffuse", "rss_bytes": GIB, "rss_peak_bytes": GIB, "weights_bytes": 0} | sizes
    )


HELD = {"allocated_bytes": 2 * GIB, "allocated_peak_bytes": 2 * GIB, "reserved_bytes": 2 * GIB,
        "weights_bytes": 2 * GIB}  # fmt: skip


@pytest.mark.parametrize(
    ("sizes", "figure"),
    [
        ({"weights_bytes": GIB}, None),
        ({"weights_bytes": GIB + 1}, "RSS peak"),
        (HELD, None),  # of more than the process has: they are on the card
        (HELD | {"allocated_peak_bytes": 2 * GIB - 1}, "allocated peak"),
        (HELD | {"reserved_bytes": GIB}, "reserved"),
        (HELD | {"driver_bytes": GIB}, "driver"),
        (HELD | {"driver_bytes": 2 * GIB}, None),
    ],
    ids=str,
)
def test_less_than_the_weights_cannot_be(sizes, figure):
    error = shortfall((boundary(), boundary(**sizes)))
    assert error.partition(" of ")[0] == (f"diffuse: the {figure}" if figure else "")


def test_what_cannot_be_is_in_what_is_found():
    with on_cpu(weights_bytes=2**50) as watched:
        pass
    found = watched.found()
    assert isinstance(found, MemoryByStage)
    assert found.error.endswith(
        "MiB is below the weights it ran with, 1,073,741,824 MiB; the measurement is wrong"
    )
