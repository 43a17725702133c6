"""A request whose audio is handed out piece by piece: the reader's side of it, whoever makes the pieces.

Nothing runs but while the next piece is waited for. Two clocks are kept: the stages of the result and its
wall leave out what the reader does between pieces, while `Chunk.t_s` is the time that a listener sees, the
reader's own included. A player reads ahead, in a thread of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from types import TracebackType
from typing import Generic, Protocol, Self, TypeVar

import torch
from torch import Tensor

from harness.streaming import Chunk

T = TypeVar("T")
R = TypeVar("R", covariant=True)  # of a whole result


class Clock:
    """Seconds, called, that stand still while the reader of a stream has the word."""

    def __init__(self) -> None:
        self._start_s = self._left_s = 0.0
        self._away_s = 0.0

    def __call__(self) -> float:
        return time.perf_counter() - self._away_s

    def elapsed_s(self) -> float:
        """Seconds since it first ran, the reader's included."""
        return time.perf_counter() - self._start_s

    @contextmanager
    def running(self) -> Iterator[None]:
        """Inside, it runs."""
        now = time.perf_counter()
        if not self._start_s:
            self._start_s = self._left_s = now
        self._away_s += now - self._left_s
        try:
            yield
        finally:
            self._left_s = time.perf_counter()


class Pieces(Protocol[R]):
    """What a stream is read from: a run on `clock`, and its `result` once it is through."""

    @property
    def clock(self) -> Clock: ...
    @property
    def result(self) -> R | None: ...

    def pieces(self) -> Generator[Tensor, None, None]:
        """Waveforms `[B, channels, n]`, one after another."""
        ...


class Stream(Iterator[Chunk], Generic[R]):
    """The chunks of a request, of one length but for the last; asked for by one thread at a time.

    Its clock starts with the first. An item that is over before the longest is followed by silence. `close`
    ends it early and leaves the engine as it was; so does the end of a `with` block, and letting go of it.
    """

    def __init__(self, run: Pieces[R]):
        self._source = run
        self._pieces = run.pieces()  # which know nothing of the stream, so that nothing holds one let go of
        self._context = copy_context()  # where spans are recorded, which is not the reader's

    @property
    def result(self) -> R | None:
        """That of `Engine.run`, whole waveforms included, once the stream has ended; None until then."""
        return self._source.result

    def __next__(self) -> Chunk:
        """The next chunk. Raises as `Engine.run` does."""
        samples = self._resumed(lambda: next(self._pieces)).clone()  # to be changed at will
        return Chunk(samples, self._source.clock.elapsed_s())

    def close(self) -> None:
        """End it now. It does nothing where it has ended."""
        self._resumed(self._pieces.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def _resumed(self, step: Callable[[], T]) -> T:
        """What `step` returns, as if the reader had not been away. It leaves nothing entered behind."""
        with self._source.clock.running(), torch.inference_mode():
            return self._context.run(step)
