"""What a budget of time did not allow, in words: how long what comes next takes, and what would do."""

from __future__ import annotations

import math

FLAG = "--budget"
SHORT_S = 90.0  # up to here seconds are told as seconds
HOUR_S = 3600.0


def shortage(
    needs_s: float | None, left_s: float, enough_s: float | None, all_s: float = 0.0, count: int = 1
) -> str:
    """That so much was left, and is too little. `needs_s`: of what comes next, None before anything has run.

    `enough_s`: the budget with which it would have been done, where that is known; `all_s`: with which all
    would, it and what else there was no time for, `count` together.
    """
    left = f"{max(left_s, 0.0):.0f} s were left"
    if needs_s is None:
        return f"may take any time, as nothing has run yet; {left}"
    enough = f"; {FLAG} {spelled(enough_s)} would do it" if enough_s is not None else ""
    everything = f", and {spelled(all_s)} for all {count}" if count > 1 else ""
    return f"needs about {math.ceil(needs_s)} s; {left}{enough}{everything}"


def spelled(seconds: float) -> str:
    """A budget of at least so many seconds, as the flag takes it: 75s, 12m, 1.5h."""
    if seconds <= SHORT_S:
        return f"{max(math.ceil(seconds), 1)}s"
    if seconds <= HOUR_S:
        return f"{math.ceil(seconds / 60)}m"
    return f"{math.ceil(10 * seconds / HOUR_S) / 10:g}h"
