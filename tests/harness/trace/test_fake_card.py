"""A card without memory behaves as a card: what is where, what crosses over, and what that costs."""

from __future__ import annotations

import re

import pytest
import torch
from allocations import CARD, clerk_of

from acestep.audio import waveform
from harness import cards
from harness.device import VIRTUAL
from harness.graphs import Graphs
from harness.memory import MemoryBudget
from harness.trace.allocator import SMALL_SEGMENT_BYTES
from harness.trace.fake_card import FakeCard
from harness.trace.stage_costs import Work

HOST = torch.device("cpu")
OTHER = cards.find("rtx4060")  # beside CARD


def ones(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.ones(shape, dtype=dtype, device=VIRTUAL)


def test_a_tensor_is_where_it_was_made_or_sent(card):
    here, there = torch.ones(4), ones(4)
    assert (here.device, there.device) == (HOST, card.device)
    for made in (
        there + 1,
        there[1:],
        torch.zeros_like(there),
        here.to(VIRTUAL),
        here.to(there),
        there.double(),
    ):
        assert made.device == card.device
        assert card.holds(made)
    for made in (there.cpu(), there.to("cpu", torch.float64), there.to(here), here + 1):
        assert made.device == HOST
        assert not card.holds(made)
    assert torch.randn(3, generator=torch.Generator(card.device), device=VIRTUAL).device == card.device


def test_what_is_on_the_host_has_values():
    """Sizes, positions and schedules decide what runs, and are small."""
    assert torch.arange(4).tolist() == [0, 1, 2, 3]


def test_a_tensor_on_the_host_does_not_meet_one_on_the_card(card):
    there, here = ones(4, 4), torch.ones(4, 4)
    for meet in (lambda: there + here, lambda: there @ here, lambda: torch.cat((there, here))):
        with pytest.raises(RuntimeError, match="a tensor on the host meets one on the card"):
            meet()
    assert (there + torch.tensor(1.0)).device == card.device  # a number is an argument


def test_memory_is_counted_as_the_allocator_does(card):
    books = card.tracker.allocator
    kept = ones(1000)
    view = kept[:10]
    assert (books.live_bytes, books.allocated_bytes, books.reserved_bytes) == (
        4000,
        4096,
        SMALL_SEGMENT_BYTES,
    )
    del kept
    assert books.live_bytes == 4000  # the view holds all of it
    del view
    assert (books.live_bytes, books.reserved_bytes) == (0, SMALL_SEGMENT_BYTES)
    torch.cuda.empty_cache()
    assert books.reserved_bytes == 0 == card.used_bytes()
    assert card.peak_bytes() == SMALL_SEGMENT_BYTES
    assert card.total_bytes() == card.available_bytes() == CARD.memory_bytes - CARD.context_bytes


def test_a_kernel_reads_writes_and_computes(card):
    a, b = ones(8, 16), ones(16, 4)
    with clerk_of(card) as clerk, torch.inference_mode():
        c = a @ b
    expected = Work(flop=2 * 8 * 16 * 4, read_bytes=a.nbytes + b.nbytes, written_bytes=c.nbytes, launches=1)
    assert clerk.work == expected
    with clerk_of(card) as clerk:
        c.view(32)[:8].unsqueeze(0).expand(5, 8)  # other ways to look at memory
        torch.empty(5, device=VIRTUAL)
    assert clerk.work == Work()


def test_what_crosses_the_link_is_counted(card):
    host = torch.ones(100)
    with clerk_of(card) as clerk:
        there = host.to(VIRTUAL)
    assert clerk.work == Work(to_card_bytes=400, launches=1, syncs=1)
    with clerk_of(card) as clerk:
        host.to(VIRTUAL, non_blocking=True)
    assert clerk.work == Work(to_card_bytes=400, launches=1)
    with clerk_of(card) as clerk:
        there.cpu()
    assert clerk.work == Work(to_host_bytes=400, launches=1, syncs=1)
    assert clerk.memory.changes == []


def crossings(card: FakeCard) -> tuple[dict[str, int], dict[str, int]]:
    """Reads and copies of the stage that is running."""
    stage = card.tracker.stage_costs.stage()
    return dict(stage.reads), dict(stage.copies)


def test_what_crosses_the_link_is_told_with_its_operator(card):
    torch.ones(100).to(VIRTUAL, non_blocking=True)
    ones(4).tolist()
    ones(4, 4)[:, [0, 2]].cpu()
    here = "at elsewhere"  # nothing of ours asked for it
    assert crossings(card) == (
        {f"aten::_local_scalar_dense {here}": 1, f"aten::_to_copy {here}": 1},
        {f"aten::_to_copy {here}": 1, f"aten::index {here}": 1},
    )


def test_a_line_of_ours_is_named_with_its_number(card):
    latents = ones(1, 4, 8)
    with torch.inference_mode():
        waveform.check_latents(latents)
    reads, copies = crossings(card)
    place = re.compile(r"aten::_local_scalar_dense at acestep/audio/waveform\.py:\d+ check_latents")
    assert len(reads) == 2 and all(map(place.fullmatch, reads)) and not copies


def test_what_counts_many_times_crosses_as_often(card):
    there, costs = ones(4), card.tracker.stage_costs
    there.cpu()
    with costs.counting(150):
        there.cpu()
    assert list(costs.stage().reads.values()) == [151]


def test_a_copy_in_another_dtype_is_converted_where_it_comes_from(card):
    """So on the way to the host it is on the card twice for a moment."""
    there = ones(100)
    with clerk_of(card) as clerk:
        there.to("cpu", torch.float64)
    assert clerk.memory.changes == [800, -800]
    assert clerk.work == Work(read_bytes=400, written_bytes=800, launches=2, syncs=1, to_host_bytes=800)


@pytest.mark.parametrize(
    "read", [lambda x: x[0].item(), lambda x: bool(x[0]), lambda x: float(x[0]), lambda x: x[:1].tolist()]
)
def test_a_value_that_is_read_back_waits_for_the_card(card, read):
    there = ones(4)
    with clerk_of(card) as clerk:
        read(there)
    assert clerk.work == Work(launches=1, syncs=1, to_host_bytes=4)


def test_a_list_as_an_index_is_sent_first(card):
    there = ones(4, 4)
    with clerk_of(card) as clerk, torch.inference_mode():
        picked = there[:, [0, 2]]
    assert clerk.memory.changes == [16, picked.nbytes, -16]
    assert (clerk.work.to_card_bytes, clerk.work.launches, clerk.work.syncs) == (16, 2, 1)


def test_too_much_is_refused_as_torch_does(card):
    with pytest.raises(torch.OutOfMemoryError, match="aten::empty: out of memory"):
        torch.empty(CARD.memory_bytes, dtype=torch.uint8, device=VIRTUAL)
    assert card.tracker.refused[0].wanted_bytes == CARD.memory_bytes
    assert card.used_bytes() == 0


def test_outside_nothing_stays_behind(card):
    there = ones(10)
    card.__exit__()
    assert torch.ones(2).device == HOST
    assert torch.Tensor.device.__get__(torch.ones(2)) == HOST
    del there
    assert card.tracker.allocator.live_bytes == 0


SECOND = f"{VIRTUAL}:1"


@pytest.fixture
def pair():
    with FakeCard(CARD, beside=[FakeCard(OTHER)]) as card:
        yield card.cards


def work_of(card: FakeCard) -> Work:
    return card.tracker.stage_costs.stage().total()


def test_each_card_has_its_own_books(pair):
    first, second = pair
    here, there = torch.ones(8, 16, device=VIRTUAL), torch.ones(16, 4, device=SECOND)
    before = [work_of(card) for card in pair]
    with torch.inference_mode():
        product = there.mT @ there
    assert (here.device, product.device) == (first.device, second.device)
    assert [work_of(card).flop for card in pair] == [0, 2 * 4 * 16 * 4]
    assert work_of(first) == before[0]
    live = [card.tracker.allocator.live_bytes for card in pair]
    assert live == [here.nbytes, there.nbytes + product.nbytes]
    assert [MemoryBudget(name).total_bytes() for name in (VIRTUAL, SECOND)] == [
        card.memory_bytes - card.context_bytes for card in (CARD, OTHER)
    ]
    assert first.tracker.stage_costs.clock is second.tracker.stage_costs.clock  # cards take turns


def test_a_copy_between_cards_goes_out_of_one_and_into_the_other(pair):
    there = torch.empty(100, device=VIRTUAL).to(SECOND)
    out, into = map(work_of, pair)
    assert (out.to_host_bytes, out.syncs, into.to_card_bytes, into.syncs) == (400, 0, 400, 0)
    torch.empty(100, device=VIRTUAL).copy_(there)
    out, into = map(work_of, pair)
    assert (out.to_card_bytes, into.to_host_bytes) == (400, 400)


def test_tensors_of_two_cards_do_not_meet(pair):
    here, there = torch.ones(4, 4, device=VIRTUAL), torch.ones(4, 4, device=SECOND)
    for meet in (lambda: here + there, lambda: there @ here, lambda: torch.cat((here, there))):
        with pytest.raises(RuntimeError, match="meets one on"):
            meet()


@pytest.mark.parametrize("own", [0, 1])
def test_a_recorded_step_belongs_to_its_card(own, pair):
    tensors = torch.ones(4, device=VIRTUAL), torch.ones(4, device=SECOND)
    here, there = tensors[own], tensors[1 - own]
    faults = {  # a copy between cards is no part of a step
        "recorded on another card": lambda: there.add_(1),
        "waits for the host or copies": lambda: here.copy_(there),
    }
    for message, fault in faults.items():
        graphs = Graphs.on(pair[own].device)
        graphs.record("its own", lambda: here.add_(1))
        assert graphs.failure is None
        launches = [work_of(card).launches for card in pair]
        graphs.run("its own", lambda: pytest.fail("is not recorded"))
        launched = [work_of(card).launches - before for card, before in zip(pair, launches, strict=True)]
        assert launched == ([1, 0] if own == 0 else [0, 1])
        graphs.record("a fault", fault)
        assert message in str(graphs.failure)
