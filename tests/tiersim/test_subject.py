"""A tier test of a subject that tiersim was not written for, and of one that has no tiers."""

from __future__ import annotations

import pytest

from harness.cards import find
from harness.chart import PALETTE
from harness.errors import UsageError
from harness.records import writer
from tiersim import Case, document, html, run_case
from tiersim.case import resolve, subject_of
from tiersim.notes import notes
from tiersim.prediction import predict_case
from tiersim.protocol import Job
from tiersim.tables import Report

NAME = "tests.toy_subject.tiers"
STAGES = ["encode", "decode"]


def case(tier_gb: float = 8.0, **fields) -> Case:
    return Case(tier_gb, **{"subject": NAME, "duration_s": 2.0, "batch_size": 2} | fields)


def virtual(tier_gb: float = 8.0, **fields) -> Case:
    return case(tier_gb, cap="virtual", **fields)


@pytest.fixture(scope="module")
def ran():
    return run_case(virtual())


def test_it_runs_in_a_real_worker_under_a_cap(ran):
    assert (ran.status, ran.reason) == ("ok", ""), ran.log
    assert (ran.cap.kind, ran.cap.verified, ran.environment["device"]) == ("virtual", True, "virtual")
    assert [stage for stage in ran.stages_s if stage != "other"] == STAGES
    assert {"load", *STAGES} <= ran.stage_peaks_bytes.keys()
    assert 0 < ran.generation_peak_bytes < ran.peak_bytes == ran.generation_peak_bytes + 2**29
    assert (ran.counts, ran.tier, ran.lm) == ({"audio_s": 2.0, "frames": 50}, "large", None)


def test_a_card_too_small_for_it_runs_out_of_memory(ran):
    # An eighth of so small a card is its context.
    size_gb = 0.9 * ran.generation_peak_bytes / 2**30 / (1 - 1 / 8)
    record = run_case(virtual(size_gb))
    assert (record.status, record.exit_code) == ("oom", 20), record.log
    assert record.phase_reached in ("load", *STAGES)


def test_it_is_predicted():
    record = predict_case(case(card=find("rtx4060")))
    assert record.status == "ok" and set(STAGES) <= record.stages_s.keys(), record.log
    assert record.counts == {"audio_s": 2.0, "frames": 50} and record.wall_s > 0
    footer = Report(200, predicted=True).footer([record])
    assert footer.endswith("nothing ran, times are a roofline")


def test_it_is_shown_and_kept(ran, tmp_path):
    row = Report(200).row(ran)
    assert row.split() == [
        "8",
        "GB",
        "(RTX",
        "4060)",
        "—",
        "2s",
        "✅",
        "OK",
        "0.5GB",
        "batch",
        "2:",
        "50",
        "frames",
    ]
    header = document.header([resolve(virtual())], [])
    page = html.page(header, [ran])
    assert all(f"<title>{stage}</title>" in page for stage in STAGES)
    assert all(f'fill="{colour}"' in page for colour in PALETTE[: len(STAGES)])
    with writer.Writer(tmp_path / "toy.json", header) as file:
        file.add(document.item(ran))
    read, (item,) = writer.load(tmp_path / "toy.json")
    assert (read.subject, read.source, item.status) == (NAME, "random", "ok")


def test_its_plan_is_its_own():
    plan = resolve(virtual(duration_s=100.0))
    assert (plan.effective.duration_s, plan.requested.duration_s) == (60, 100)
    assert [change.field for change in plan.adjustments] == ["duration_s"]
    assert Job.decode(Job.of(plan).encode()).plan == plan.engine_plan
    assert plan.key == resolve(virtual(duration_s=60.0)).key != resolve(virtual(duration_s=50.0)).key
    assert resolve(virtual(variant="no-offload")).skip == "nothing to take away"
    assert resolve(virtual(lm=True)).skip == "the tier of 8 GB (RTX 4060) has no language model"
    with pytest.raises(UsageError, match="batch_size"):
        virtual(batch_size=5)
    with pytest.raises(UsageError, match="lm_backend: 'pt'"):
        virtual(lm_backend="pt")


def test_what_has_no_tiers_is_refused():
    with pytest.raises(UsageError, match="has no tiers"):
        Case(8, subject="tests.toy_subject")
    with pytest.raises(UsageError, match="is not known"):
        Case(8, subject="tests.toys")


def test_the_default_is_the_first_of_the_registry(ran):
    assert subject_of(Case(8)).name == Case(8).subject
    assert notes(ran) == ("50 frames",)
