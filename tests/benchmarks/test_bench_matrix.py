"""The axes: the same names everywhere, and a filter that only takes away."""

import pytest

from benchmarks import _matrix


@pytest.mark.parametrize("source", ["synthetic-tiny", "synthetic-full", "/models/acestep"])
def test_every_source_measures_within_the_published_axes(source):
    cells = _matrix.timing_cells(source)
    durations_s = {cell.duration_s for cell in cells if cell.kind != "text"}
    assert durations_s == set(_matrix.durations_s(source)) <= set(_matrix.DURATIONS_S)
    assert len({cell.name for cell in cells}) == len(cells)


def test_real_weights_run_the_guides_matrix():
    generate = [cell for cell in _matrix.timing_cells("/models/acestep") if cell.kind == "generate"]
    assert len(generate) == 4 * 3 * 2 * 2
    assert _matrix.durations_s("/models/acestep") == (30, 60, 120, 240)
    assert _matrix.TIERS_GB == (4, 6, 8, 12, 16, 20, 24)


def test_the_filter_narrows_an_axis(monkeypatch):
    monkeypatch.setenv("ACESTEP_BENCH_CELLS", "duration_s=5 batch=1,4 tier_gb=8 thinking=True")
    cells = [c for c in _matrix.timing_cells("synthetic-tiny") if c.kind in ("generate", "plan")]
    assert {(c.duration_s, c.batch, c.thinking) for c in cells} == {(5, 1, True), (5, 4, True)}
    assert {c.steps for c in cells} == {8, 16, None}
    assert [c.tier_gb for c in _matrix.tier_cells("synthetic-tiny")] == [8, 8]


def test_a_value_outside_the_axis_selects_nothing(monkeypatch):
    monkeypatch.setenv("ACESTEP_BENCH_CELLS", "duration_s=11 mode=sing")
    assert _matrix.timing_cells("synthetic-tiny") == []


def test_every_task_mode_and_way_of_guiding_is_measured():
    from acestep.request import GUIDANCE_MODES, INFER_METHODS
    from acestep.tasks import TASKS

    cells = _matrix.timing_cells("synthetic-tiny")
    assert {c.task for c in cells if c.kind == "task"} - {"reference"} == set(TASKS) - {"text2music"}
    assert {c.method for c in cells if c.kind == "solver"} == set(INFER_METHODS)
    assert {c.guidance for c in cells if c.kind == "solver"} == {"none", *GUIDANCE_MODES}
    assert {c.mode for c in cells if c.kind == "text"} == {"understand", "create", "format"}
