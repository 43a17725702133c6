"""Spans: the wall time of one generation, by stage.

A span is a named piece of work. Top-level spans are the *stages* of the pipeline: the device is
synchronised when one begins and ends, so asynchronous kernels are charged to the stage that queued
them, and `stages + other = wall` by construction. Spans inside a stage (`diffuse/step`,
`lm_decode/forward`) are host times: synchronising there would stall the very pipeline being measured.

    with record(sync=torch.cuda.synchronize) as times:
        with span("diffuse"):
            for _ in range(8):
                with span("step"):
                    ...
    times.seconds("diffuse"), times.samples("diffuse/step"), times.stages()

An exception that leaves spans has their names as notes, from the inside out (`path_of`).

With nobody recording, a span is one context-variable read. `observe` is for whoever wants to know what is
going on now, not what it took; `watch` for whoever looks at something between stages.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

OTHER = "other"
NOTE = "in span "


class Times:
    """Spans of one recording. Durations in seconds; paths are `/`-joined span names."""

    def __init__(self, clock: Callable[[], float], sync: Callable[[], None] | None):
        self._clock = clock
        self._sync = sync
        self._open: list[str] = []
        self._samples: dict[str, list[float]] = {}
        self.wall_s = 0.0

    def samples(self, path: str) -> list[float]:
        """Every duration recorded under `path`, in order; empty if it never ran."""
        return list(self._samples.get(path, ()))

    def seconds(self, path: str) -> float:
        """Total duration under `path`."""
        return sum(self._samples.get(path, ()))

    def stages(self) -> dict[str, float]:
        """Seconds per top-level stage in order of first appearance, then the remainder as `other`."""
        totals = {path: sum(s) for path, s in self._samples.items() if "/" not in path}
        return totals | {OTHER: self.wall_s - sum(totals.values())}

    def details(self) -> dict[str, float]:
        """Seconds per nested path."""
        return {path: sum(s) for path, s in self._samples.items() if "/" in path}


_recording: ContextVar[Times | None] = ContextVar("spans", default=None)


@contextmanager
def record(
    sync: Callable[[], None] | None = None, clock: Callable[[], float] = time.perf_counter
) -> Iterator[Times]:
    """Collect the spans of the enclosed block. `sync` waits for the device; `clock` is for tests."""
    if _watcher:
        sync = _followed(sync, _watcher)
    times = Times(clock, sync)
    token = _recording.set(times)
    if sync:
        sync()
    start = clock()
    try:
        yield times
    finally:
        if sync:
            sync()
        times.wall_s = clock() - start
        _recording.reset(token)


def stage() -> str:
    """The stage that is being recorded here; empty outside of any."""
    times = _recording.get()
    return times._open[0] if times and times._open else ""


def path_of(error: BaseException) -> str:
    """The path of the spans that `error` has left; empty where it left none."""
    notes = getattr(error, "__notes__", ())
    return "/".join(note.removeprefix(NOTE) for note in reversed(notes) if note.startswith(NOTE))


_watcher: Callable[[str], None] | None = None


@contextmanager
def watch(watcher: Callable[[str], None]) -> Iterator[None]:
    """Call `watcher` at each boundary of a stage, once the device is done: with its name where it ends, with
    an empty one where it begins, and at both ends of a recording. For recordings that begin inside.

    What it takes is charged to the stages: what is timed is not to be watched.
    """
    global _watcher
    before, _watcher = _watcher, watcher
    try:
        yield
    finally:
        _watcher = before


def _followed(sync: Callable[[], None] | None, watcher: Callable[[str], None]) -> Callable[[], None]:
    """A `sync` that ends with a call of `watcher`."""

    def boundary() -> None:
        if sync:
            sync()
        watcher(stage())

    return boundary


_observer: Callable[[str], None] | None = None


def observe(observer: Callable[[str], None] | None) -> None:
    """Tell `observer` the path of each span as it begins, in any thread, recorded or not; None ends it.

    It is called inside the span's time, so it has to be quick.
    """
    global _observer
    _observer = observer


class span:
    """Time a block under `name`, nested under the span that encloses it."""

    __slots__ = ("_name", "_start", "_times")

    def __init__(self, name: str):
        self._name = name

    def __enter__(self) -> None:
        times = self._times = _recording.get()
        if times is None:
            if _observer:
                _observer(self._name)
            return
        if times._sync and not times._open:
            times._sync()
        times._open.append(self._name)
        if _observer:
            _observer("/".join(times._open))
        self._start = times._clock()

    def __exit__(self, kind: object = None, error: BaseException | None = None, *_: object) -> None:
        if isinstance(error, Exception):
            error.add_note(f"{NOTE}{self._name}")
        times = self._times
        if times is None:
            return
        if times._sync and len(times._open) == 1:
            times._sync()
        elapsed = times._clock() - self._start
        path = "/".join(times._open)
        times._open.pop()
        times._samples.setdefault(path, []).append(elapsed)
