"""Progress of a matrix: rows done, their time, and the time the rest is expected to take.

On standard error: one line that follows the run on a terminal, a line per configuration anywhere else. It is
drawn once a second, because drawing takes time from what is measured.
"""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.text import Text

    from acestep.profiler.matrix import Row

REDRAWS_PER_S = 1


class Progress:
    """Follows the rows of `todo` while entered. `budget_s`: when no row may be begun any more."""

    def __init__(self, todo: Sequence[Row], budget_s: float | None):
        self._works = [row.work for row in todo]
        self._budget_s = budget_s
        self._start = time.monotonic()
        self._done = 0.0
        self._index = 0
        self._what = "loading"
        self._live = False
        self._open = ExitStack()

    def __enter__(self) -> Progress:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            self._live = True
            live = Live(
                console=Console(stderr=True),
                get_renderable=self._drawn,
                refresh_per_second=REDRAWS_PER_S,
                transient=True,
                redirect_stdout=sys.stdout.isatty(),  # rows go above the line; a file gets them as they are
            )
            self._open.enter_context(live)
        return self

    def __exit__(self, *exc: object) -> None:
        self._open.close()

    def elapsed_s(self) -> float:
        return time.monotonic() - self._start

    def expected_s(self, work: float) -> float | None:
        """Seconds for so much work, at the rate so far; None before there is one."""
        return self.elapsed_s() * work / self._done if self._done else None

    def fits(self, row: Row) -> bool:
        """Whether `row` may be begun within the budget."""
        if self._budget_s is None:
            return True
        return self.elapsed_s() + (self.expected_s(row.work) or 0.0) <= self._budget_s

    def begin(self, index: int, row: Row) -> None:
        params = row.params
        self._index = index
        self._what = (
            f"{params.duration:g} s, batch {row.config.batch_size}, thinking {params.thinking}, "
            f"{params.inference_steps} steps"
        )
        if not self._live:
            print(self.line(), file=sys.stderr, flush=True)

    def end(self, row: Row) -> None:
        self._done += row.work

    def line(self) -> str:
        """What is running, the time so far, and what is left at the rate so far."""
        rest = self.expected_s(sum(self._works[self._index :]))
        left = "" if rest is None else f", about {_clock(rest)} to go"
        so_far = f"{_clock(self.elapsed_s())} so far{left}"
        return f"[{self._index + 1}/{len(self._works)}] {self._what}; {so_far}"

    def _drawn(self) -> Text:
        from rich.text import Text

        return Text(self.line(), no_wrap=True, overflow="ellipsis")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
