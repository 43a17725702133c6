"""What asv is asked for and what is measured are one thing: no more, no less, and nothing else is touched."""

import itertools
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from asv.benchmarks import Benchmarks
from places import ROOT

from benchmarks import (
    _matrix,
    cold,
    costs,
    dit,
    generate,
    lm,
    memory,
    micro,
    parity,
    qwen3_tts,
    rvc,
    scaling,
    streaming,
    tasks,
    vae,
    waits,
)
from scripts import asv_selection
from scripts.gate import __main__ as gate

MODULES = (
    *(cold, costs, dit, generate, lm, memory, micro, parity, qwen3_tts, rvc, scaling, streaming, tasks),
    *(vae, waits),
)
CLASSES = [
    cls
    for module in MODULES
    for name, cls in vars(module).items()
    if isinstance(cls, type) and cls.__module__ == module.__name__ and not name.startswith("_")
]
TINY = ["synthetic-tiny"]


@pytest.fixture(autouse=True)
def _nothing_said(monkeypatch):
    monkeypatch.delenv(_matrix.FILTER, raising=False)
    monkeypatch.setenv(_matrix.SELECTED, "")  # restored afterwards


def benchmarks(regex=None):
    """The classes as asv has them once it has applied `--bench`."""
    listed = [
        {"name": f"{cls.__module__.rpartition('.')[2]}.{cls.__name__}.{method}",
         "params": [[repr(value) for value in axis] for axis in cls.params]}
        for cls in CLASSES
        for method in dir(cls)
        if method.startswith("track_")
    ]  # fmt: skip
    return Benchmarks(SimpleNamespace(benchmark_dir="benchmarks"), listed, regex=regex)


def read(selected):
    """The cells that are announced for what is selected, by kind."""
    asv_selection.announce(selected)
    kinds = {}
    for name in os.environ[_matrix.SELECTED].splitlines():
        kinds.setdefault(name.split()[0], []).append(name)
    return kinds


def combinations(selected, name):
    """The values of each selected combination of a benchmark."""
    values = list(itertools.product(*selected[name]["params"]))
    return [values[index] for index in selected.benchmark_selection[name]]


def test_everything_is_everything_that_is_measured():
    read(asv_selection.narrow(benchmarks(), TINY))
    announced = set(os.environ.pop(_matrix.SELECTED).splitlines())
    read_by_nobody = {f"memory tier_gb={t} lm={m} variant={v}" for t, m, v in itertools.product(
        _matrix.TIERS_GB, _matrix.WITH_LM, _matrix.VARIANTS[1:])}  # fmt: skip
    in_the_matrix = {cell.name for cell in _matrix.every_cell("synthetic-tiny")}
    of_a_subject = {
        name for name in announced if " subject=" in name
    } - in_the_matrix  # its classes know them
    assert announced - of_a_subject == in_the_matrix - read_by_nobody
    speech = {name for name in of_a_subject if " subject=qwen3_tts" in name}
    assert (len(speech), len(of_a_subject - speech)) == (2 + 2 + 1 + 6, 2 + 10 + 5 + 12 + 3 + 1 + 1)
    assert announced.isdisjoint(read_by_nobody)


@pytest.mark.parametrize("source", ["synthetic-tiny", "a-checkpoint"])
def test_every_benchmark_has_something_to_measure(source):
    named_only = {"PeakMemTierXL", "TrackTierBoundaryXL"} if [source] == TINY else set()
    measured = {name.split(".")[1] for name in asv_selection.narrow(benchmarks(), [source])}
    assert measured == {cls.__name__ for cls in CLASSES} - named_only


@pytest.mark.parametrize(
    ("bench", "kinds"),
    [
        ("TimeTextMode", {"text": 3}),
        ("TimeVAEDecode", {"generate": 4}),
        ("TrackPredictedPeak", {"predicted": 21 + 7 + 4 + 2}),  # with the XL DiT, of speech, of RVC
        ("TrackCostSpeech", {"cost": 4}),
        ("TrackCostRVC", {"cost": 1}),
        (r"TimeSynthesis.*\('flow'", {"component": 2}),
        ("TrackFirstSpeech", {"streamed": 2}),
        ("PeakMemTier", {"memory": 14}),
        ("^cold", {"cold": 2}),
        (r"TimeDiT.*\(5, 1, 8, 'none'\)", {"generate": 1}),
        (r"TimeTask|TimeSolver.*\('ode', 'none'", {"task": 6, "solver": 1}),
    ],
)
def test_one_benchmark_has_only_its_cells_measured(bench, kinds):
    selected = asv_selection.narrow(benchmarks(bench), TINY)
    assert {kind: len(names) for kind, names in read(selected).items()} == kinds


def test_the_filter_leaves_what_it_names_and_does_not_select_the_rest(monkeypatch):
    monkeypatch.setenv(_matrix.FILTER, "batch=2 duration_s=5")
    selected = asv_selection.narrow(benchmarks(), TINY)
    assert combinations(selected, "dit.TimeDiT.track_diffuse") == [("5", "2", "8", "'none'")]
    assert combinations(selected, "vae.TimeVAEDecode.track_vae_decode") == [("5", "2")]
    assert "generate.TrackStages.track_stage" not in selected  # of one item
    monkeypatch.setenv(_matrix.FILTER, "tier_gb=8,16")
    selected = asv_selection.narrow(benchmarks("PeakMem|Boundary"), TINY)
    assert {tier for tier, _ in combinations(selected, "memory.PeakMemTier.track_peak")} == {"8", "16"}
    assert "memory.TrackTierBoundary.track_minimum" not in selected  # of two tiers it is another number


def test_the_axes_of_a_subject_are_its_own(monkeypatch):
    """What names ACE-Step's leaves them alone, and the other way round."""
    monkeypatch.setenv(
        _matrix.FILTER, "duration_s=15 qwen3_tts.chunk_frames=12 qwen3_tts.model=0.6B-CustomVoice"
    )
    selected = asv_selection.narrow(benchmarks(), TINY)
    assert combinations(selected, "qwen3_tts.TrackFirstSpeech.track_first_audio") == [("1.04", "12")]
    assert len(combinations(selected, "qwen3_tts.TimeSpeech.track_wall")) == 2
    assert {size[0] for size in combinations(selected, "vae.TimeVAEDecode.track_vae_decode")} == {"15"}
    models = combinations(selected, "costs.TrackPredictedPeakSpeech.track_peak")
    assert models == [("4", "'0.6B-CustomVoice'"), ("6", "'0.6B-CustomVoice'")]


def test_tiny_weights_run_a_longer_utterance_where_it_is_named(monkeypatch):
    wall = "qwen3_tts.TimeSpeech.track_wall"
    lengths = [length for length, _ in combinations(asv_selection.narrow(benchmarks(), TINY), wall)]
    assert {*lengths} == {"1.04"}
    every = combinations(asv_selection.narrow(benchmarks(), ["synthetic-full"]), wall)
    assert {length for length, _ in every} == {"1.04", "5.04", "20.0"}
    monkeypatch.setenv(_matrix.FILTER, "qwen3_tts.duration_s=20.0")
    assert {length for length, _ in combinations(asv_selection.narrow(benchmarks(), TINY), wall)} == {"20.0"}


@pytest.mark.parametrize(
    ("source", "lengths"), [("synthetic-tiny", "5 15"), ("a-checkpoint", "30 60 120 240")]
)
def test_a_size_of_other_weights_is_not_selected(source, lengths):
    selected = asv_selection.narrow(benchmarks("TimeVAE"), [source])
    sizes = combinations(selected, "vae.TimeVAEDecode.track_vae_decode")
    assert {duration_s for duration_s, _ in sizes} == {*lengths.split()}


def test_what_is_no_class_of_cells_is_left_alone(monkeypatch):
    listed = [{"name": name, "params": []} for name in ("dit.track_of_a_module", "common.tracks.track_x")]
    others = Benchmarks(SimpleNamespace(benchmark_dir="benchmarks"), listed)
    assert list(asv_selection.narrow(others, TINY)) == [one["name"] for one in listed]
    assert read(others) == {}


ENTRIES = {
    "asv run": ["-m", "asv", "run", "-E", "checkout", "HEAD^!"],
    "asv continuous": ["-m", "asv", "continuous", "-E", "checkout", "HEAD~1", "HEAD"],
    "make bench": ["-m", "scripts.asv_selection"],
    "scripts.gate": ["-m", "scripts.gate", "HEAD~1", "HEAD"],
    "the worker by hand": ["-P", "benchmarks/worker/measure.py", "timing", "/nowhere/records.jsonl"],
}


SETTINGS = [(entry, "ACESTEP_BENCH_CELLS=Batch=1") for entry in ENTRIES]
SETTINGS += [(entry, "ACESTEP_BENCH_REPEATS=0") for entry in ("make bench", "the worker by hand")]


@pytest.mark.parametrize(("entry", "setting"), SETTINGS)
def test_a_wrong_setting_is_refused_at_once_by_all_who_read_it(entry, setting, tmp_path):
    name, _, value = setting.partition("=")
    environ = {**os.environ, name: value, "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, *ENTRIES[entry]], cwd=ROOT, env=environ, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1 and f": {name}: {value.partition('=')[0]!r} is not a" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_make_asks_before_it_measures():
    recipe = (ROOT / "Makefile").read_text().partition("\nbench:")[2].partition("\n\n")[0]
    assert recipe.splitlines()[1].strip() == "@$(BIN)/python -m scripts.asv_selection"


def test_the_head_of_the_makefile_has_every_target():
    head, _, rest = (ROOT / "Makefile").read_text().partition("\n\n")
    (targets,) = re.findall(r"^\.PHONY: (.+)$", rest, re.MULTILINE)
    assert re.findall(r"^# make ([\w-]+)", head, re.MULTILINE) == targets.split()


def test_make_clean_keeps_what_was_measured(tmp_path):
    for name in ("results/cpu/a.json", "records/a.jsonl", "gate.json", "env/a", "html/index.html"):
        (tmp_path / ".asv" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / ".asv" / name).touch()
    subprocess.run(["make", "-sC", tmp_path, "-f", ROOT / "Makefile", "clean"], check=True)
    assert {path.name for path in (tmp_path / ".asv").iterdir()} == {"results", "records", "gate.json"}


@pytest.mark.parametrize("command", ["run HEAD^!", "-v publish", "continuous main HEAD", "rm x"])
@pytest.mark.parametrize("lacking", ["repository", "room"])
def test_where_asv_could_not_write_it_is_one_line_before_it_begins(
    tmp_path, monkeypatch, capsys, command, lacking
):
    """The control: what only reads is not refused."""
    monkeypatch.setattr(asv_selection, "select_cells", lambda: None)
    monkeypatch.setattr(asv_selection, "keep_samples", lambda: None)
    if lacking == "repository":
        monkeypatch.chdir(tmp_path)
    else:
        monkeypatch.setattr(asv_selection, "PLACE", Path("/proc/self/attr"))
        monkeypatch.setattr(os, "access", lambda path, mode: path != asv_selection.PLACE)
    monkeypatch.setattr(sys, "argv", ["asv", *command.split()])
    with pytest.raises(SystemExit) as ended:
        asv_selection.setup()
    reason = "not a git repository" if lacking == "repository" else "cannot be written"
    err = capsys.readouterr().err
    assert ended.value.code == 3 and err.startswith("asv: ") and reason in err and err.count("\n") == 1
    assert asv_selection.main([]) == 3
    monkeypatch.setattr(sys, "argv", ["gate", "main"])
    assert gate.main() == 3 and reason in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["asv", "show"])
    asv_selection.setup()
