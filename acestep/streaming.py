"""Streaming: the audio of a request in pieces, each handed out as soon as the VAE has decoded it.

    with engine.stream(GenerationParams(caption="slow dub techno", duration=60), chunk_s=0.5) as stream:
        for chunk in stream:
            player.write(chunk.samples)      # [B, 2, n]
    stream.result                            # the `GenerationResult` of the same run

The stages before the VAE need the whole song, so the first piece comes after them and one tile per item. A
piece of 1 s costs the decoding of 1.72 s: the convolutions reach 9 frames to either side. Shorter pieces
come earlier and cost more.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence

import torch
from torch import Tensor

from acestep.audio.decode import Song
from acestep.audio.tile import STAGE
from acestep.lm.decode.step import OnCode
from acestep.pipeline import Generated, Generation, Latents
from acestep.result import GenerationResult
from harness import stream
from harness.spans import Times, record, span
from harness.stream import Clock


class Stream(stream.Stream[GenerationResult]):
    """The chunks of a request (`harness.stream`), and what is known of it so far."""

    def __init__(self, run: Run):
        self._run = run
        super().__init__(run)

    @property
    def first_code_s(self) -> float | None:
        """Seconds to the first planned audio code; None without any."""
        return self._run.first_code_s

    @property
    def latents_s(self) -> float | None:
        """Seconds until the DiT was done; None until then."""
        return self._run.latents_s

    @property
    def samples(self) -> int | None:
        """Samples of the longest item, which are known when the DiT is done; None until then."""
        return self._run.samples


class Run:
    """A generation in pieces of `chunk_samples`, and what is known of it so far.

    `sync` waits for the device; `finish` makes the result of what was generated and its times.
    """

    def __init__(
        self,
        generation: Generation,
        chunk_samples: int,
        sync: Callable[[], None] | None,
        finish: Callable[[Generated, Times], GenerationResult],
        on_code: OnCode | None = None,
    ):
        self.clock = Clock()
        self.first_code_s: float | None = None
        self.latents_s: float | None = None
        self.samples: int | None = None
        self.result: GenerationResult | None = None
        self._generation = generation
        self._chunk_samples = chunk_samples
        self._sync = sync
        self._finish = finish
        self._on_code = on_code

    def pieces(self) -> Generator[Tensor, None, None]:
        """Every stage in order, the VAE's piece by piece: of every item `[B, 2, n]`, by their seeds."""
        generation = self._generation
        generation.budget.reset_peak()
        with record(self._sync, self.clock) as times:
            latents = generation.latents(self._code)
            self.latents_s = self.clock.elapsed_s()
            lengths = [batch.samples for batch in latents.batches]
            self.samples = max(lengths)
            parts = [part.latents for part in latents.diffused]
            with generation.decoding.songs(parts, self._chunk_samples) as songs:
                for start, waves in pieces(songs, lengths, self._chunk_samples, generation.models.hop):
                    yield self._piece(latents, start, waves)
            generated = generation.finished(latents, [song.decoded for song in songs], None, streamed=True)
        self.result = self._finish(generated, times)

    def _code(self, count: int) -> None:
        if self.first_code_s is None:
            self.first_code_s = self.clock.elapsed_s()
        if self._on_code:
            self._on_code(count)

    def _piece(self, latents: Latents, start: int, waves: Sequence[Tensor]) -> Tensor:
        generation = self._generation
        with span("post"):
            piece = torch.zeros(len(generation.seeds), 2, max(wave.shape[-1] for wave in waves))
            for batch, wave in zip(latents.batches, waves, strict=True):
                finished = generation.items.piece(wave, start, batch.samples, latents.inputs)
                piece[list(batch.items), :, : wave.shape[-1]] = finished
        return piece


def pieces(
    songs: Sequence[Song], lengths: Sequence[int], chunk_samples: int, hop: int
) -> Iterator[tuple[int, list[Tensor]]]:
    """Decode `songs`, of which the first `lengths` samples are wanted, piece by piece; `hop` samples a frame.

    Yields where a piece starts, and that of each song `[B, 2, n]`: `chunk_samples`, or what there is left.
    """
    for start in range(0, max(lengths), chunk_samples):
        waves = []
        with span(STAGE):
            for song, samples in zip(songs, lengths, strict=True):
                stop = max(start, min(start + chunk_samples, samples))
                song.reach(min(-(-stop // hop), song.frames))
                waves.append(song.audio[..., start:stop])
        yield start, waves
