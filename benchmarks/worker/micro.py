"""Functions of the engine by themselves, each called on inputs of a fixed seed.

A run of a cell is the fastest of some blocks of calls, which are long enough for the clock and short beside
what disturbs them: that only adds. Arguments are made before the clock starts. On a CPU the time is the
process's, with one thread; on a card it is the wall's, from an idle queue to an idle queue.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable

import _matrix as matrix
from calls import KINDS, Call, part
from commit import REPEATS
from turns import repeats

BLOCK_S, RUN_S = 0.001, 0.05  # of a block, and of the blocks of a run
FEWEST_BLOCKS, MOST_BLOCKS = 3, 20  # of a run
MOST_CALLS = 2**20  # of a block


class Clock:
    """Seconds on `device`."""

    def __init__(self, device):
        self.name = "process" if device.type == "cpu" else "wall"
        self._now = time.process_time if device.type == "cpu" else time.perf_counter
        self._wait = part("harness.device", "synchroniser")(device) or (lambda: None)

    def seconds(self, call: Call, count: int) -> float:
        """What `count` calls take."""
        arguments = [call.arguments() for _ in range(count)]
        function, now = call.function, self._now
        self._wait()
        gc.disable()
        try:
            with call.around():
                start_s = now()
                for one in arguments:
                    function(*one)
                self._wait()
                return now() - start_s
        finally:
            gc.enable()

    def count(self, call: Call) -> int:
        """How many calls make a block: a power of two, so that two processes have the same."""
        count = 1
        while count < MOST_CALLS and min(self.blocks_s(call, count)) < BLOCK_S:
            count *= 2
        return count

    def blocks_s(self, call: Call, count: int) -> list[float]:
        """Seconds of the fewest blocks."""
        return [self.seconds(call, count) for _ in range(FEWEST_BLOCKS)]

    def call_us(self, call: Call, count: int) -> float:
        """Microseconds of one call, of the fastest block of a run."""
        blocks_s = self.blocks_s(call, count)
        while len(blocks_s) < MOST_BLOCKS and sum(blocks_s) < RUN_S:
            blocks_s.append(self.seconds(call, count))
        return 1e6 * min(blocks_s) / count


def micro() -> tuple[dict, list, Callable]:
    device = part("harness.device", "resolve_device")("auto")
    import torch

    torch.set_num_threads(1)
    part("harness.device", "keep_freed_memory")(device)
    clock = Clock(device)
    source = os.environ.get("ACESTEP_SOURCE", matrix.TINY)
    environment = {"source": source, "device": device.type, "clock": clock.name, "threads": 1}

    def measure(cell) -> dict:
        with torch.inference_mode():
            calls = KINDS[cell.kind](cell, device)
            counts, runs = {}, []
            for _ in repeats():
                if counts:
                    runs.append({name: clock.call_us(call, counts[name]) for name, call in calls.items()})
                else:
                    counts = {name: clock.count(call) for name, call in calls.items()}
        return {"runs": [{"calls_us": run} for run in runs], "counts": counts}

    return {"environment": environment, "repeats": REPEATS}, matrix.micro_cells(), measure
