"""Cases whose parts are on several cards of one size."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness import cards
from harness.device import VIRTUAL
from harness.errors import UsageError
from tiersim import Case, pool
from tiersim.cap import install
from tiersim.case import resolve
from tiersim.prediction import predict_plan
from tiersim.protocol import Job
from tiersim.telemetry import Fullest

MIB = 2**20
BASE = {
    "tier_gb": 8,
    "source": "synthetic-tiny",
    "duration_s": 10.0,
    "steps": 1,
    "card": cards.find("rtx4060"),
}


def plan(place: str | None = None, **fields):
    choices = (("place", place),) if place else ()
    return resolve(Case(**BASE | {"choices": choices} | fields))


def test_a_key_knows_what_is_elsewhere_and_nothing_of_how_it_was_said():
    plain = plan()
    assert plan("dit=cuda:0").key == plan("dit=cuda,vae=cuda:0").key == plain.key
    assert plan("vae=cuda:1").key == plan("dit=cuda, vae=cuda:1").key != plain.key
    assert (plain.beside, plan("vae=cuda:2").beside, plan("vae=cpu").beside) == (0, 2, 0)
    virtual = plan("vae=cuda:1", card=None, device="cpu")
    assert Job.decode(Job.of(virtual).encode()) == Job.of(virtual) and Job.of(virtual).beside == 1


def test_what_is_no_placement_is_no_case():
    with pytest.raises(UsageError, match="place: "):
        plan("vocoder=cuda:1")


def test_a_prediction_is_of_the_fullest_card_and_says_what_each_holds():
    record = predict_plan(plan("vae=cuda:1"))
    peaks = [record.environment[f"peak_bytes_cuda:{number}"] for number in (0, 1)]
    assert record.status == "ok" and record.cap
    assert record.peak_bytes == max(peaks) and min(peaks) > record.cap.bytes // 100
    assert "transfer" in record.stages_s
    assert record.wall_s == pytest.approx(sum(record.stages_s.values()))


def test_a_case_of_several_cards_is_alone_on_the_machine():
    virtual = plan("vae=cuda:1", card=None, device="cpu")
    with pytest.raises(UsageError, match="gpus: each is the only card of a case"):
        pool._slots([virtual], ["0", "1"], 1)
    on_cards = [replace(virtual, device="cuda")]
    assert pool._slots(on_cards, None, 1).gpus == [None]
    assert pool._host_bytes(virtual) == 2 * virtual.cap_bytes


def test_every_card_has_the_cap_and_the_fullest_is_watched():
    import torch

    from harness.memory import MemoryBudget, stand_ins

    cap, _ = install("virtual", "cpu", 64 * MIB, beside=1)
    try:
        budgets = {name: MemoryBudget(name) for name in (VIRTUAL, f"{VIRTUAL}:1")}
        fullest = Fullest(budgets)
        assert cap.verified and [one.total_bytes() for one in budgets.values()] == [64 * MIB] * 2
        fullest.reset_peak()
        kept = torch.zeros(MIB, dtype=torch.uint8, device=f"{VIRTUAL}:1")
        torch.zeros(3 * MIB, dtype=torch.uint8, device=VIRTUAL)
        assert (fullest.used_bytes(), fullest.peak_bytes(), kept.nbytes) == (MIB, 3 * MIB, MIB)
        fullest.reset_peak()
        assert fullest.peak_bytes() == MIB
        assert fullest.peaks == {VIRTUAL: 3 * MIB, f"{VIRTUAL}:1": MIB}
        with pytest.raises(torch.OutOfMemoryError):
            torch.zeros(64 * MIB, dtype=torch.uint8, device=f"{VIRTUAL}:1")
    finally:
        stand_ins[VIRTUAL](VIRTUAL).__exit__()
