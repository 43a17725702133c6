"""Resident memory of what a process has started, looked at many times a second.

Shared pages count in each process that maps them: a sum that is too high errs on the safe side. The exact
share (`smaps_rollup`) costs tens of milliseconds a read and holds the lock the process needs to grow.
"""

from __future__ import annotations

import time
from contextlib import suppress

import psutil

FAMILY_EVERY_S = 0.5  # finding children reads all of /proc


class ResidentSet:
    """Of the descendants of `pid`, without itself. `peak_bytes`: the most `look` has seen."""

    def __init__(self, pid: int):
        self._keeper = psutil.Process(pid)
        self._family: list[psutil.Process] = []
        self._family_s = 0.0
        self.peak_bytes = 0

    def look(self) -> int:
        """Bytes resident now."""
        now = time.monotonic()
        if not self._family or now - self._family_s > FAMILY_EVERY_S:
            self._family_s = now
            with suppress(psutil.Error):
                self._family = self._keeper.children(recursive=True)
        used = 0
        for process in self._family:
            with suppress(psutil.Error):
                used += process.memory_info().rss
        self.peak_bytes = max(self.peak_bytes, used)
        return used
