"""A tile of the VAE as a graph: the decoder compiled whole for a size of tile, and recorded where that pays.

A window of latents in, its piece of the waveform out, of one size throughout a song. Compiled, a Snake and
the sum before it are one kernel between two convolutions. All blocks differ in width and length, so there is
nothing to share: the whole decoder is one graph.

A size that nothing was prepared for runs eager, which is told: where memory runs out in the middle of a song,
tiles shrink, and compiling there would be timed as decoding.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.func import functional_call

from acestep.models.vae import OobleckDecoder
from harness.adjustments import Fallback
from harness.captured import Captured
from harness.compiling import Compiled
from harness.graphs import Graphs
from harness.oom import attempt
from harness.spans import span

STAGE = "vae_decode"
# A tile is some 400 launches of 4.5 us each, 1.9 ms, whatever its size, and on an H200 a frame computes for
# 70 us. A longer tile never waits for the host, and recorded it would hold its activations all along.
LAUNCH_BOUND_FRAMES = 26


class Tiles:
    """A decoder on windows `[1, 64, frames]`, each size as it was prepared; `captured` ends recordings."""

    def __init__(
        self, decoder: OobleckDecoder, compiled: Compiled | None = None, captured: Captured | None = None
    ):
        """`compiled`: where the decoder is among what it compiles."""
        self.decoder = decoder
        self.captured = captured or Captured(STAGE, Graphs(), set())
        self._compiled = compiled
        self._reasons: dict[str, None] = {}

    @property
    def prepares(self) -> bool:
        """Whether `prepare` may have something to do."""
        return self._compiled is not None or self.captured.recording

    @property
    def fallbacks(self) -> tuple[Fallback, ...]:
        """What ran eager that was to be compiled, and was called that was to be recorded."""
        eager = tuple(Fallback(STAGE, reason, "decoded eager") for reason in self._reasons)
        return eager + self.captured.fallbacks

    def prepare(self, window: Tensor, hop: int, *, repeated: bool) -> None:
        """Compile what windows like this run, and record it; a stage `compile`, if there is something to do.

        `window`: any, contiguous. `repeated`: more than one of them comes.
        """
        if self._compiled:
            compiled, bucket = self._compiled, _bucket(window)
            failure = attempt(lambda: compiled.warm(bucket, lambda: self.decoder(torch.zeros_like(window))))
            if failure:
                self._reasons[f"not compiled: {failure.words}"] = None
        if repeated and self.captured.recording and window.shape[-1] <= LAUNCH_BOUND_FRAMES:
            piece = window.new_empty(1, self.decoder.conv2.out_channels, hop * window.shape[-1])
            with span("compile"):
                self.captured.record(window.shape, _bucket(window), self._run, piece, window)

    def __call__(self, window: Tensor) -> Tensor:
        """The piece `[1, 2, hop·frames]` of a window."""
        return self.captured.run(window.shape, self._run, window)

    def by(self, weights: Mapping[str, Tensor], window: Tensor) -> Tensor:
        """The piece of a window by other weights, elsewhere."""
        with self._stance(window):
            return functional_call(self.decoder, dict(weights), (window,))

    def _run(self, window: Tensor) -> Tensor:
        if self._compiled is None:
            return self.decoder(window)
        with self._stance(window):
            return self.decoder(window.contiguous())  # a graph holds for strides, and a song has its own

    def _stance(self, window: Tensor) -> AbstractContextManager[object]:
        """Inside, what was compiled for windows like this runs, or else nothing compiled."""
        if self._compiled is None:
            return nullcontext()
        if self._compiled.knows(_bucket(window)):
            return self._compiled.frozen()
        if not self._reasons:
            self._reasons[f"no tile of {window.shape[-1]} frames on {window.device.type} was compiled"] = None
        return self._compiled.eager()


def _bucket(window: Tensor) -> tuple[object, ...]:
    return "VAE", window.shape, window.dtype, window.device.type
