"""asv itself on a small history: the contracts with it that no documentation promises."""

import json
import sys

import pytest

from benchmarks.dit import TimeDiT

pytestmark = pytest.mark.timeout(300)


def results(history):
    """asv's stored rows by commit subject and benchmark, as dicts."""
    rows = {}
    for file in (history.path / ".asv" / "results").glob("*/*-checkout-*.json"):
        data = json.loads(file.read_text())
        subject = history.run("git", "log", "-1", "--format=%s", data["commit_hash"]).stdout.strip()
        columns = data["result_columns"]
        rows[subject] = {name: dict(zip(columns, row, strict=False)) for name, row in data["results"].items()}
    return rows


def run(history, *commits, bench="TimeDiT"):
    history.run(sys.executable, "-m", "scripts.machine")
    return history.asv("run", "-E", "checkout", "--launch-method", "forkserver", "--bench", bench, *commits)


def test_a_range_measures_each_commits_own_engine(history):
    slower = history.path.joinpath("acestep/engine.py").read_text().replace("SLOWER = 1.0", "SLOWER = 1.5")
    history.commit("Slower", slower)
    run(history, "HEAD~2..HEAD")
    found = results(history)
    before = found["The engine"]["dit.TimeDiT.track_diffuse"]
    after = found["Slower"]["dit.TimeDiT.track_diffuse"]
    assert after["result"][0] / before["result"][0] == pytest.approx(1.5, rel=0.01)
    assert before["stats_repeat"][0] == 3  # a samples dict has asv's statistics
    assert before["stats_ci_99_a"][0] < before["result"][0] < before["stats_ci_99_b"][0]
    assert before["version"] == TimeDiT.version


def test_a_commit_from_before_the_engine_is_not_applicable(history):
    done = run(history, "HEAD~1^!")
    (row,) = results(history)["Before the engine"].values()
    assert done.returncode == 0
    assert row["result"] is None or all(value != value for value in row["result"])


def test_direction_and_unit_reach_the_published_index(history):
    run(history, "HEAD^!", bench="TrackTokensPerSec")
    history.asv("publish")
    index = json.loads((history.path / ".asv/html/index.json").read_text())
    shown = index["benchmarks"]["lm.TrackTokensPerSec.track_decode_rate"]
    assert (shown["unit"], shown["less_is_better"]) == ("tokens/s", False)
    assert {"gpu", "vram", "driver", "torch", "cuda"} <= index["params"].keys()


def test_the_environment_is_named_after_what_is_installed(history):
    from importlib.metadata import version

    run(history, "HEAD^!")
    (file,) = (history.path / ".asv" / "results").glob("*/*-checkout-*.json")
    data = json.loads(file.read_text())
    assert data["requirements"] == {"torch": version("torch").partition("+")[0]}
    assert data["env_vars"] == {"ACESTEP_SOURCE": "synthetic-tiny"}
    assert str(history.path.parent) not in file.read_text()
