"""Steps recorded on the fake card: one launch of many kernels, and a pool as large as the largest step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from allocations import CARD, small
from schedules import dit_layer

from harness.device import VIRTUAL
from harness.graphs import Graphs, recorders
from harness.trace.allocator import MIB, SHARED_SEGMENT_BYTES, SMALL_SEGMENT_BYTES
from harness.trace.fake_card import FakeCard
from harness.trace.libraries import CUDA
from harness.trace.stage_costs import PS, RESOURCES, Work


@pytest.fixture
def card() -> Iterator[FakeCard]:
    with FakeCard(CARD) as card, torch.inference_mode():
        yield card


def zeros(mib: float) -> torch.Tensor:
    return torch.zeros(int(mib * MIB), dtype=torch.uint8, device=VIRTUAL)


def takes(*sizes: float) -> None:
    """Blocks of so many MiB at once."""
    blocks = [zeros(size) for size in sizes]
    del blocks


def since(card: FakeCard, before: Work) -> Work:
    work = card.tracker.stage_costs.stage().total()
    return Work(*(new - old for new, old in zip(work, before, strict=True)))


def test_a_card_records_while_it_is_entered():
    assert VIRTUAL not in recorders
    with FakeCard(CARD) as card:
        assert Graphs.on(card.device).recording and not Graphs.on(card.device, wanted=False).recording
    assert VIRTUAL not in recorders


def test_a_replay_is_one_launch_of_the_same_kernels(card):
    """Each is as long as the longest of arithmetic, traffic and what any kernel takes."""
    large, few = zeros(64), zeros(0.001)

    def step() -> None:
        large.add_(1)
        few.add_(1)

    costs = card.tracker.stage_costs.stage
    ran, graphs = costs().total(), Graphs.on(card.device)
    step()
    called = since(card, ran)
    before = costs().total()
    graphs.record("step", step)
    assert since(card, before) == Work(launches=2)
    before, ps = costs().total(), [costs().bound_ps(resource) for resource in RESOURCES]
    graphs.run("step", step)
    assert since(card, before) == called._replace(launches=1, kernels=2)
    spent = {name: costs().bound_ps(name) - spent for name, spent in zip(RESOURCES, ps, strict=True)}
    assert spent == {
        "compute": 0,
        "memory": 2 * large.nbytes * PS // int(card.tracker.stage_costs._bytes_per_s),
        "launches": round(CARD.launch_s * PS),
        "kernels": round(CARD.kernel_s * PS),
        "link": 0,
    }


def test_steps_share_a_pool_that_is_there_as_long_as_they_are(card):
    """20 MiB for blocks of 3, and of 4 and 5; 30 more for one of 30, which leaves no room for 31."""
    memory, graphs = card.tracker.allocator, Graphs.on(card.device)
    kept = zeros(1)
    assert memory.reserved_bytes == SMALL_SEGMENT_BYTES

    graphs.record((3,), lambda: takes(3))
    assert memory.reserved_bytes == SMALL_SEGMENT_BYTES + SHARED_SEGMENT_BYTES
    graphs.record((4, 5), lambda: takes(4, 5))
    assert memory.reserved_bytes == SMALL_SEGMENT_BYTES + SHARED_SEGMENT_BYTES
    graphs.record((30,), lambda: takes(30))
    assert memory.reserved_bytes == SMALL_SEGMENT_BYTES + SHARED_SEGMENT_BYTES + 30 * MIB
    graphs.record((29,), lambda: takes(29))
    assert memory.reserved_bytes == SMALL_SEGMENT_BYTES + SHARED_SEGMENT_BYTES + 30 * MIB
    assert memory.allocated_bytes == kept.nbytes
    zeros(3)  # what is not recorded lies elsewhere
    assert memory.reserved_bytes == SMALL_SEGMENT_BYTES + 2 * SHARED_SEGMENT_BYTES + 30 * MIB
    torch.cuda.empty_cache()
    assert memory.reserved_bytes == SMALL_SEGMENT_BYTES + SHARED_SEGMENT_BYTES + 30 * MIB
    del graphs
    torch.cuda.empty_cache()
    assert memory.reserved_bytes == SMALL_SEGMENT_BYTES


def test_a_recording_may_be_too_large():
    """The cache is emptied before, and not while a step is recorded."""
    with FakeCard(replace(CARD, memory_gib=1), cap_bytes=64 * MIB) as card, torch.inference_mode():
        zeros(40)
        graphs = Graphs.on(card.device)
        graphs.record("fits", lambda: takes(60))
        graphs.record("does not", lambda: takes(62))
        assert str(graphs.failure).startswith("out of memory: ")
        assert card.tracker.allocator.retries == 0


def test_recorders_share_a_workspace():
    libraries = CUDA((8, 9))
    with FakeCard(CARD, libraries=libraries) as card, torch.inference_mode():
        for _ in range(2):
            Graphs.on(card.device).record("nothing", lambda: None)
        assert card.tracker.allocator.allocated_bytes == libraries.blas_bytes


@pytest.mark.parametrize(
    "meets",
    [
        lambda x: x[0].item(),
        lambda x: x.cpu(),
        lambda x: x.copy_(torch.zeros(4)),
        lambda x: x.add_(torch.zeros(4).to(VIRTUAL, non_blocking=True)),
    ],
)
def test_a_step_that_meets_the_host_is_not_recorded(card, meets):
    x = torch.zeros(4, device=VIRTUAL)
    graphs = Graphs.on(card.device)
    graphs.record("step", lambda: meets(x) and None)
    assert "a step that is recorded" in str(graphs.failure)
    x.add_(1)  # and the card goes on


@pytest.mark.parametrize("compiled", [False, True])
def test_a_layer_of_the_dit_is_a_launch(card, compiled):
    layer, args = dit_layer(small(torch.bfloat16, VIRTUAL))
    run = torch.compile(layer) if compiled else layer
    out = torch.zeros_like(args[0])

    def step() -> None:
        out.copy_(run(*args))

    before = card.tracker.stage_costs.stage().total()
    step()
    called = since(card, before)
    graphs = Graphs.on(card.device)
    graphs.record("layer", step)
    before = card.tracker.stage_costs.stage().total()
    graphs.run("layer", step)
    assert since(card, before) == called._replace(launches=1)
    assert called.kernels == (23 if compiled else 73) + 1
