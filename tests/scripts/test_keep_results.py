"""What a run leaves is data: results of its commit go where they belong, and nothing else goes anywhere."""

import json
import os
import subprocess
import sys

import pytest
from places import ROOT

SCRIPT = ROOT / ".github" / "keep_results.py"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
RESULT = f"a-cpu/{COMMIT[:8]}-checkout-py3.11-torch2.13.0.json"
OTHER = RESULT.replace(COMMIT[:8], "89abcdef")


@pytest.fixture
def measured(tmp_path):
    """What a run of a commit leaves, and beside it the results of another."""
    write(tmp_path / "measured", {"benchmarks.json": {}, "a-cpu/machine.json": {"machine": "a-cpu"}})
    write(tmp_path / "measured", {RESULT: {"commit_hash": COMMIT, "version": 2}})
    write(tmp_path / "results", {OTHER: {"commit_hash": "89abcdef"}, "benchmarks.json": {"old": 1}})
    return tmp_path / "measured"


def write(folder, files):
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(data if isinstance(data, str) else json.dumps(data))


def keep(measured):
    command = [sys.executable, "-I", str(SCRIPT), str(measured), str(measured.with_name("results")), COMMIT]
    return subprocess.run(command, capture_output=True, text=True)


def kept(measured):
    results = measured.with_name("results")
    return {str(f.relative_to(results)): f.read_text() for f in results.rglob("*") if f.is_file()}


def test_results_go_beside_those_of_other_commits(measured):
    before = kept(measured)
    done = keep(measured)
    assert done.returncode == 0, done.stderr
    after = kept(measured)
    assert after.keys() == {OTHER, "benchmarks.json", "a-cpu/machine.json", RESULT}
    assert after[OTHER] == before[OTHER]
    assert json.loads(after[RESULT])["commit_hash"] == COMMIT


HOSTILE = {
    "another commit's": lambda folder: write(folder, {OTHER: {"commit_hash": COMMIT}}),
    "another commit's under this name": lambda folder: write(folder, {RESULT: {"commit_hash": "89abcdef"}}),
    "a hook": lambda folder: write(folder, {".git/hooks/post-commit": "{}"}),
    "a workflow": lambda folder: write(folder, {".github/workflows/x.yml": "{}"}),
    "no JSON": lambda folder: write(folder, {RESULT: "#!/bin/sh"}),
    "no object": lambda folder: write(folder, {RESULT: "[]"}),
    "too deep": lambda folder: write(folder, {RESULT: "[" * 200_000}),
    "too large": lambda folder: write(folder, {RESULT: " " * (16 * 2**20) + "{}"}),
    "too many": lambda folder: write(folder, {f"m{i}/machine.json": {} for i in range(64)}),
    "a link": lambda folder: (folder / "x").symlink_to("/etc/hostname"),
    "a link in place": lambda folder: relink(folder / RESULT, "/etc/hostname"),
    "a linked folder": lambda folder: (folder / "b").symlink_to(folder / "a-cpu"),
    "a pipe": lambda folder: os.mkfifo(folder / "pipe"),
    "a pipe in place": lambda folder: ((folder / RESULT).unlink(), os.mkfifo(folder / RESULT)),
    "a name with a line": lambda folder: write(folder, {"a\nb/machine.json": {}}),
    "nothing": lambda folder: (folder / RESULT).unlink(),
    "a link where it goes": lambda folder: link_target(folder),
}


def relink(path, target):
    path.unlink()
    path.symlink_to(target)


def link_target(measured):
    results = measured.with_name("results")
    (results / "elsewhere").mkdir()
    (results / "a-cpu").rename(results / "moved")
    (results / "a-cpu").symlink_to("elsewhere")


@pytest.mark.parametrize("kind", HOSTILE)
def test_anything_else_is_refused_in_one_line_and_nothing_is_kept(measured, kind):
    HOSTILE[kind](measured)
    before = kept(measured)
    done = keep(measured)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("keep_results: ") and done.stderr.count("\n") == 1
    assert kept(measured) == before
