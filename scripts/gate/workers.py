"""A worker of each side, measuring in turns: of every cell, run for run beside one another."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from benchmarks._matrix import SELECTED
from benchmarks._records import WORKER, ending, kept, new_file, read
from scripts.gate.sides import Side

READY, GO, STOP, OVER = "ready", "go", "stop", "over"  # the words of benchmarks/worker/turns.py
Job = tuple[str, ...]  # a kind of worker, and its arguments


class Worker:
    """One process that measures a side's cells. What it started goes with it, and it with this process."""

    def __init__(self, side: Side, job: Job, cells: str, until_s: float):
        self._until_s = until_s
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the worker
        ours, theirs = socket.socketpair()
        kind, *arguments = job
        with theirs, side.current():
            os.environ[SELECTED] = cells
            self._path = new_file("turns")
            command = kept(str(WORKER), kind, str(self._path), *arguments, "--turns", str(theirs.fileno()))
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=self._stderr,
                pass_fds=(theirs.fileno(),), start_new_session=True,
            )  # fmt: skip
        self._socket, self._file = ours, ours.makefile("rw", encoding="utf-8", newline="\n")

    def say(self, word: str) -> None:
        with suppress(OSError):
            self._file.write(f"{word}\n")
            self._file.flush()

    def hear(self) -> str:
        """The next word; nothing where the worker has ended, or has not said one in time."""
        try:
            self._socket.settimeout(max(self._until_s - time.monotonic(), 1e-3))
            return self._file.readline().rstrip("\n")
        except (OSError, ValueError):
            return ""

    def end(self) -> tuple[dict, dict[str, dict], str]:
        """Header and records by cell, and how the process ended: nothing where it was we who ended it."""
        with suppress(OSError, ValueError):
            self._file.close()
        self._socket.close()
        own = self._process.poll()
        self._process.stdin.close()  # type: ignore[union-attr]
        code = self._process.wait()
        with self._stderr:
            self._stderr.seek(0)
            text = self._stderr.read().decode(errors="replace")
        return *read(self._path), "" if own is None else ending(code, text)


@dataclass
class Round:
    """What one worker of each side measured. `cost_s`: of a pair of each cell, with its share of the run
    that is not recorded; `start_s`: until both were ready for the first."""

    records: tuple[dict[str, dict], dict[str, dict]] = field(default_factory=lambda: ({}, {}))
    cost_s: dict[str, float] = field(default_factory=dict)
    start_s: float = 0.0


def measure_round(
    sides: tuple[Side, Side],
    job: Job,
    cells: Sequence[str],
    pairs: int,
    until_s: float,
    lot: random.Random,
    before: Callable[[str], object] = lambda cell: None,
) -> Round:
    """So many pairs of each cell, fewer where the time is over (`until_s`, of the monotonic clock).

    `before`: told of each cell, while neither side measures.

    A cell that was begun has a record on both sides, of a failure where a process died, unless time was over.
    """
    round = Round()
    start_s = time.monotonic()
    with _both(sides, job, cells, until_s, round) as workers:
        alive = [worker.hear() for worker in workers] == [OVER, OVER]
        round.start_s = time.monotonic() - start_s
        for cell in cells if alive else ():
            start_s = time.monotonic()
            if start_s > until_s:
                break
            round.cost_s[cell] = 0.0
            before(cell)
            alive = _take_turns(workers, cell, pairs, until_s, lot)
            round.cost_s[cell] = (time.monotonic() - start_s) / pairs
            if not alive:
                break
    return round


@contextmanager
def _both(sides, job: Job, cells: Sequence[str], until_s: float, round: Round) -> Iterator[list[Worker]]:
    """Two workers, whose records are in `round` once they have ended."""
    workers: list[Worker] = []
    try:
        workers += [Worker(side, job, "\n".join(cells), until_s) for side in sides]
        yield workers
    finally:
        for worker, records in zip(workers, round.records, strict=False):
            header, measured, how = worker.end()
            records |= measured
            if how:
                failed = {"status": "failed", "reason": how}
                header = header or failed
                records |= {cell: failed for cell in round.cost_s if cell not in measured}
            if header:
                records["header"] = header


def _take_turns(workers: list[Worker], cell: str, pairs: int, until_s: float, lot: random.Random) -> bool:
    """Measure one cell on both sides; whether both can go on."""
    for worker in workers:
        worker.say(cell)
    said = {worker: worker.hear() for worker in workers}
    for _ in range(pairs):
        if set(said.values()) != {READY} or time.monotonic() > until_s:
            break
        for worker in lot.sample(workers, 2):
            worker.say(GO)
            said[worker] = worker.hear()
    for worker in workers:
        if said[worker] == READY:
            worker.say(STOP)
            said[worker] = worker.hear()
    return set(said.values()) == {OVER}
