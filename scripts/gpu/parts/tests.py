"""The tests marked gpu, by pytest in a process of its own: what passed, what failed and how."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from harness.errors import MissingPrerequisite
from harness.records.machine import ROOT
from harness.text import harmless
from scripts.gpu.steps import REASON_CHARS, Measured, Step, Task

MARKED = re.compile(r"pytest\.mark\.gpu\b")
ELSEWHERE = "test_prediction_gpu.py"  # a part of its own, `peaks`
LOG_CHARS = 8_000
REPORTING_S = 5.0  # of tests that are interrupted


def steps(task: Task) -> Iterator[Step]:
    def run() -> Measured:
        task.need_cuda("tests marked gpu")
        return run_tests(marked(ROOT / "tests"), task.limit_s, "-m", "gpu")

    yield Step("pytest -m gpu", run)


def marked(folder: Path) -> list[Path]:
    """Files that have such tests: collecting all others would take most of the time."""
    files = (path for path in sorted(folder.rglob("test_*.py")) if path.name != ELSEWHERE)
    return [path for path in files if MARKED.search(path.read_text("utf-8"))]


def run_tests(files: Sequence[Path], limit_s: float, *arguments: str, root: Path = ROOT) -> Measured:
    """Run tests, for `limit_s` at most, after which those are told that ran.

    Raises MissingPrerequisite without pytest.
    """
    if find_spec("pytest") is None:
        raise MissingPrerequisite("pytest is not installed; pip install -e '.[dev]'")
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as said:
        report = Path(folder, "report.xml")
        command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider"]
        command += [f"--junitxml={report}", *arguments, *map(str, files)]
        with subprocess.Popen(command, cwd=root, stdout=said, stderr=said) as ran:
            cut = "" if _ends(ran, limit_s) else f"not through after {limit_s:.0f} s"
        said.seek(0)
        log = harmless(said.read().decode(errors="replace")[-LOG_CHARS:], "\n", LOG_CHARS)
        if report.exists():
            return _read(report, log, cut)
        if cut:
            return Measured({"log": log}, cut=cut)
        last = (log.strip().splitlines() or ["nothing was said"])[-1]
        return Measured({"log": log}, error=f"pytest ended with {ran.returncode}: {last}")


def _ends(process: subprocess.Popen[bytes], limit_s: float) -> bool:
    """Whether pytest ends in time. Otherwise it is interrupted, on which it reports what ran, or killed."""
    try:
        process.wait(limit_s)
        return True
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
    try:
        process.wait(REPORTING_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    return False


def _read(report: Path, log: str, cut: str) -> Measured:
    """The counts of a JUnit report, and its failures in a line."""
    failures, skipped, passed = [], 0, 0
    for case in ET.parse(report).iter("testcase"):
        if case.get("name") is None:  # it was interrupted
            continue
        name = f"{case.get('classname')}::{case.get('name')}"
        wrong = next((child for child in case if child.tag in ("failure", "error")), None)
        if wrong is not None:
            message = (wrong.get("message") or "").strip().splitlines() or [""]
            failures.append(f"{name}: {message[0]}")
        elif case.find("skipped") is not None:
            skipped += 1
        else:
            passed += 1
    values = {"passed": passed, "failed": len(failures), "skipped": skipped, "log": log if failures else ""}
    error = "; ".join(([cut] if cut else []) + failures) if failures else ""
    return Measured(values, error=harmless(error, most=REASON_CHARS), cut=cut)
