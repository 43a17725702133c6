"""Command-line entry points: error lines, exit codes and interrupts, the same for every command.

    0 done · 1 failed · 2 usage · 3 a prerequisite is missing · 4 a bug, or a full disk · 128 + n signal n

An error is one line on standard error, without anything that would give orders to a terminal; only a bug has
its traceback. Nothing heavy is imported: `--help` pays for all of it.
"""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NoReturn

from harness import interrupts
from harness.errors import BenchError, UsageError
from harness.text import harmless

BUG = 4


class Parser(argparse.ArgumentParser):
    """Raises UsageError where argparse would print how all of it is used."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{' '.join(message.split())}; see --help")


def run(
    name: str,
    command: Callable[[], int],
    *,
    failed: int = BenchError.exit_code,
    unwritten: int = BUG,
    flags: Mapping[str, str] = MappingProxyType({}),
) -> int:
    """Run `command`; returns its exit code, or that of what it raised, which is told after `name`.

    `failed`: the code of an error that is neither usage nor a prerequisite. `unwritten`: of an OSError, as of
    a full disk. `flags`: how fields that begin an error are spelled on this command line.
    """
    # Threads that spin while they wait turn one busy core into a run five times as long. OpenMP reads
    # this once, when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # not every terminal has every script
    try:
        with interrupts.raised():
            code = command()
            print(end="", flush=True)
        return code
    except BenchError as error:
        field, colon, rest = str(error).partition(":")
        say(name, f"{flags.get(field, field)}{colon}{rest}")
        return failed if type(error) is BenchError else error.exit_code
    except KeyboardInterrupt as interrupt:
        say(name, "interrupted")
        return 128 + next(iter(interrupt.args), signal.SIGINT)
    except BrokenPipeError:  # the reader has seen enough, as `| head` has
        _flush_or_discard()
        return 0
    except OSError as error:
        _flush_or_discard()
        say(name, str(error))
        return unwritten
    except Exception:
        import traceback

        print(harmless(traceback.format_exc(), keep="\n"), end="", file=sys.stderr)
        return BUG


def say(name: str, message: str) -> None:
    """A line of standard error, after the name of the command."""
    print(f"{name}: {harmless(message)}", file=sys.stderr)


def _flush_or_discard() -> None:
    """Standard output as far as it can be written; the rest would fail again at exit."""
    try:
        print(end="", flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
