"""Lines of progress on a terminal of the kernel's, and not what stands for one."""

import os
import sys
import termios

import pytest

from harness.screen import NARROW, WRAPPED, Screen


@pytest.mark.parametrize(("columns", "width"), [(40, 40), (100, 100), (0, NARROW)])
def test_a_line_is_as_wide_as_its_terminal_wherever_standard_output_goes(monkeypatch, columns, width):
    """As where results go to a file: a terminal would cut off the time left, or have half a line unused."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "__stdout__", None)
    control, terminal = os.openpty()
    termios.tcsetwinsize(terminal, (24, columns))
    with os.fdopen(control, "rb", buffering=0) as shown, os.fdopen(terminal, "w", encoding="utf-8") as stream:
        with Screen(stream) as screen:
            screen.draw(lambda: ["x" * 200 + "; 0:10 so far"], now=True)
        written = shown.read(1_000).decode()
    line = written.partition(WRAPPED)[0].rpartition("\x1b[?7l")[2]
    assert len(line) == width - 1 and line.endswith("…; 0:10 so far")
