"""Steps as graphs: what may be recorded, what is recorded, and what runs where nothing records."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from two_steps import check_two_steps

from harness.cards import find
from harness.device import VIRTUAL
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
