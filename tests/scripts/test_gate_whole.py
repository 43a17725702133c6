"""The gate on a small history, from the command to its exit code."""

import sys

import pytest

from scripts.gate.markdown import markdown
from scripts.gate.record import read


@pytest.fixture
def only_dit(narrow):
    """The same with few benchmarks: how a gate ends does not depend on how many it runs."""
    for module in (narrow.path / "benchmarks").glob("[a-z]*.py"):
        if module.name not in ("common.py", "costs.py", "dit.py"):  # which predictions are named in
            module.unlink()
    narrow.commit("Measure the DiT alone", None)
    return narrow


def run_gate(history, *arguments):
    """The finished command, and the record it has left."""
    done = history.run(sys.executable, "-m", "scripts.gate", *arguments, check=False)
    return done, read(history.path / ".asv" / "gate.json")


@pytest.mark.timeout(300)
def test_the_whole_path_on_a_seeded_change(narrow, tmp_path):
    narrow.environ["GITHUB_STEP_SUMMARY"] = str(tmp_path / "summary.md")
    narrow.commit("Change the engine", narrow.engine.replace("SLOWER = 1.0", "SLOWER = 1.5"))
    done, record = run_gate(narrow, "HEAD~1", "HEAD", "--only", "^(?!costs)")
    assert done.returncode == 1, done.stdout + done.stderr
    slower = [one for one in record.series if one.verdict == "slower"]
    assert {one.stage for one in slower} == {"diffuse", "wall"}
    assert {one.verdict for one in record.series} == {"slower", "same"}  # nothing failed or got lost
    assert all(1.4 < one.ratio_low <= one.ratio_high < 1.6 for one in slower if one.stage == "diffuse")
    assert {one.benchmark.split(".")[1] for one in slower} == {
        "TimeDiT", "TimeGenerate", "TimeGeneratePreset", "TrackStages", "TimeTask", "TrackTaskStages",
            "TimeSolver",
    }  # fmt: skip
    assert "diffuse, DiT: +50 %" in done.stdout and record.rounds == 4
    assert (tmp_path / "summary.md").read_text() == markdown(record)


@pytest.mark.timeout(300)
def test_a_change_that_costs_nothing_is_the_same(only_dit):
    only_dit.commit("Change the engine", only_dit.engine + "CHANGED = True\n")
    done, record = run_gate(only_dit, "HEAD~1", "HEAD", "--bench", "TimeDiT")
    assert done.returncode == 0, done.stdout + done.stderr
    assert {one.verdict for one in record.series} == {"same"} and record.verdict == "same"


@pytest.mark.timeout(300)
def test_an_engine_that_broke_is_not_measured(only_dit):
    only_dit.commit("Change the engine", only_dit.engine + "raise RuntimeError('broken')\n")
    done, record = run_gate(only_dit, "HEAD~1", "HEAD", "--bench", "TimeDiT")
    assert done.returncode == 2, done.stdout + done.stderr
    assert {one.verdict for one in record.series} == {"not measured"}
    assert all("broken" in one.reason for one in record.series)


def test_what_does_not_run_is_not_measured_and_the_working_tree_is(only_dit):
    only_dit.commit("Say more", only_dit.engine + "# a comment\n")
    (only_dit.path / "README.md").write_text("A page.\n")
    done, record = run_gate(only_dit, "HEAD~1")
    assert (done.returncode, record.verdict, record.series, record.rounds) == (0, "same", (), 0)
    assert record.head.working_tree and "no file differs that runs" in done.stdout
    engine = only_dit.path / "acestep" / "engine.py"
    engine.write_text(only_dit.engine.replace("SLOWER = 1.0", "SLOWER = 2.0"))
    done, record = run_gate(only_dit, "HEAD", "--only", "TimeDiT")
    assert (done.returncode, record.verdict, record.head.working_tree) == (1, "slower", True)
    assert only_dit.run("git", "status", "--porcelain").stdout.split() == [
        "M", "acestep/engine.py", "??", "README.md"
    ]  # fmt: skip


def test_a_commit_from_before_the_engine_is_compared_with_nothing(only_dit):
    first = only_dit.run("git", "rev-list", "--max-parents=0", "HEAD").stdout.strip()
    done, record = run_gate(only_dit, first, "HEAD", "--only", "TimeDiT")
    assert (done.returncode, record.verdict, record.series) == (2, "not measured", ())
    assert "nothing was compared" in " ".join(done.stdout.split())


def test_no_time_is_no_verdict(only_dit):
    only_dit.commit("Change the engine", only_dit.engine + "CHANGED = True\n")
    done, record = run_gate(only_dit, "HEAD~1", "HEAD", "--only", "TimeDiT", "--budget", "0.05s")
    assert (done.returncode, record.verdict) == (2, "cannot tell")
    assert all("the time was over" in one.reason for one in record.series)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["HEAD", "HEAD"], "are one commit"),
        (["HEAD"], "HEAD and the working tree are one commit"),
        (["nowhere"], "'nowhere' is no commit"),
        (["HEAD", "--upload-pack=x"], "unrecognized"),
        (["HEAD~1", "--only", "("], "is no pattern"),
        (["HEAD~1", "--only", "Nothing"], "leave no series"),
        (["HEAD~1", "--budget", "0"], "is no time"),
    ],
)
def test_what_cannot_be_compared_is_refused(shared_history, arguments, message):
    done = shared_history.run(sys.executable, "-m", "scripts.gate", *arguments, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr and done.stderr.count("\n") == 1
