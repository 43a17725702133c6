"""The axes: the same names everywhere, and a filter that only takes away."""

import itertools

import pytest

from acestep.defaults import CHUNK_S
from benchmarks import _matrix

PREDICTED = ("cost", "waits")  # kinds of cells whose modes and variants are their own


@pytest.mark.parametrize("source", ["synthetic-tiny", "synthetic-full", "/models/acestep"])
def test_every_source_measures_within_the_published_axes(source):
    cells = _matrix.timing_cells(source)
    durations_s = {cell["duration_s"] for cell in cells if cell.kind not in ("text", "parity", "scaling")}
    assert durations_s == set(_matrix.durations_s(source)) <= set(_matrix.DURATIONS_S)
    assert len({cell.name for cell in cells}) == len(cells)


def test_real_weights_run_the_guides_matrix():
    cells = _matrix.timing_cells("/models/acestep")
    assert sum(cell.kind == "generate" and cell.engine == _matrix.PLAIN for cell in cells) == 4 * 3 * 2 * 2
    assert _matrix.durations_s("/models/acestep") == (30, 60, 120, 240)
    assert _matrix.TIERS_GB == (4, 6, 8, 12, 16, 20, 24)


def test_tiny_weights_have_one_thing_at_a_time_above_the_least_and_what_is_named_together(monkeypatch):
    cells = [cell for cell in _matrix.timing_cells("synthetic-tiny") if cell.kind == "generate"]
    axes = ("duration_s", "batch", "thinking", "steps")
    varied = {(15, 1, False, 8), (5, 2, False, 8), (5, 4, False, 8), (5, 1, True, 8), (5, 1, False, 16)}
    assert {tuple(cell[axis] for axis in axes) for cell in cells} == varied | {(5, 1, False, 8)}
    monkeypatch.setenv("ACESTEP_BENCH_CELLS", "duration_s=15 batch=2,4")
    cells = [cell for cell in _matrix.timing_cells("synthetic-tiny") if cell.kind == "generate"]
    assert {tuple(cell[axis] for axis in axes) for cell in cells} == {(15, 2, False, 8), (15, 4, False, 8)}


def test_tiny_xl_models_run_where_they_are_named(monkeypatch):
    """As large as any other tiny model, they say nothing of the cards that XL fits on."""

    def xl(source: str) -> set[str]:
        cells = _matrix.every_cell(source)
        return {c.kind for c in cells if c.kind != "cost" and dict(c.params).get("dit") == "xl-turbo"}

    assert xl("synthetic-tiny") == {"predicted"}
    assert xl("synthetic-full") == {"predicted", "memory", "boundary"}
    monkeypatch.setenv("ACESTEP_BENCH_CELLS", "dit=xl-turbo")
    assert xl("synthetic-tiny") == {"predicted", "memory", "boundary"}


def test_the_filter_narrows_an_axis(monkeypatch):
    monkeypatch.setenv("ACESTEP_BENCH_CELLS", "duration_s=5 batch=1,4 tier_gb=8 thinking=False dit=turbo")
    cells = [c for c in _matrix.timing_cells("synthetic-tiny") if c.kind in ("generate", "plan")]
    assert {(c["duration_s"], c["batch"], c["thinking"]) for c in cells} == {(5, 1, False), (5, 4, False)}
    assert {dict(c.params).get("steps") for c in cells} == {8, 16, None}
    tiers = [
        (c["tier_gb"], c["lm"]) for c in _matrix.tier_cells("synthetic-tiny") if c["variant"] == "default"
    ]
    assert tiers == [(8, False), (8, True)]


def test_the_filter_leaves_the_row_of_a_preset_in_or_out(monkeypatch):
    def rows() -> list[str]:
        return [cell.name for cell in _matrix.timing_cells("synthetic-tiny") if cell.kind == "preset"]

    assert rows() == ["preset preset=upstream duration_s=5"]
    for words, left in [("preset=upstream", 1), ("preset=fixed", 0), ("duration_s=15", 0)]:
        monkeypatch.setenv("ACESTEP_BENCH_CELLS", words)
        assert len(rows()) == left


WRONG = [
    ("Batch=1", "'Batch' is not an axis"),
    ("stage=diffuse", "'stage' is not an axis"),
    ("batch = 1", "'' is not a value of batch"),
    ("batch", "'' is not a value of batch"),
    ("=1", "'' is not an axis"),
    ("duration_s=5s", "'5s' is not a value of duration_s"),
    ("duration_s=11", "'11' is not a value of duration_s"),
    ("duration_s=5.0", "'5.0' is not a value of duration_s"),
    ("tier_gb=8GB lm=True", "'8GB' is not a value of tier_gb"),
    ("thinking=true", "'true' is not a value of thinking"),
    ("batch=", "'' is not a value of batch"),
    ("batch=1,", "'' is not a value of batch"),
    ("batch=1;steps=8", "'1;steps=8' is not a value of batch"),
    ("batch=1 steps=8 batch=2", "batch is there twice"),
    ("\x1b[2J=1", r"'\x1b[2J' is not an axis"),
]


@pytest.mark.parametrize(("words", "problem"), WRONG)
def test_a_filter_that_names_what_there_is_not_is_refused_with_what_there_is(monkeypatch, words, problem):
    monkeypatch.setenv("ACESTEP_BENCH_CELLS", words)
    for cells in (
        lambda: _matrix.tier_cells("synthetic-tiny"),
        lambda: _matrix.timing_cells("synthetic-tiny"),
        _matrix.predicted_cells,
    ):
        with pytest.raises(_matrix.SettingError, match=r"^ACESTEP_BENCH_CELLS: ") as caught:
            cells()
        message = str(caught.value)
        assert problem in message and message.isprintable()
        assert all(f" {name}=" in message for name in _matrix.AXES)
        assert "duration_s=5,15,30,60,120,240 batch=1,2,4 " in message


@pytest.mark.parametrize("name", _matrix.AXES)
def test_every_value_of_every_axis_can_be_asked_for(monkeypatch, name):
    sources = ("synthetic-tiny", "synthetic-full")
    subject, _, axis = name.rpartition(".")
    for value in _matrix.AXES[name]:
        monkeypatch.setenv("ACESTEP_BENCH_CELLS", f"{name}={value}")
        left = [cell for source in sources for cell in _matrix.every_cell(source)]
        own = [cell for cell in left if dict(cell.params).get("subject", "") == subject]
        values = [c[axis] for c in own if axis in dict(c.params) and (subject or c.kind not in PREDICTED)]
        assert left and set(values) <= {value}


def test_a_boundary_is_found_among_every_tier_or_not_at_all(monkeypatch):
    assert len(_matrix.boundary_cells("synthetic-full")) == 4 + 2  # with the XL DiT
    monkeypatch.setenv("ACESTEP_BENCH_CELLS", "tier_gb=8,16")
    assert _matrix.boundary_cells("synthetic-full") == []


def test_what_asv_selected_is_measured_and_what_a_boundary_follows_from(monkeypatch):
    monkeypatch.setenv(
        "ACESTEP_BENCH_SELECTED", "text mode=create\ncold engine=plain\nmemory tier_gb=8 lm=True"
    )
    assert [cell.name for cell in _matrix.timing_cells("synthetic-tiny")] == ["text mode=create"]
    assert [cell.name for cell in _matrix.cold_cells("synthetic-tiny")] == ["cold engine=plain"]
    assert [cell.name for cell in _matrix.tier_cells("synthetic-tiny")] == ["memory tier_gb=8 lm=True"]
    assert _matrix.predicted_cells() == _matrix.boundary_cells("synthetic-tiny") == []
    monkeypatch.setenv("ACESTEP_BENCH_SELECTED", "boundary variant=no-quant lm=False")
    tiers = [(cell["tier_gb"], cell["variant"]) for cell in _matrix.tier_cells("synthetic-tiny")]
    assert tiers == list(itertools.product(_matrix.TIERS_GB, _matrix.VARIANTS))
    assert not any(cell["lm"] for cell in _matrix.tier_cells("synthetic-tiny"))


@pytest.mark.parametrize("text", ["0", "-1", "3x", "1.5", "٣", "9" * 5000])
def test_a_cell_is_timed_a_whole_number_of_times(monkeypatch, text):
    monkeypatch.setenv("ACESTEP_BENCH_REPEATS", text)
    with pytest.raises(
        _matrix.SettingError, match=r"^ACESTEP_BENCH_REPEATS: .* is not a whole number from 1"
    ):
        _matrix.repeats()


def test_other_engines_run_the_least_and_each_is_loaded_once():
    cells = _matrix.timing_cells("/models/acestep")
    runs = [cell.engine for cell in cells]
    assert list(dict.fromkeys(runs)) == list(_matrix.ENGINES)
    assert sum(before != after for before, after in itertools.pairwise(runs)) == len(_matrix.ENGINES) - 1
    for cell in cells:
        if cell.engine not in (_matrix.PLAIN, _matrix.BASE):
            assert cell.kind == "parity" or (cell["duration_s"], cell["batch"]) == (30, 1)
            assert cell.kind != "generate" or (cell["steps"], cell["thinking"]) == (8, False)


def test_every_backend_and_quantization_is_measured():
    from acestep.lm.backends.registry import BACKENDS
    from harness.quantization import QUANTIZATIONS

    assert set(_matrix.BACKENDS) == set(BACKENDS)
    assert set(_matrix.QUANTIZATIONS) == {"none", *QUANTIZATIONS}
    told = [_matrix.UNLESS_SAID | choices for choices in _matrix.ENGINES.values() if "dit" not in choices]
    assert {one["lm_backend"] for one in told} == set(BACKENDS)
    assert {(one["quantization"], one["compile"]) for one in told} == set(
        itertools.product(_matrix.QUANTIZATIONS, _matrix.COMPILE)
    )


@pytest.mark.parametrize(
    ("words", "engines"),
    [
        ("quantization=none compile=False backend=pt", {"plain", "base"}),
        (
            "quantization=fp8_weight_only compile=False backend=mlx",
            {"plain", "base", "fp8_weight_only", "mlx"},
        ),
        ("compile=True quantization=none backend=pt", {"plain", "base", "compiled"}),
    ],
)
def test_the_filter_takes_engines_away(monkeypatch, words, engines):
    monkeypatch.setenv("ACESTEP_BENCH_CELLS", words)
    assert {cell.engine for cell in _matrix.timing_cells("synthetic-tiny")} == engines


def test_streams_vary_their_chunks_and_their_planning_one_at_a_time():
    def sizes(source, duration_s):
        cells = [cell for cell in _matrix.timing_cells(source) if cell.kind == "stream"]
        return {(c["thinking"], c["chunk_s"]) for c in cells if c["duration_s"] == duration_s}

    every = {(False, 1), (False, 0.25), (True, 1)}
    assert all(sizes("/models/acestep", duration_s) == every for duration_s in _matrix.GUIDE_DURATIONS_S)
    assert sizes("synthetic-tiny", 5) == every and sizes("synthetic-tiny", 15) == {(False, 1)}
    assert _matrix.CHUNKS_S[0] == CHUNK_S


def test_a_start_is_measured_eager_and_compiled(monkeypatch):
    assert [cell.engine for cell in _matrix.cold_cells("synthetic-tiny")] == ["plain", "compiled"]
    monkeypatch.setenv("ACESTEP_BENCH_CELLS", "compile=False duration_s=5")
    assert [cell.name for cell in _matrix.cold_cells("synthetic-tiny")] == ["cold engine=plain"]


def test_every_task_mode_and_way_of_guiding_is_measured():
    from acestep.request import GUIDANCE_MODES, INFER_METHODS
    from acestep.tasks import TASKS

    cells = _matrix.timing_cells("synthetic-tiny")
    assert {c["task"] for c in cells if c.kind == "task"} - {"reference"} == set(TASKS) - {"text2music"}
    assert {c["method"] for c in cells if c.kind == "solver"} == set(INFER_METHODS)
    assert {c["guidance"] for c in cells if c.kind == "solver"} == {"none", *GUIDANCE_MODES}
    assert {c["mode"] for c in cells if c.kind == "text"} == {"understand", "create", "format"}
