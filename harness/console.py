"""Command-line entry points: error lines, exit codes and interrupts, the same for every command.

    0 done · 1 failed · 2 usage · 3 a prerequisite is missing · 4 a bug · 128 + n signal n

A full disk is a run that failed; where 1 is an answer, as that it does not fit, a run that failed is 4. An
error is one line on standard error, without anything that would give orders to a terminal; only a bug has its
traceback. Nothing heavy is imported: `--help` pays for all of it.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import signal
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from harness import interrupts
from harness.errors import BenchError, UsageError
from harness.flags import as_typed, spelled, translated
from harness.text import PLAINLY, harmless

BUG = 4
TRACEBACK_CHARS = 20_000
MAX_CHOICES_CHARS = 36


def named(text: str) -> str:
    """The value of a flag that names something. Raises ArgumentTypeError for an empty one.

    A variable of a shell that is not set stands neither for the default nor for the working directory.
    """
    if not text:
        raise argparse.ArgumentTypeError("is empty; give it a name, or drop it")
    return text


class Help(argparse.HelpFormatter):
    """No line is wider than the terminal: many choices stand in a flag's text, which is wrapped."""

    def _metavar_formatter(self, action: argparse.Action, default_metavar: str) -> Callable[[int], Any]:
        if _wide(action):
            return lambda size: (default_metavar,) * size
        return super()._metavar_formatter(action, default_metavar)

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text = super()._get_help_string(action)
        return f"{text}: {', '.join(map(str, action.choices or ()))}" if _wide(action) else text

    def _split_lines(self, text: str, width: int) -> list[str]:
        import textwrap

        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)


def _wide(action: argparse.Action) -> bool:
    """Whether a flag's choices are too many for a column, which argparse does not break."""
    return action.metavar is None and len(",".join(map(str, action.choices or ()))) > MAX_CHOICES_CHARS


class Parser(argparse.ArgumentParser):
    """Raises UsageError where argparse would print how all of it is used; no path is empty.

    Each flag has one spelling; the others, of `harness.flags.ALIASES`, are taken for it and not shown.
    """

    def __init__(self, **settings: Any) -> None:
        settings.setdefault("formatter_class", Help)
        super().__init__(**settings)
        self.register("type", Path, lambda text: Path(named(text)))

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:  # type: ignore[override]
        words = sys.argv[1:] if args is None else list(args)
        typed = as_typed(words)
        with spelled(typed | {f"argument {flag}": f"argument {word}" for flag, word in typed.items()}):
            return super().parse_known_args(translated(words, self._option_string_actions), namespace)

    def print_help(self, file: Any = None) -> None:
        print(self.format_help(), end="", file=file, flush=True)  # argparse hides that it cannot be written

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{' '.join(message.split())}; see --help")


LISTING, LISTING_HELP = "harness.listing", "print the devices there are, and which of them auto takes"


class Answer(argparse.Action):
    """As --help: an answer instead of a run, the `table` of a module."""

    def __init__(self, *names: Any, const: str, **settings: Any) -> None:
        super().__init__(*names, nargs=0, const=const, **settings)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(importlib.import_module(str(self.const)).table(), flush=True)
        parser.exit()


def run(name: str, command: Callable[[], int], *, failed: int = BenchError.exit_code) -> int:
    """Run `command`; returns its exit code, or that of what it raised, which is told after `name`.

    `failed`: the code of an error that is neither usage nor a prerequisite, a full disk's included.
    """
    # Threads that spin while they wait turn one busy core into a run five times as long. OpenMP reads
    # this once, when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    _standard_streams()
    try:
        with interrupts.raised(partial(_ended, name, "interrupted")):
            code = command()
            print(end="", flush=True)
        return code
    except BenchError as error:
        _ended(name, str(error))
        return failed if type(error) is BenchError else error.exit_code
    except KeyboardInterrupt as interrupt:
        _ended(name, "interrupted")
        return 128 + next(iter(interrupt.args), signal.SIGINT)
    except BrokenPipeError:  # the reader has seen enough, as `| head` has
        _flush_or_discard()
        return 0
    except OSError as error:
        _ended(name, str(error))
        return failed
    except Exception as error:
        from harness.oom import classify

        failure = classify(error)
        if failure.kind != "other":
            _ended(name, f"out of memory: {failure.words}; ask for less at once, or use more of it")
            return failed
        import traceback

        _flush_or_discard()
        print(harmless(traceback.format_exc(), keep="\n", most=TRACEBACK_CHARS), end="", file=sys.stderr)
        return BUG


class _Unfailing(io.RawIOBase):
    """What `raw` is, but what cannot be written there is discarded: a disk that is full ends no run."""

    def __init__(self, raw: Any) -> None:
        self._raw, self.name = raw, raw.name

    def write(self, data: Any) -> int:
        try:
            return self._raw.write(data) or len(data)  # None: whoever reads is behind
        except OSError:
            return len(data)

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self._raw.isatty()

    def fileno(self) -> int:
        return self._raw.fileno()


def _standard_streams() -> None:
    """Have all three. One that is closed is as /dev/null: else the next file that is opened takes its number,
    and what libraries print goes there; and what is printed to no standard error goes to standard output.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            number = os.open(os.devnull, os.O_RDWR)  # the least that is free
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
    error = sys.stderr
    if error is sys.__stderr__ and isinstance(error, io.TextIOWrapper):  # and nobody has put another there
        raw = _Unfailing(getattr(error.buffer, "raw", error.buffer))
        sys.stderr = io.TextIOWrapper(io.BufferedWriter(raw), error.encoding, line_buffering=True)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=PLAINLY)  # not every terminal has every script


def _ended(name: str, message: str) -> None:
    """Tell why a command ended, after what it printed."""
    _flush_or_discard()
    say(name, message)


def say(name: str, message: str) -> None:
    """A line of standard error, after the name of the command."""
    print(f"{name}: {harmless(message)}", file=sys.stderr)


def warn(name: str, warnings: Iterable[str]) -> None:
    """Each on a line of standard error, after the name of the command."""
    for warning in warnings:
        say(name, f"warning: {warning}")


def _flush_or_discard() -> None:
    """Standard output as far as it can be written; the rest would fail again at exit."""
    try:
        print(end="", flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
