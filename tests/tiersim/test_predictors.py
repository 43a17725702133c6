"""Processes that predict: it does not matter which one did, and none is left behind."""

import os
import signal
import subprocess
import sys
from dataclasses import replace

import psutil
import pytest

from harness.cards import find
from tiersim import Case, predictors
from tiersim.case import resolve
from tiersim.prediction import predict_case
from tiersim.predictors import Predictors

CARD = find("rtx4090")
SHORT = ("--source", "synthetic-tiny", "--duration", "10", "--steps", "1")
TWO = ("--predict", "--tiers", "8", "16", "24", "--variants", "no-quant", "--jobs", "2", *SHORT)
COMMAND = (sys.executable, "-m", "tiersim", *TWO)


def case(tier_gb):
    return Case(tier_gb, card=CARD, source="synthetic-tiny", duration_s=10, steps=1)


@pytest.mark.nightly
def test_a_prediction_does_not_depend_on_the_process_that_makes_it():
    cases = [case(16), case(8)]
    shown, heard = [], []
    with Predictors(2) as there:
        made = there.run_plans(
            list(map(resolve, cases)), on_record=shown.append, on_event=lambda *said: heard.append(said)
        )
    assert shown == made and [record.requested for record in made] == cases
    assert {said for said, _ in heard} == set(cases)
    assert {"load", "diffuse"} <= {event["name"] for _, event in heard if event["event"] == "phase"}
    here = [predict_case(one) for one in reversed(cases)]
    assert [replace(record, process_s=0) for record in made] == [
        replace(record, process_s=0) for record in reversed(here)
    ]


def test_a_process_that_is_ended_from_outside_is_the_harnesss_failure(monkeypatch):
    with Predictors(1) as there, pytest.raises(ChildProcessError, match="--jobs 1"):
        monkeypatch.setattr(predictors, "_predict", os._exit)  # it is told by name, and this has a name
        there.run_plans([1], on_record=print)


def started() -> tuple[subprocess.Popen[str], list[psutil.Process]]:
    """A command that predicts, and its processes, once both of them do."""
    command = subprocess.Popen(
        COMMAND, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert command.stderr
    for _ in range(2):
        assert "start" in command.stderr.readline()
    return command, psutil.Process(command.pid).children(recursive=True)


@pytest.mark.parametrize(
    ("to_all", "number", "code"),
    [
        (True, signal.SIGINT, 130),
        (False, signal.SIGTERM, 143),
        pytest.param(False, signal.SIGINT, 130, marks=pytest.mark.nightly),
        pytest.param(False, signal.SIGHUP, 129, marks=pytest.mark.nightly),
    ],
)
def test_an_interrupt_ends_them(to_all, number, code):
    command, processes = started()
    assert len(processes) >= 2
    (os.killpg if to_all else os.kill)(command.pid, number)
    out, err = command.communicate(timeout=120)
    assert command.returncode == code and err.endswith("tiersim: interrupted\n")
    assert "Traceback" not in out + err
    assert not psutil.wait_procs(processes, timeout=60)[1]


def test_they_do_not_outlive_who_started_them():
    command, processes = started()
    command.kill()
    command.communicate(timeout=120)
    assert not psutil.wait_procs(processes, timeout=60)[1]


def test_who_asks_never_imports_torch():
    code = (
        "import sys, tiersim.__main__ as m\n"
        "if __name__ == '__main__':\n"
        f"    code = m.main({['--predict', '--tiers', '8', '--jobs', '1', '--boundary', *SHORT]!r})\n"
        "    assert not {'torch', 'numpy'} & set(sys.modules); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "BOUNDARY ANALYSIS (predicted)" in done.stdout
