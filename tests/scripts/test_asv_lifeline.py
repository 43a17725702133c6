"""One folder for what is temporary: it goes with its run or the next one, never while its run goes on."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from places import ROOT

RUN = """
import tempfile
from scripts.asv_lifeline import one_temporary_folder
one_temporary_folder()
tempfile.mkdtemp()
print(tempfile.gettempdir(), flush=True)
input()
"""


@pytest.fixture
def runs():
    """A function that starts a run and gives its process and its folder, below a path of any length."""
    started = []
    with tempfile.TemporaryDirectory(dir="/tmp") as base:

        def start(below=""):
            everyones = Path(base, below)
            everyones.mkdir(parents=True, exist_ok=True)
            environ = {**os.environ, "TMPDIR": str(everyones)}
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
            process = subprocess.Popen([sys.executable, "-c", RUN], cwd=ROOT, env=environ, text=True, **pipes)
            started.append(process)
            return process, Path(process.stdout.readline().strip())

        yield start
        for process in started:
            process.kill()
            process.communicate()


def test_a_folder_goes_with_its_run_or_with_the_next(runs):
    first, folder = runs()
    second, other = runs()
    assert folder.is_dir() and other.is_dir() and folder != other
    second.communicate("\n")
    assert folder.is_dir() and not other.exists()
    first.kill()
    first.wait()
    assert folder.is_dir()
    third, _ = runs()
    assert not folder.exists()
    third.communicate("\n")
    assert list(folder.parent.iterdir()) == []


def test_a_path_too_long_for_sockets_is_left_as_it_is(runs):
    _, folder = runs("so/" + "long" * 12)
    assert folder.name == "long" * 12
