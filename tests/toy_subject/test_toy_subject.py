"""What measures takes any subject: costs, parity and records of one that it was not written for."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
import torch

from harness import registry
from harness.accelerators import Accelerator
from harness.cards import find
from harness.errors import UsageError
from harness.oom import Failure
from harness.parity import LIMITS, check
from harness.records import making, writer
from harness.subject import Subject
from harness.trace.predict import predict
from tests.toy_subject import FRAMES_PER_SECOND, SAMPLES_PER_FRAME, SUBJECT, Plan
from tests.toy_subject.network import Network, flop, work

CARD = find("rtx4060")
SECONDS, ITEMS = 10, 3


def plan(duration_s: float = SECONDS, **choices) -> Plan:
    return SUBJECT.resolve(SUBJECT.request(duration_s, ITEMS), SUBJECT.setup(**choices))


def on_card(**fields) -> Plan:
    return plan(accelerator=Accelerator("cuda", CARD.name, CARD.memory_gib), dtype="bf16", **fields)


def test_it_is_found_by_the_name_of_its_module():
    subject: Subject = registry.subject("tests.toy_subject")
    assert subject is SUBJECT and subject.name not in registry.SUBJECTS
    with pytest.raises(UsageError, match="toys"):
        registry.subject("tests.toys")


def test_a_prediction_is_the_closed_form():
    cost = predict(SUBJECT, on_card(), CARD)
    stages = {stage.stage: stage for stage in cost.stages}
    assert cost.fits and {"load", *SUBJECT.stages} <= stages.keys()
    for name, expected in flop(ITEMS * SECONDS * FRAMES_PER_SECOND).items():
        assert stages[name].work.flop == expected
    parameters = sum(p.numel() for p in SUBJECT.components("random")["network"].build(*HERE).parameters())
    assert stages["load"].work.to_card_bytes == 2 * parameters
    assert cost.counts == {"audio_s": SECONDS, "frames": SECONDS * FRAMES_PER_SECOND}
    assert cost.as_dict() == predict(SUBJECT, on_card(), CARD, repeat=False).as_dict()


def test_a_card_that_is_too_small_is_a_result():
    cost = predict(SUBJECT, on_card(), CARD, cap_bytes=10 * 2**20)
    assert not cost.fits and cost.out_of_memory.stage == "other"  # the workspace of cuBLAS alone


HERE = torch.device("cpu"), torch.float32


def test_the_network_is_its_oracle_and_the_control_trips():
    checks = check(SUBJECT.components("random")["network"], size=50)
    assert [one.dtype for one in checks] == list(LIMITS)
    assert all(one.passes and one.trips for one in checks)


def test_a_wrong_network_fails():
    component = SUBJECT.components("random")["network"]
    wrong = replace(component, run=lambda network, noise: network(noise.flip(1)))
    assert not any(one.passes for one in check(wrong, size=50))
    with pytest.raises(ValueError, match="no oracle"):
        check(replace(component, oracle=None), size=50)


def test_work_on_paper_is_work_counted():
    from torch.utils.flop_counter import FlopCounterMode

    network: Network = SUBJECT.components("random")["network"].build(*HERE)
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 50, 8))
    assert work(50, 4)[0] == counter.get_total_flops()


def test_a_record_is_written_and_read_back(tmp_path):
    asked = plan(duration_s=100)
    engine = SUBJECT.load(asked.setup)
    results = [engine.run(asked, tmp_path) for _ in range(3)]
    assert SUBJECT.check(results[0], asked) is None
    requested = asdict(asked.request)
    item = making.item("profile", requested, engine, asked, results)
    header = making.header(SUBJECT, asked.setup, "profile")
    with writer.Writer(tmp_path / "toy.json", header) as record:
        record.add(item)
    read, (again,) = writer.load(tmp_path / "toy.json")
    assert (read.subject, read.source, read.device) == (SUBJECT.name, "random", "cpu")
    assert again == item and (again.status, again.counts["audio_s"]) == ("ok", 60)
    assert again.adjustments[0].applied == 60 and "is too long; using 60" in again.warnings[0]
    with writer.Writer(tmp_path / "toy.csv", header) as table:
        table.add(item)
    columns, row = (tmp_path / "toy.csv").read_text().splitlines()
    cells = dict(zip(columns.split(","), row.split(","), strict=False))
    assert float(cells["decode_s"]) == item.typical.stages_s["decode"] and "lm_s" not in cells
    failed = making.item(
        "profile", requested, engine, asked, Failure("device", "OutOfMemoryError", "no room")
    )
    assert (failed.status, failed.error, failed.key) == ("oom", "device memory ran out", item.key)
    assert failed.exception == "OutOfMemoryError: no room"  # in words, and as it was raised


def test_output_that_is_wrong_is_told():
    short, long = plan(duration_s=1), plan(duration_s=2)
    result = SUBJECT.load(short.setup).run(short)
    assert result.audio.shape == (ITEMS, 2, FRAMES_PER_SECOND * SAMPLES_PER_FRAME)
    assert "was asked for" in (SUBJECT.check(result, long) or "")
