"""Signals that end a command, when they are easily lost: before it runs, and during an import."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT

NUMBERS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
ENTRIES = (
    *("-m acestep", "-m acestep.costs", "-m tiersim", "profile_inference.py", "-m scripts.gpu"),
    "-m harness.records.performance_plan",
)

# As numpy and torch do: what an import raises is caught, or leaves half a module to whoever comes next.
CATCHES = """
import os, signal, time
try:
    os.kill(os.getpid(), signal.Signals({number}))
    time.sleep(0.1)
    whole = True
except BaseException:
    pass
"""
COMMAND = """
import sys, time
from harness import console

def command():
    import catches
    {then}
    time.sleep(60)
    return 0

sys.exit(console.run("bench", command))
"""


def run(*arguments: str, path: Path) -> tuple[int, str, str]:
    environ = os.environ | {"PYTHONPATH": f"{path}{os.pathsep}{ROOT}"}
    done = subprocess.run(
        [sys.executable, *arguments], env=environ, cwd=ROOT, capture_output=True, text=True, timeout=250
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("number", NUMBERS)
def test_an_interrupt_during_an_import_waits_for_its_end(tmp_path, number):
    (tmp_path / "catches.py").write_text(CATCHES.format(number=int(number)))
    command = COMMAND.format(then="sys.stderr.write(f'{catches.whole}\\n')")
    assert run("-c", command, path=tmp_path) == (128 + number, "", "True\nbench: interrupted\n")


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("through", ["torch", "torch.nn", "outer"])
def test_while_torch_is_imported_nobody_waits(tmp_path, number, through):
    """What was printed until then is out, and no lock is left; torch never gets to the end of its file."""
    torch = tmp_path / "torch"
    torch.mkdir()
    (torch / "__init__.py").write_text(f"{CATCHES.format(number=int(number))}\nprint(whole, flush=True)")
    (torch / "nn.py").touch()
    (tmp_path / "outer.py").write_text("try:\n    import torch\nexcept BaseException: pass")
    imports = "from harness import files; from pathlib import Path\n    print('before')\n"
    imports += f"    with files.held(Path({str(tmp_path / 'lock')!r})): import {through}"
    command = COMMAND.replace("import catches", imports).format(then="")
    assert run("-c", command, path=tmp_path) == (128 + number, "before\n", "bench: interrupted\n")
    assert not (tmp_path / "lock").exists()


def test_an_import_within_an_import_is_one(tmp_path):
    (tmp_path / "catches.py").write_text("try:\n    import inner\nexcept BaseException: pass")
    (tmp_path / "inner.py").write_text(CATCHES.format(number=int(signal.SIGINT)))
    assert run("-c", COMMAND.format(then=""), path=tmp_path) == (130, "", "bench: interrupted\n")


@pytest.mark.parametrize(
    ("entry", "number"),
    [*((entry, signal.SIGINT) for entry in ENTRIES), *((ENTRIES[0], number) for number in NUMBERS[1:])],
)
def test_before_a_command_runs_there_is_no_traceback(tmp_path, entry, number):
    """The first module that every entry point imports sends the signal."""
    (tmp_path / "argparse.py").write_text(CATCHES.format(number=int(number)).replace("Base", "Value"))
    assert run(*entry.split(), path=tmp_path) == (128 + number, "", "")


@pytest.mark.parametrize("entry", ENTRIES)
def test_nothing_of_ours_is_imported_before_that_holds(tmp_path, entry):
    """Packages are, as the way to their entry point; what they import would be without it."""
    code, _, err = run("-X", "importtime", *entry.split(), "--help", path=tmp_path)
    assert code == 0
    names = [line.rpartition("|")[2].strip() for line in err.splitlines()]
    ours = [name for name in names if name.partition(".")[0] in ("harness", "acestep", "tiersim", "scripts")]
    first = ours[: ours.index("harness.interrupts")]
    packages = {"harness", "harness.records", "acestep", "acestep.costs", "tiersim", "scripts", "scripts.gpu"}
    assert set(first) <= packages


def test_an_interrupt_that_is_ignored_stays_ignored(tmp_path):
    (tmp_path / "catches.py").write_text(CATCHES.format(number=int(signal.SIGINT)))
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell's background jobs have it
    try:
        assert run("-c", COMMAND.format(then="return 7"), path=tmp_path) == (7, "", "")
    finally:
        signal.signal(signal.SIGINT, before)
