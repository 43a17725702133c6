"""asv itself on a small history: the contracts with it that no documentation promises."""

import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.request import urlopen

import asv
import pages
import psutil
import pytest

from benchmarks import _records
from benchmarks.dit import TimeDiT
from scripts.machine import machine_facts

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
    return history.asv("run", "-E", "checkout", "--bench", bench, *commits)


OF_A_STEP = pages.code("CONTRIBUTING.md", "python")


@pytest.fixture(scope="module")
def published(shared_history):
    """Three commits, each with an engine of its own or none, measured as one range and published; by the
    benchmark of CONTRIBUTING, too, which is in none of them."""
    history = shared_history
    history.commit("Slower", history.engine.replace("SLOWER = 1.0", "SLOWER = 1.5"))
    (history.path / "benchmarks/of_a_step.py").write_text(OF_A_STEP)
    run(history, "ALL", bench="TimeDiT|TrackTokensPerSec|TimePerStep")
    history.asv("publish")
    return history


def test_a_range_measures_each_commits_own_engine(published):
    found = results(published)
    before = found["The engine"]["dit.TimeDiT.track_diffuse"]
    after = found["Slower"]["dit.TimeDiT.track_diffuse"]
    assert after["result"][0] / before["result"][0] == pytest.approx(1.5, rel=0.01)
    assert before["stats_repeat"][0] == 3  # a samples dict has asv's statistics
    assert before["stats_ci_99_a"][0] < before["result"][0] < before["stats_ci_99_b"][0]
    assert before["version"] == TimeDiT.version


def test_a_benchmark_in_fifteen_lines_runs_as_it_stands_and_need_not_be_committed(published):
    """A step of the made-up engine is a millisecond for each second of audio."""
    assert len(list(filter(None, OF_A_STEP.splitlines()))) <= 15
    assert published.run("git", "status", "--porcelain").stdout == "?? benchmarks/of_a_step.py\n"
    rows = {
        subject: row.get("of_a_step.TimePerStep.track_step") for subject, row in results(published).items()
    }
    assert rows["The engine"]["result"][0] == pytest.approx(0.005, rel=0.01)
    assert rows["Slower"]["result"][0] == pytest.approx(1.5 * 0.005, rel=0.01)


def test_the_site_is_previewed(published):
    """By asv itself, which is asked for a port that is free."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", "asv", "preview", "--port", port]
    with subprocess.Popen(
        command, cwd=published.path, env=published.environ, stdout=subprocess.PIPE, text=True
    ) as asv:
        try:
            while port not in (line := asv.stdout.readline()):
                assert line, asv.wait()
            assert "TimeDiT" in urlopen(f"http://127.0.0.1:{port}/index.json").read().decode()
        finally:
            asv.kill()


def test_what_changed_is_read_from_what_asv_wrote(published):
    done = published.run(sys.executable, "-m", "scripts.changes", "--format", "json")
    (machine,) = json.loads(done.stdout)["machines"]
    assert machine["facts"]["cpu"] == machine_facts()["cpu"]
    assert (machine["commits"], machine["last"]["subject"], machine["behind"]) == (3, "Slower", 0)
    assert machine["series"] > 0 and machine["shifts"] == []  # of three commits nothing is said


def test_what_else_the_machine_did_is_kept_beside_each_value(published):
    """By cell, for every commit whose engine was measured."""
    files = (published.path / ".asv" / "results").glob("*/*-checkout-*.json")
    cells = [json.loads(file.read_text()).get("conditions", {}) for file in files]
    measured = [one for one in cells if one]
    assert len(measured) == 2
    for one in measured:
        facts = one[TimeDiT().cell(5, 1, 8, "none").name]
        assert facts["cores"] == psutil.cpu_count() and facts["other_cores"] >= 0


def test_a_commit_from_before_the_engine_is_not_applicable(published):
    rows = results(published)["Before the engine"]
    assert "dit.TimeDiT.track_diffuse" in rows and len(rows) > 1
    for row in rows.values():
        assert row["result"] is None or all(value != value for value in row["result"])


def test_direction_and_unit_reach_the_published_index(published):
    index = json.loads((published.path / ".asv/html/explorer.json").read_text())
    measured = {name.split(".")[1] for name in index["benchmarks"]}
    assert measured == {"TimeDiT", "TrackTokensPerSec", "TimePerStep"}  # what has a value
    shown = index["benchmarks"]["lm.TrackTokensPerSec.track_decode_rate"]
    assert (shown["unit"], shown["less_is_better"]) == ("tokens/s", False)
    (facts,) = index["environments"].values()
    assert {"gpu", "vram", "driver", "torch", "cuda"} <= facts.keys()


def test_the_stock_pages_are_gone(published):
    html = published.path / ".asv/html"
    stock = {file.name for file in Path(asv.__file__).with_name("www").iterdir()}
    assert stock & {file.name for file in html.iterdir()} == {"index.html"}  # ours
    text = "".join(file.read_text() for file in html.glob("*.html"))
    assert not re.search(r"""(src|href)=["'](\w+:)?//""", text)  # nothing is loaded from elsewhere
    assert (html / "index.html").exists()


def test_the_environment_is_named_after_what_is_installed(published):
    from importlib.metadata import version

    files = list((published.path / ".asv" / "results").glob("*/*-checkout-*.json"))
    assert len(files) == 3
    for file in files:
        data = json.loads(file.read_text())
        assert data["requirements"] == {"torch": version("torch").partition("+")[0]}
        assert data["env_vars"] == {"ACESTEP_SOURCE": "synthetic-tiny"}
        assert str(published.path.parent) not in file.read_text()


def test_what_the_docs_print_works_in_a_fresh_home(history):
    (words,) = (
        line.split() for line in pages.lines(pages.text("docs/measuring.md")) if line.startswith("asv run ")
    )
    assert not list(Path(history.environ["HOME"]).glob(".asv*"))
    history.asv(*words[1:-1], "--bench", "TimeVAEDecode", words[-1].replace("~10", "~1"))
    assert set(results(history)) == {"The engine"}
    facts = machine_facts()
    (file,) = (history.path / ".asv" / "results").glob("*/machine.json")
    assert file.parent.name == facts["machine"]
    assert facts.items() <= json.loads(file.read_text()).items()


def test_where_nothing_was_measured_publish_says_what_does(history):
    """As after a dry run, which leaves a list of benchmarks."""
    (history.path / ".asv/results").mkdir(parents=True)
    (history.path / ".asv/results/benchmarks.json").write_text('{"version": 2}')
    done = history.asv("publish", check=False)
    assert done.returncode == 1 and "run make bench" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def known(row):
    """What is known of each measured combination of a benchmark, by the combination's number."""
    columns = [name for name in row if name in ("result", "samples") or name.startswith("stats_")]
    values = [value if value == value else None for value in row["result"]]
    return {n: [row[name][n] for name in columns] for n, value in enumerate(values) if value is not None}


def test_what_was_not_asked_for_is_neither_measured_nor_touched(history):
    cells = "duration_s=5 batch={} steps=8 quantization=none"
    history.environ["ACESTEP_BENCH_CELLS"] = cells.format(1)
    run(history, "--record-samples", "HEAD^!", bench="TimeDiT|TimeVAEDecode")
    first = results(history)["The engine"]
    history.environ["ACESTEP_BENCH_CELLS"] = cells.format(2)
    run(history, "HEAD^!")
    second = results(history)["The engine"]
    before, after = (known(rows["dit.TimeDiT.track_diffuse"]) for rows in (first, second))
    assert (len(before), len(after)) == (1, 2)
    assert all(after[index] == before[index] and len(before[index][-1]) == 3 for index in before)
    other = "vae.TimeVAEDecode.track_vae_decode"
    assert second[other] == first[other]
    planned = {name for file in (history.path / ".asv/records").iterdir() for name in _records.read(file)[1]}
    assert planned == {f"generate duration_s=5 batch={batch} thinking=False steps=8" for batch in (1, 2)}


STUCK = """
import subprocess, sys, time
def hook(params, config):
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    open("stuck", "w").close()
    time.sleep(600)
"""


def processes(history):
    """Those that have the home of this history, which nobody else has."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("HOME") == history.environ["HOME"]:
                yield process


@pytest.fixture
def short_folder():
    """A folder whose path leaves room for that of a socket."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=lambda how: how.name)
def test_nothing_outlives_asv(history, how, tmp_path, short_folder):
    stuck = tmp_path / "stuck"
    history.environ["TMPDIR"] = str(short_folder)
    history.commit("Get stuck", history.engine + STUCK.replace('"stuck"', repr(str(stuck))))
    command = [sys.executable, "-m", "asv", "run", "-E", "checkout", "--bench", "TimeVAEDecode", "HEAD^!"]
    with (tmp_path / "output").open("w") as output:
        asv = subprocess.Popen(command, cwd=history.path, env=history.environ, stdout=output, stderr=output)
    while not stuck.exists() and asv.poll() is None:
        time.sleep(0.05)
    alive = list(processes(history))
    asv.send_signal(how)
    asv.wait()
    # asv, its fork server, setup_cache, the worker, and what the engine started
    assert len(alive) >= 5, (tmp_path / "output").read_text()
    _, left = psutil.wait_procs(alive, timeout=60)
    assert left == list(processes(history)) == []
    assert len(list(short_folder.iterdir())) == 1
    history.asv("publish", check=False)  # the next one takes it away, and its own; nothing was measured
    assert list(short_folder.iterdir()) == []
