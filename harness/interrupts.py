"""Signals that end a command, Ctrl-C among them: what they do before it runs, while it does, and after.

    if __name__ == "__main__":
        interrupts.end_quietly()    # an entry point's first statement, before what it imports
    ...
    with interrupts.raised():       # around the command, which `harness.console` sees to

A KeyboardInterrupt that is raised while a module is imported gets lost or leaves half a module: torch and
numpy catch what their imports raise. So it is raised as soon as no module is being imported. torch takes
seconds, and nothing is measured before it is there: a command need not wait for it, but ends.
"""

from __future__ import annotations

import _thread
import os
import signal
import time
from contextlib import contextmanager
from functools import partial

TYPE_CHECKING = False  # as typing has it, which would be most of the time until the first signal is handled
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import FrameType
    from typing import NoReturn

ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
IMPORTS = "<frozen importlib._bootstrap>"  # the file of every frame below which a module is imported
SLOW = "torch"
RETRY_S = 0.01
temporary: set[Path] = set()  # files that go with the process, also where it ends at once


def end_quietly() -> None:
    """From now on these signals end the process with 128 + their number, and without a traceback.

    One that is ignored, as under nohup, or handled stays so.
    """
    for number in _unhandled():
        signal.signal(number, _end)


@contextmanager
def raised(last: Callable[[], object] | None = None) -> Iterator[None]:
    """Inside, these signals raise KeyboardInterrupt with their number, so that what is open is closed.

    With `last`, one that comes while torch is imported ends the process, once what is `temporary` is removed
    and `last` called. One that is ignored or handled stays so.
    """
    handle = partial(_raise, last)
    before = {number: signal.signal(number, handle) for number in _unhandled()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _unhandled() -> list[signal.Signals]:
    return [n for n in ENDING if signal.getsignal(n) in (signal.SIG_DFL, signal.default_int_handler, _end)]


def _end(number: int, frame: FrameType | None) -> NoReturn:
    os._exit(128 + number)


def _raise(last: Callable[[], object] | None, number: int, frame: FrameType | None) -> None:
    importing = _importing(frame)
    if not importing:
        raise KeyboardInterrupt(number)
    if last and SLOW in importing:
        try:
            for path in tuple(temporary):
                path.unlink(missing_ok=True)
            last()
        finally:
            _end(number, frame)
    _thread.start_new_thread(_send_again, (number,))  # takes no lock that this thread may be holding


def _importing(frame: FrameType | None) -> set[object]:
    """Names of the modules that are being imported where a thread is, and None for what is done for them."""
    names: set[object] = set()
    while frame:
        if frame.f_code.co_filename == IMPORTS:
            names.add(frame.f_locals.get("name"))
        frame = frame.f_back
    return names


def _send_again(number: int) -> None:
    time.sleep(RETRY_S)
    os.kill(os.getpid(), number)
