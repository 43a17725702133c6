"""How a command ends: exit codes, one line of error, signals, streams; and what never reaches a terminal."""

import argparse
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from acestep import __main__ as acestep
from acestep.costs import __main__ as costs
from acestep.profiler import flags
from harness import console
from harness.errors import BenchError, CheckpointError, MissingPrerequisite, UsageError
from tiersim import __main__ as tiersim

BIDI = "\u202egnp.exe\u2066"
ORDERS = f"\x1b[2J{BIDI}\x9b2J"
SPELLED = r"\x1b[2J\u202egnp.exe\u2066\x9b2J"


def failing(error: BaseException):
    def command() -> int:
        raise error

    return command


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")  # run sets it, and this process goes on


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BenchError("silent"), 1),
        (UsageError("no"), 2),
        (MissingPrerequisite("none"), 3),
        (CheckpointError("cut"), 3),
        (OSError("full"), 1),
        (KeyboardInterrupt(), 130),
        (KeyboardInterrupt(signal.SIGTERM), 143),
    ],
)
def test_an_error_is_its_code_and_one_line(capsys, error: BaseException, code: int):
    assert console.run("bench", failing(error)) == code
    out, err = capsys.readouterr()
    assert not out and err == f"bench: {'interrupted' if code > 128 else error}\n"


def test_memory_that_runs_out_is_no_bug_and_told_in_words(capsys):
    assert console.run("bench", failing(MemoryError("x" * 9))) == 1
    assert console.run("tiers", failing(MemoryError()), failed=4) == 4
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("bench: out of memory: host memory ran out; ask for less") and len(said) == 2


def test_what_a_command_returns_is_its_code():
    assert [console.run("bench", lambda code=code: code) for code in (0, 1, 7)] == [0, 1, 7]


def test_a_command_says_what_its_own_failures_are():
    assert console.run("tiers", failing(BenchError("x")), failed=4) == 4
    assert console.run("tiers", failing(UsageError("x")), failed=4) == 2
    assert console.run("tiers", failing(OSError("x")), failed=4) == 4


def test_a_bug_has_its_traceback(capsys):
    assert console.run("bench", failing(ZeroDivisionError(ORDERS))) == 4
    said = capsys.readouterr().err
    assert said.startswith("Traceback") and said.endswith(f"ZeroDivisionError: {SPELLED}\n")


@pytest.mark.parametrize("error", [BenchError(ORDERS), OSError(2, "absent", ORDERS)])
def test_no_error_gives_orders_to_a_terminal(capsys, error: Exception):
    console.run("bench", failing(error))
    said = capsys.readouterr().err
    assert r"\u202e" in said and said[:-1].isprintable()


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_closes_what_is_open(capsys, name: str):
    closed = []

    def command() -> int:
        try:
            signal.raise_signal(getattr(signal, name))
        finally:
            closed.append(name)
        return 0

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job would ignore it
    try:
        assert console.run("bench", command) == 128 + getattr(signal, name)
    finally:
        signal.signal(signal.SIGINT, before)
    assert closed == [name] and capsys.readouterr().err == "bench: interrupted\n"
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_signal_that_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
    try:
        assert console.run("bench", lambda: signal.raise_signal(signal.SIGHUP) or 0) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def in_a_shell(code: str, redirection: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    program = f"import sys\nfrom harness import console\nsys.exit(console.run('bench', lambda: {code} or 0))"
    command = ["bash", "-c", f'"$0" -c "$1" {redirection}', sys.executable, program]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)


def test_a_terminal_without_a_letter_gets_its_number_on_both_streams():
    printing = "[print('夜', file=f) for f in (sys.stdout, sys.stderr)][1]"
    process = in_a_shell(printing, PYTHONIOENCODING="ascii")
    assert (process.returncode, process.stdout, process.stderr) == (0, "\\u591c\n", "\\u591c\n")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_left_is_no_error(unbuffered: str):
    process = in_a_shell("print('x' * 10**6)", "| true; exit ${PIPESTATUS[0]}", PYTHONUNBUFFERED=unbuffered)
    assert (process.returncode, process.stderr) == (0, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no full device here")  # noqa: PTH110
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_cannot_be_written_is_one_line(unbuffered: str):
    process = in_a_shell("print('x')", "> /dev/full", PYTHONUNBUFFERED=unbuffered)
    assert (process.returncode, process.stderr) == (1, "bench: [Errno 28] No space left on device\n")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no full device here")  # noqa: PTH110
@pytest.mark.parametrize(
    ("error", "code", "message"),
    [("console.BenchError('no')", 1, "no"), ("KeyboardInterrupt()", 130, "interrupted")],
)
def test_output_that_cannot_be_written_hides_no_other_end(error: str, code: int, message: str):
    """Python would try again as it ends, and end with 120 and a line of its own."""
    raising = f"[print('x'), (_ for _ in ()).throw({error})]"
    process = in_a_shell(raising, "> /dev/full", PYTHONUNBUFFERED="")
    assert (process.returncode, process.stderr) == (code, f"bench: {message}\n")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no full device here")  # noqa: PTH110
@pytest.mark.parametrize(
    ("redirection", "code", "message"),
    [
        ("> /dev/full", 1, "bench: [Errno 28] No space left on device\n"),
        ("| true; exit ${PIPESTATUS[0]}", 0, ""),
    ],
)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_help_is_output_as_any_other(redirection: str, code: int, message: str, unbuffered: str):
    asking = "console.Parser().parse_args(['--help'])"
    process = in_a_shell(asking, redirection, PYTHONUNBUFFERED=unbuffered)
    assert (process.returncode, process.stderr) == (code, message)


def test_no_output_at_all_is_no_error():
    process = in_a_shell("print('x')", ">&-")
    assert (process.returncode, process.stderr) == (0, "")


FULL_DEVICE = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no full device here")  # noqa: PTH110
UNHEARD = [pytest.param("2> /dev/full", marks=FULL_DEVICE), "2>&-", "2> >(exec 0<&-)", "2>&- <&-"]
TOLD = {
    "console.say('bench', 'x')": 0,
    "[console.say('bench', 'x' * 10**6), print('y' * 10**6, file=sys.stderr)][1]": 0,
    "sys.stderr.write('no newline') and 0": 0,
    "__import__('warnings').warn('x')": 0,
    "(_ for _ in ()).throw(console.UsageError('no'))": 2,
    "(_ for _ in ()).throw(ZeroDivisionError())": 4,
    "(_ for _ in ()).throw(KeyboardInterrupt())": 130,
}


@pytest.mark.parametrize("redirection", UNHEARD)
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("telling", TOLD)
def test_where_nobody_hears_neither_the_end_nor_the_output_changes(
    redirection: str, telling: str, unbuffered: str
):
    program = f"[print('before'), {telling}, print('after')][1]"
    done = in_a_shell(program, redirection, PYTHONUNBUFFERED=unbuffered)
    ended = TOLD[telling]
    assert (done.returncode, done.stdout) == (ended, "before\n" if ended else "before\nafter\n")


@pytest.mark.parametrize("redirection", ["2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_no_file_takes_the_number_of_a_stream_that_is_closed(redirection: str):
    """What libraries print goes to a number."""
    opened = f"sys.exit(open({os.devnull!r}).fileno() + 10)"
    assert in_a_shell(opened, redirection).returncode > 12


def test_lines_of_progress_that_nobody_sees_are_no_output():
    drawing = "__import__('harness.screen').screen.Screen().draw(lambda: ['x'], now=True)"
    done = in_a_shell(drawing, "2>&-")
    assert (done.returncode, done.stdout) == (0, "")


PARSERS = {
    "acestep": acestep._parser,
    "acestep.costs": costs.arguments,
    "tiersim": tiersim.arguments,
    "profile_inference": flags.parser,
}
PLACES = ("FILE", "FOLDER", "DIR", "PATH", "ADDRESS")


def every_action(parser: argparse.ArgumentParser):
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from every_action(command)
        else:
            yield parser, action


@pytest.mark.parametrize("entry", PARSERS)
def test_what_names_a_place_is_not_empty(entry: str):
    """An empty path would be the working directory, and an empty name the default."""
    names = [
        (parser, action)
        for parser, action in every_action(PARSERS[entry]())
        if action.choices is None
        and (
            action.type in (Path, console.named)
            or action.metavar in PLACES
            or action.dest in ("source", "example", "audio", "folder")
        )
    ]
    assert len(names) >= 6
    for parser, action in names:
        with pytest.raises(argparse.ArgumentError, match="is empty"):
            parser._get_value(action, "")
        assert str(parser._get_value(action, " x")) == " x"


ENTRIES = (
    *("acestep", "acestep.costs", "tiersim", "profile_inference", "scripts.gpu"),
    "harness.records.performance_plan",
)
HEAVY = ("torch", "numpy", "rich", "jinja2", "yaml", "soundfile", "tokenizers", "msgspec", "psutil", "pynvml")


@pytest.mark.parametrize("entry", ENTRIES)
def test_help_imports_nothing_heavy(entry: str):
    """Which is what keeps it within 0.15 s."""
    code = (
        f"import runpy, sys\nsys.argv = [{entry!r}, '--help']\n"
        f"try: runpy.run_module({entry!r}, run_name='__main__')\nexcept SystemExit as end: code = end.code\n"
        f"print('loaded:', code, *[name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "loaded: 0", done.stderr
