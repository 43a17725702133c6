"""A predicted case is a case like any other, and is never taken for one that ran."""

import re
from dataclasses import replace

import msgspec
import pytest
from tier_records import record

from acestep.subject import SUBJECT
from harness.cards import find
from harness.errors import MissingPrerequisite, UsageError
from harness.memory import GIB
from harness.oom import in_words
from harness.records import forms
from harness.trace.predict import predict
from tiersim import Case, Record, document, html, prediction, run_case
from tiersim.boundary import batch_limits, ladders
from tiersim.case import resolve
from tiersim.notes import notes
from tiersim.prediction import predict_case, timeline
from tiersim.record import Sample
from tiersim.tables import Report

CARD = find("rtx4090")
MIB = 2**20


def case(tier_gb=8.0, **fields):
    return Case(tier_gb, **{"card": CARD, "source": "synthetic-tiny", "duration_s": 10, "steps": 1} | fields)


@pytest.fixture(scope="module")
def predicted():
    return predict_case(case())


def test_a_plan_is_that_of_the_card_with_the_tiers_memory(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv("ACESTEP_SOURCE", raising=False)
    plan = resolve(Case(8, lm=True, card=CARD))
    settings = plan.settings
    assert (plan.device, plan.cap_kind, plan.source) == ("predicted", "predicted", "synthetic-full")
    assert (settings.quantization, settings.offload_to_cpu, settings.lm_backend) == (
        "int8_weight_only",
        True,
        "pt",
    )
    assert plan.cap_bytes + plan.context_bytes == plan.card.memory_bytes == 8 * GIB
    assert (plan.context_bytes, settings.compile, plan.notes) == (CARD.context_bytes, False, ())
    small = resolve(case(0.08))
    assert small.context_bytes == small.card.context_bytes == int(0.01 * GIB)


def test_the_key_has_the_card_but_for_its_memory():
    def key(**changes):
        return resolve(case(card=replace(CARD, **changes))).key

    assert key() == key(memory_gib=1.0)
    assert len({key(), key(gb_per_s=1.0), key(capability=(7, 5)), resolve(case(card=None)).key}) == 4


@pytest.mark.parametrize("field", [{"device": "cpu"}, {"cap": "virtual"}])
def test_what_concerns_a_run_is_refused(field):
    with pytest.raises(UsageError, match="predicted"):
        case(**field)
    with pytest.raises(UsageError, match="card"):
        run_case(case())


def test_a_record_is_what_the_trace_says(predicted):
    plan = resolve(case())
    cost = predict(SUBJECT, plan.engine_plan, plan.card, plan.cap_bytes)
    assert predicted.status == "ok" and predicted.exit_code is None
    assert predicted.peak_bytes == cost.peak_reserved_bytes + GIB // 2
    assert predicted.generation_peak_bytes == max(stage.peak_reserved_bytes for stage in cost.running)
    assert (predicted.wall_s, predicted.counts) == (cost.seconds, cost.counts)
    assert sum(predicted.stages_s.values()) == pytest.approx(cost.seconds)
    assert {"load", "diffuse", "vae_decode"} <= predicted.stage_peaks_bytes.keys()
    assert max(sample.used_bytes for sample in predicted.timeline) <= cost.peak_reserved_bytes
    assert msgspec.json.decode(msgspec.json.encode(predicted), type=Record) == predicted


def test_everything_that_shows_it_says_predicted(predicted):
    assert predicted.cap.kind == predicted.device == "predicted" and not predicted.cap.verified
    assert predicted.peak_source == "predicted, reserved + 0.5 GiB context"
    basis = "predicted for GeForce RTX 4090 of the tier's memory, uncalibrated, torch "
    report = Report(200, predicted=True)
    assert report.header().startswith("TIER TEST RESULTS (predicted)\n")
    assert "Roofline" in report.header() and f"{predicted.wall_s:.2f}s" in report.row(predicted)
    assert basis in report.footer([predicted]) and "verified" not in report.footer([predicted])
    wide = Report(300, wide=True, predicted=True)
    assert wide.header().startswith("TIER TEST RESULTS (predicted)") and "~0." in wide.row(predicted)
    header = document.header([resolve(case())], [])
    page = html.page(header, [predicted])
    assert "<h1>Tier test, predicted</h1>" in page and "~ 0." in page
    assert page.count("predicted for GeForce RTX 4090") == 2  # above everything, and beside the chart
    assert "<title>diffuse</title>" in page
    item = document.item(predicted)
    assert (header.device, item.effective["device"], item.card.cap) == ("predicted",) * 3
    assert forms._upstream_case(item, item.card, {})["predicted"] is True
    # The control: nothing of it is said of a run.
    assert "predicted" not in html.page(header, [record(8)]).replace(header.device, "", 1)
    assert "predicted" not in Report(200).header() + Report(200).footer([record(8)])


def test_memory_that_runs_out_is_told_in_words_and_kept_by_operator_and_place():
    ended = predict_case(case(0.03))
    assert (ended.status, ended.wall_s) == ("oom", None)
    stage, wanted = re.fullmatch(
        r"(\w+): aten::\w+ in \S+\.py \S+ wanted ([\d,]+) bytes", ended.exception
    ).groups()
    plan = resolve(case(0.03))
    refusal = predict(SUBJECT, plan.engine_plan, plan.card, plan.cap_bytes).ended
    assert refusal.segment_bytes > refusal.free_bytes and refusal.segment_bytes >= refusal.wanted_bytes
    assert f"{refusal.wanted_bytes:,}" == wanted
    assert ended.reason == in_words(
        "device", refusal.segment_bytes, refusal.free_bytes, int(0.03 * GIB), stage
    )
    assert ended.reason.endswith(" were free of 0.03 GB") and "aten" not in ended.reason
    assert stage == ended.phase_reached and notes(ended)[0] == ended.reason
    assert 0 < ended.peak_bytes <= 0.03 * GIB
    assert ended.timeline


def test_the_decode_ladder_is_the_engines_own(predicted):
    whole, tiled = predicted.counts, predict_case(case(0.06, duration_s=30)).counts
    assert (whole["vae_tiles"], whole["vae_level"]) == (1, 1)
    assert tiled["vae_tiles"] > 1 and tiled["vae_tile_frames"] < 512


@pytest.mark.parametrize(
    ("failure", "code"), [(MissingPrerequisite("no x"), 3), (RuntimeError("no x"), None)]
)
def test_a_trace_that_fails_is_a_record(monkeypatch, failure, code):
    def fail(_):
        raise failure

    monkeypatch.setattr(prediction, "_cost", fail)
    made = predict_case(case())
    assert (made.status, made.exit_code, made.cap) == ("error", code, None)
    assert made.reason == f"{type(failure).__name__}: no x" and "Traceback" in made.log


def test_what_a_tier_cannot_do_is_not_traced(monkeypatch):
    monkeypatch.setattr(prediction, "_cost", None)
    assert predict_case(case(4, variant="no-offload")).status == "skip"


def test_a_prediction_raises_no_limit(predicted):
    roomy = {"source": "synthetic-full", "calibration": "uncalibrated"}
    made = replace(predicted, environment=roomy)
    climbed = [
        replace(made, requested=case(batch_size=batch, repeat=repeat))
        for batch in (1, 8)
        for repeat in range(3)
    ]
    assert [limit.suggestion for limit in batch_limits(ladders(climbed))] == ["OK"]
    measured = [replace(made, cap=replace(made.cap, kind="virtual")) for made in climbed]
    assert [limit.suggestion for limit in batch_limits(ladders(measured))] == ["no_lm: 4→8"]


def test_a_stage_of_few_samples_has_its_place_over_time():
    """A recorded step is one launch, beside thousands of a stage that uses more."""
    runs = {"offload": 5000, "compile": 3000, "diffuse": 2, "vae_decode": 1}
    stages = [stage for stage, number in runs.items() for _ in range(number)]
    samples = [Sample(float(at), stage, 9000 - at) for at, stage in enumerate(stages)]
    kept = timeline(samples)
    assert list(dict.fromkeys(sample.phase for sample in kept)) == list(runs)
    assert len(kept) <= 200 + len(runs) and kept[0] == samples[0] and not timeline([])
