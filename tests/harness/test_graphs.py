"""Steps as graphs: what may be recorded, what is recorded, and what runs where nothing records."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator

import pytest
import torch
from replaying import Replaying
from two_steps import check_two_steps

from harness.cards import find
from harness.device import VIRTUAL
from harness.graphs import CUDARecorder, Graphs
from harness.trace.fake_card import FakeCard

ROWS, WIDTH, SLOTS = 3, 16, 8
SEGMENT_BYTES = 20 * 2**20  # a tensor of this size has a segment of its own


class Toy:
    """A step over fixed buffers: a matrix product, written to a slot that advances on the card."""

    def __init__(self, device: str):
        self.x = torch.ones(ROWS, WIDTH, device=device)
        self.weight = torch.ones(WIDTH, WIDTH, device=device)
        self.slots = torch.zeros(ROWS, SLOTS, WIDTH, device=device)
        self.at = torch.zeros(1, dtype=torch.long, device=device)
        self.host_at = 0  # what Python knows of `at`
        self.kept: list[torch.Tensor] = []

    def step(self) -> None:
        self.x.copy_((self.x @ self.weight).relu())
        self.slots.index_copy_(1, self.at, self.x[:, None])
        self.at.add_(1)
        self.host_at += 1


@pytest.fixture
def card() -> Iterator[FakeCard]:
    with FakeCard(find("rtx4090")) as entered, torch.inference_mode():
        yield entered


# What a step does beside, and what is said of it.
PLANTED: dict[str, tuple[Callable[[Toy], object], str]] = {
    "a value read back": (lambda toy: toy.x.sum().item(), "host and card meet"),
    "a tensor read back": (lambda toy: toy.x.cpu(), "host and card meet"),
    "a decision by a value": (lambda toy: bool((toy.x > 0).any()), "host and card meet"),
    "a number sent": (lambda toy: toy.x.add_(torch.tensor(1.0, device=VIRTUAL)), "host and card meet"),
    "a tensor of the host": (lambda toy: torch.arange(4), "makes a tensor of the host"),
    "a shape that grows": (lambda toy: toy.slots[:, : toy.host_at].sum(1), "in the first step"),
    "a slot that Python counts": (lambda toy: toy.slots[:, toy.host_at].copy_(toy.x), "in the first step"),
    "a number that Python counts": (lambda toy: toy.x.add_(toy.host_at), "in the first step"),
    "an allocation that stays": (lambda toy: toy.kept.append(toy.x * 2), "stay allocated"),
    "a buffer made anew": (lambda toy: setattr(toy, "x", toy.x * 2), "of before is freed|stay allocated"),
    "a segment": (
        lambda toy: torch.empty(toy.host_at * SEGMENT_BYTES, dtype=torch.uint8, device=VIRTUAL),
        "the card was asked for",
    ),
    "a random number": (lambda toy: toy.x.uniform_(), "draws random numbers"),
}


def test_a_step_over_fixed_buffers_is_the_same_twice(card: FakeCard):
    events = check_two_steps(card, Toy(VIRTUAL).step)
    assert any(event[0] == "aten::mm" for event in events)


@pytest.mark.parametrize("fault", PLANTED)
def test_what_cannot_be_recorded_is_seen(fault: str, card: FakeCard):
    toy, (plant, message) = Toy(VIRTUAL), PLANTED[fault]

    def step() -> None:
        toy.step()
        plant(toy)

    with pytest.raises(AssertionError, match=message):
        check_two_steps(card, step)


class Counting:
    """Recordings that are calls; `calls` of them."""

    def __init__(self, room: int = 9):
        self.room = room
        self.calls = 0

    def record(self, step: Callable[[], None]) -> Callable[[], None]:
        if not self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 MiB.\nMore about it.")
        self.room -= 1

        def replay() -> None:
            self.calls += 1
            step()

        return replay


def test_a_step_is_replayed_under_its_key_and_called_under_any_other():
    toy, recorder = Toy("cpu"), Counting()
    graphs = Graphs(recorder)
    graphs.record("a", toy.step)
    assert graphs.recording and toy.host_at == 0, "nothing is computed"
    for key in ("a", "b", "a"):
        graphs.run(key, toy.step)
    assert (toy.host_at, recorder.calls) == (3, 2)


def test_where_nothing_records_steps_are_calls():
    toy = Toy("cpu")
    for graphs in (Graphs(), Graphs.on(torch.device("cpu")), Graphs.on(torch.device("cuda"), wanted=False)):
        graphs.record("a", toy.step)
        graphs.run("a", toy.step)
        assert not graphs.recording and graphs.failure is None
    assert toy.host_at == 3


def test_what_fails_ends_recording_and_says_why():
    toy, recorder = Toy("cpu"), Counting(room=1)
    graphs = Graphs(recorder)
    for key in ("a", "b", "c"):
        graphs.record(key, toy.step)
    assert graphs.failure == "out of memory: 2 MiB more were asked for"
    assert not graphs.recording
    graphs.run("a", toy.step)
    assert (toy.host_at, recorder.calls) == (1, 0), "the memory of recordings is given back"


def test_a_fault_of_the_step_itself_is_raised():
    def step() -> None:
        raise KeyError

    with pytest.raises(KeyError):
        Graphs(Replaying()).record("a", step)


def test_the_recorder_for_tests_replays_what_a_step_did():
    """By its buffers: what Python counts stays where it was."""
    toy, alone = Toy("cpu"), Toy("cpu")
    graphs = Graphs(Replaying())
    graphs.record("a", toy.step)
    counted = toy.host_at
    for _ in range(3):
        graphs.run("a", toy.step)
        alone.step()
    assert toy.host_at == counted
    assert torch.equal(toy.slots, alone.slots) and torch.equal(toy.x, alone.x) and int(toy.at) == 3


def test_recordings_go_with_their_graphs():
    toy = Toy("cpu")
    graphs = Graphs(Replaying())
    graphs.record("a", toy.step)
    buffer = weakref.ref(toy.x)
    del toy
    assert buffer() is not None
    del graphs
    assert buffer() is None


@pytest.mark.parametrize("ended", [False, True])
def test_the_pool_of_a_capture_that_failed_is_closed_once(ended: bool, monkeypatch: pytest.MonkeyPatch):
    """Open, it keeps PyTorch's allocator from giving anything back. One that was ended, PyTorch closes."""
    calls: list[tuple[str, int, object]] = []

    def end(device: int, pool: object) -> None:
        if ended:
            raise RuntimeError("not currently recording")
        calls.append(("end", device, pool))

    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", end)
    monkeypatch.setattr(torch._C, "_cuda_releasePool", lambda *of: calls.append(("release", *of)))
    recorder = object.__new__(CUDARecorder)
    recorder._pool = "pool"  # type: ignore[assignment]
    with recorder._closed():
        pass
    assert not calls
    with pytest.raises(ValueError, match="the step's"), recorder._closed():
        raise ValueError("the step's")
    assert calls == ([] if ended else [("end", 1, "pool"), ("release", 1, "pool")])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_card_replays_what_a_step_did_there():
    device = torch.device("cuda")
    toy, alone = Toy("cuda"), Toy("cuda")
    graphs = Graphs.on(device)
    toy.step()
    alone.step()
    graphs.record("a", toy.step)
    assert int(toy.at) == 1, "nothing is computed"
    used_bytes = torch.cuda.memory_allocated()
    for _ in range(3):
        graphs.run("a", toy.step)
        alone.step()
    assert torch.cuda.memory_allocated() == used_bytes
    assert torch.equal(toy.slots, alone.slots) and int(toy.at) == int(alone.at) == 4


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_read_back_ends_recording_on_a_card_and_nothing_else():
    toy, stream = Toy("cuda"), torch.cuda.current_stream()
    graphs = Graphs.on(torch.device("cuda"))
    toy.step()
    graphs.record("a", lambda: (toy.step(), toy.x.sum().item()))  # type: ignore[arg-type]
    assert graphs.failure and not graphs.recording
    assert torch.cuda.current_stream() == stream
    graphs.run("a", toy.step)
    assert int(toy.at) == 2
    torch.cuda.empty_cache()
    kept_bytes = torch.cuda.memory_reserved()
    torch.empty(SEGMENT_BYTES, dtype=torch.uint8, device="cuda")
    torch.cuda.empty_cache()
    assert torch.cuda.memory_reserved() == kept_bytes, "memory is given back as before"
