"""Every entry point, ended at random moments: nothing measured is lost, no file is torn, no process stays.

HYPOTHESIS_PROFILE=nightly ends many more.
"""

import getpass
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import psutil
import pytest
from alive import eventually
from places import ROOT

from benchmarks import _records

NUMBERS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
TINY = "--source synthetic-tiny"
CASES = f"{TINY} --duration 10 --steps 1 --tiers 4 6 8 --out out"
COMMANDS = {
    "acestep": f"-m acestep generate {TINY} --device cpu --duration 6 --steps 1 --out out",
    "acestep.costs": f"-m acestep.costs {TINY} --duration 10 --html out.html",
    "profiler": f"profile_inference.py {TINY} --device cpu --mode benchmark --benchmark-output out.json",
    "tiersim, run": f"-m tiersim --run --device cpu {CASES}",
    "tiersim, predicted": f"-m tiersim --predict --jobs 2 {CASES}",
    "worker": "-P benchmarks/worker/measure.py timing out.jsonl",
}
KILLS, LATEST_S = (200, 8.0) if os.environ.get("HYPOTHESIS_PROFILE") == "nightly" else (len(COMMANDS), 2.0)
KERNELS = f"torchinductor_{getpass.getuser()}"  # compiled, for the next run
NAME_VARIABLE = "TEST_KILLS"  # in the environment of every process of a test


class Place:
    """A folder that an entry point is run in until it comes to its end, and all that it writes."""

    def __init__(self, folder: Path, command: str):
        self.folder = folder
        self._name = uuid.uuid4().hex
        words = [str(ROOT / word) if word.endswith(".py") else word for word in command.split()]
        self._command = [sys.executable, *words]
        self.temporary = folder / "tmp"
        self.temporary.mkdir(parents=True)
        self._environ = os.environ | {
            NAME_VARIABLE: self._name,
            "TMPDIR": str(self.temporary),
            "HOME": str(folder),
            "ACESTEP_SOURCE": "synthetic-tiny",
            "PYTHONPATH": str(ROOT),
        }

    def start(self) -> subprocess.Popen[str]:
        """In a session of its own, as a terminal would."""
        with (self.folder / "stderr").open("w") as errors:
            return subprocess.Popen(
                self._command, cwd=self.folder, env=self._environ, stdout=subprocess.DEVNULL, stderr=errors,
                start_new_session=True, text=True,
            )  # fmt: skip

    def rows(self) -> set[str]:
        """What has been measured so far, each file of it whole."""
        cases = [json.loads(file.read_text()) for file in self.folder.glob("out/cases/*.json")]
        profiles = [json.loads(file.read_text()) for file in self.folder.glob("out*.json")]
        for file in self.folder.glob("out*.html"):
            assert file.read_text().rstrip().endswith("</html>")
        for file in self.folder.glob("out/*.wav"):
            assert file.stat().st_size > 4 + int.from_bytes(file.read_bytes()[4:8], "little")
        cells = _records.read(self.folder / "out.jsonl")[1]
        return (
            {case["key"] for case in cases}
            | {item["key"] for p in profiles for item in p["items"]}
            | {*cells}
        )

    def processes(self) -> list[psutil.Process]:
        """Who runs and was started from here."""
        running = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(NAME_VARIABLE) == self._name:
                    running.append(process)
            except (psutil.Error, OSError):
                continue
        return running


def has_begun(pid: int) -> bool:
    """Whether our first statement has run; what a signal does to the interpreter before it is Python's."""
    caught = re.search(r"SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text())
    return caught is not None and bool(int(caught[1], 16) >> (signal.SIGTERM - 1) & 1)


@pytest.mark.kills
def test_nothing_is_lost_and_nobody_stays(tmp_path):
    draw = random.Random(20261129)
    places: dict[str, Place] = {}
    for kill in range(KILLS):
        name = list(COMMANDS)[kill % len(COMMANDS)]
        if name not in places:
            places[name] = Place(tmp_path / str(kill), COMMANDS[name])
        place = places[name]
        number, after_s = draw.choice(NUMBERS), draw.uniform(0, LATEST_S)
        before = place.rows()
        process = place.start()
        eventually(lambda process=process: has_begun(process.pid))
        time.sleep(after_s)
        process.send_signal(number)
        process.wait(120)
        errors = (place.folder / "stderr").read_text()
        what = f"kill {kill}, {name}, {number.name} after {after_s:.2f} s: {process.returncode}, {errors}"
        assert process.returncode in (0, -number, 128 + number), what
        assert "Traceback" not in errors, what
        assert before <= place.rows(), what
        left = [path.name for path in place.temporary.iterdir() if path.name != KERNELS]
        assert all(name.startswith("bench-scratch-") for name in left), what
        assert len(left) <= 1, what  # of this run; that of the last is gone
        eventually(lambda place=place: not place.processes())
        if process.returncode == 0:
            del places[name]
