"""Expected seconds stand beside the roofline, stage by stage and in total, with what they rest on."""

from __future__ import annotations

from dataclasses import replace

import pytest
from allocations import cost, setup

from acestep.costs import page
from acestep.costs.report import text as report_text
from harness.trace import report, times
from harness.trace.cost import Cost
from harness.trace.expected import PUBLISHED


@pytest.fixture(scope="module")
def predicted() -> Cost:
    return cost(setup(4))


def test_each_stage_has_its_roofline_the_range_and_what_it_is_made_of(predicted: Cost):
    lines = times.table(predicted, report.ordered(predicted), report.TOTAL)
    assert max(map(len, lines)) < 80 and lines[-1] == f"expected: {PUBLISHED.basis}"
    rows = {line[:12].strip(): line[12:].split() for line in lines[2:-1]}
    shown = [stage for stage in report.ordered(predicted) if stage.seconds]
    assert [*rows] == [*(stage.stage for stage in shown), report.TOTAL]
    for name, of in zip(rows, [*shown, predicted], strict=True):
        seconds, expected, *shares = rows[name]
        assert seconds == f"{of.seconds:.3f}"
        assert expected == f"{of.expected_s.low:.3f}-{of.expected_s.high:.3f}"
        assert sum(map(int, shares)) == pytest.approx(100, abs=2)
    [offload] = [stage for stage in shown if stage.stage == "offload"]
    link_s = sum(resources.get("link", 0) for resources in offload.kinds.values())
    assert rows["offload"][-1] == f"{100 * link_s / offload.seconds:.0f}" != "0"
    assert "\n".join(lines) in report_text(predicted)


def test_a_report_is_80_columns_wide_whatever_was_calibrated_or_left_out(predicted: Cost):
    calibration = "calibrated on NVIDIA H200, driver 600.1 (left out some-card-24gb.json: Object has no `a`)"
    environment = predicted.environment | {"calibration": calibration}
    text = report_text(replace(predicted, environment=environment))
    assert max(map(len, text.splitlines())) < 80 and calibration in " ".join(text.split())
    assert not any(line.endswith(" ") for line in text.splitlines())


def test_a_page_has_it_too(predicted: Cost):
    text = page.page(predicted)
    for name, expected_s in [(s.stage, s.expected_s) for s in predicted.stages if s.seconds]:
        assert f"{expected_s.low:.3f}-{expected_s.high:.3f}" in text, name
    assert f"Expected seconds are {PUBLISHED.basis}." in text
