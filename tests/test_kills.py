"""Every entry point, ended at random moments: nothing measured is lost, no file is torn, no process stays.

HYPOTHESIS_PROFILE=nightly ends many more.
"""

import json
import os
import random
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

KILLS, LATEST_S = (200, 8.0) if os.environ.get("HYPOTHESIS_PROFILE") == "nightly" else (6, 2.0)
NUMBERS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
TINY = ("--source", "synthetic-tiny", "--device", "cpu")
CASES = (
    "--source",
    "synthetic-tiny",
    "--duration",
    "10",
    "--steps",
    "1",
    "--tiers",
    "4",
    "6",
    "8",
    "--out",
    "out",
)
COMMANDS = {
    "acestep": ("-m", "acestep", "generate", *TINY, "--duration", "6", "--steps", "1", "--out", "out"),
    "acestep.costs": (
        "-m",
        "acestep.costs",
        "--source",
        "synthetic-tiny",
        "--duration",
        "10",
        "--html",
        "out.html",
    ),
    "profiler": ("profile_inference.py", *TINY, "--mode", "benchmark", "--benchmark-output", "out.json"),
    "tiersim, run": ("-m", "tiersim", "--run", "--device", "cpu", *CASES),
    "tiersim, predicted": ("-m", "tiersim", "--predict", "--jobs", "2", *CASES),
}
NAME_VARIABLE = "TEST_KILLS"  # in the environment of every process of a test


class Place:
    """A folder that an entry point is run in until it comes to its end, and all that it writes."""

    def __init__(self, folder: Path, command: tuple[str, ...]):
        self.folder = folder
        self._name = uuid.uuid4().hex
        self._command = [
            sys.executable,
            *(str(ROOT / part) if part.endswith(".py") else part for part in command),
        ]
        self.temporary = folder / "tmp"
        self.temporary.mkdir(parents=True)
        self._environ = os.environ | {
            NAME_VARIABLE: self._name,
            "TMPDIR": str(self.temporary),
            "HOME": str(folder),
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
        return {case["key"] for case in cases} | {item["key"] for p in profiles for item in p["items"]}

    def processes(self) -> list[psutil.Process]:
        """Who runs and was started from here."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(NAME_VARIABLE) == self._name:
                    found.append(process)
            except (psutil.Error, OSError):
                continue
        return found


@pytest.mark.kills
def test_nothing_is_lost_and_nobody_stays(tmp_path):
    draw = random.Random(20261129)
    places: dict[str, Place] = {}
    for kill in range(KILLS):
        name = list(COMMANDS)[kill % len(COMMANDS)]
        if name not in places:
            places[name] = Place(tmp_path / str(kill), COMMANDS[name])
        place = places[name]
        number, after_s = draw.choice(NUMBERS), draw.uniform(0.1, LATEST_S)
        before = place.rows()
        process = place.start()
        time.sleep(after_s)
        process.send_signal(number)
        process.wait(120)
        errors = (place.folder / "stderr").read_text()
        what = f"kill {kill}, {name}, {number.name} after {after_s:.2f} s: {process.returncode}, {errors}"
        assert process.returncode in (0, -number, 128 + number), what
        assert "Traceback" not in errors, what
        assert before <= place.rows(), what
        assert len(list(place.temporary.glob("bench-scratch-*"))) <= 1, (
            what
        )  # of this run; that of the last is gone
        eventually(lambda place=place: not place.processes())
        if process.returncode == 0:
            del places[name]
