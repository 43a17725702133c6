"""A pool of worker processes for predictions: each imports torch once and serves many.

    with Processes() as processes:
        for cost in processes.map(partial(predict, setup, card), requests): ...

A prediction depends on its arguments alone, so it does not matter which process makes it. A process takes
0.4 GB. It ends with whoever started it, however that ends, and an interrupt is its parent's to act on.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Self, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Processes:
    """At most `jobs` processes, None one per core; `begin(*arguments)`, if any, is the first thing each does.

    Entered, they are there until the end of the block. An error ends them at once, whatever they are doing.
    """

    def __init__(
        self, jobs: int | None = None, begin: Callable[..., object] | None = None, *arguments: object
    ):
        spawn = multiprocessing.get_context("spawn")  # a fork would copy the locks of this process's threads
        child, self._hold = spawn.Pipe(duplex=False)
        self._executor = ProcessPoolExecutor(jobs or _cores(), spawn, _begin, (child, begin, *arguments))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind:
            self._hold.close()  # which ends them; the executor would wait for what they are doing
        self._executor.shutdown(cancel_futures=True)
        self._hold.close()

    def map(self, work: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
        """`work` of each of `items`, in order, as results come. Raises ChildProcessError when a process was
        ended from outside."""
        with _uninterrupted():  # here they are started, and what they are started with they keep
            results = self._executor.map(work, items)
        try:
            yield from results
        except BrokenProcessPool:
            raise ChildProcessError(
                "a process that predicts was ended from outside, perhaps for its memory"
            ) from None


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Put an interrupt off until the end of the block."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(parent: Connection, begin: Callable[..., object] | None, *arguments: object) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"  # nothing is computed
    threading.Thread(target=_follow, args=(parent,), daemon=True).start()
    if begin:
        begin(*arguments)


def _follow(parent: Connection) -> None:
    """End this process when the parent closes the other end of the pipe."""
    with suppress(EOFError, OSError):
        parent.recv()
    os._exit(0)
