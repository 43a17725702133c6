"""The frame loop: the talker's step, a first code, and the predictor's fifteen, until every item has ended.

    loop = FrameLoop(talker, predictor, batch=1, rows=64, frames=512, graphs=Graphs.on(device))
    loop.begin([embed(prompt, talker, predictor)], [torch.Generator().manual_seed(seed)])
    loop.prefill()
    for codes in loop.run():      # int64 [B, 16] on the device, as frames come
        ...
    loop.lengths()                # frames of each item

A loop is memory and steps: the talker's KV cache, the predictor's of 16 slots, which every frame overwrites,
draws, codes. It serves one request after another, so what is recorded of it (`harness.graphs`) is recorded
once: the talker's step for each block of its cache, the draw of a first code, the predictor's frame as a
whole. A step reads nothing back and takes nothing from Python. When it is first needed it runs kernel by
kernel, and is recorded after that, in a stage `compile`.

Items decode together and each keeps to itself: its own length, its own stream of draws, taken before the
first frame. Frame 0 needs no step of the talker: the prompt predicts its first code.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from harness.adjustments import Fallback
from harness.graphs import Graphs, unrecorded
from harness.nn.qwen3 import Cache, block_of, few_rows
from harness.spans import span
from subjects.qwen3_tts.models.code_predictor import CodePredictor
from subjects.qwen3_tts.models.talker import Talker
from subjects.qwen3_tts.prompt import PUBLISHED as IDS
from subjects.qwen3_tts.prompt import Embedded
from subjects.qwen3_tts.sampling import PUBLISHED, FrameSampling

READ_BACK = 8  # frames between two looks at whether all items have ended, on a card: it waits for the queue


class Counts(NamedTuple):
    """What a request has run: rows of its prompts, steps of all items together, frames of the longest."""

    prompt_rows: int
    talker_steps: int
    predictor_steps: int
    frames: int


class FrameLoop:
    """Frames of a batch of prompts.

    `hidden [B, H]` is the talker's last, `logits [B, V]` those of the first code, `codes [B, 16]` the last
    frame's.
    """

    def __init__(
        self,
        talker: Talker,
        predictor: CodePredictor,
        *,
        batch: int,
        rows: int,
        frames: int,
        sampling: FrameSampling = PUBLISHED,
        ends: bool = True,
        eos: int = IDS.eos,
        graphs: Graphs | None = None,
    ):
        """Memory for `batch` prompts of up to `rows` rows and `frames` frames.

        `ends`: the token `eos` ends an item; else it is never drawn and all frames are made. `graphs` records
        the steps; without it they are called.
        """
        weight = talker.codec_head.weight
        self.talker, self.predictor = talker, predictor
        self.sampling, self.ends, self.eos = sampling, ends, eos
        self.batch, self.frames = batch, frames
        self.graphs = graphs or Graphs()
        self.device, self.dtype = weight.device, weight.dtype
        self.block = block_of(self.device)  # of the talker's cache
        self.read_back = 1 if self.device.type == "cpu" else READ_BACK
        predictor.prepare(talker.model.codec_embedding.weight)
        self._recorded: set[Hashable] = set()
        self._allocate(rows)

    def begin(
        self, prompts: Sequence[Embedded], streams: Sequence[torch.Generator], frames: int | None = None
    ) -> None:
        """Take the prompts of a request, and all draws of an item from its stream, a generator of the host.

        `frames`: at most so many, by default as many as there is memory for.
        """
        self._wanted = self.frames if frames is None else frames
        self._lengths = [len(prompt.rows) for prompt in prompts]
        if (
            len(prompts) != self.batch
            or self._wanted > self.frames
            or self._whole_blocks(max(self._lengths) + self._wanted - 1) > self._cache.padding
        ):
            raise ValueError(
                f"{len(prompts)} prompts of up to {max(self._lengths)} rows and {self._wanted} frames in "
                f"memory for {self.batch}, {self._cache.padding} slots and {self.frames} frames"
            )
        self._prompts = list(prompts)
        draws = [torch.rand(self._wanted, self._groups, generator=stream) for stream in streams]
        self._draws[: self._wanted].copy_(torch.stack(draws, dim=-1))
        for item, prompt in enumerate(prompts):
            trailing = prompt.trailing[: self.frames]
            self._texts[: len(trailing), item] = trailing
            self._texts[len(trailing) :, item] = prompt.pad
        for buffer in (self._index, self._seen, self._ended, self._kept):
            buffer.zero_()
        self._done = 0

    def prefill(self) -> None:
        """Run the prompts: a stage `talker_prefill`."""
        with span("talker_prefill"):
            longest = max(self._lengths)
            x = self._texts.new_zeros(self.batch, longest, self._texts.shape[-1])
            for row, prompt, length in zip(x, self._prompts, self._lengths, strict=True):
                row[longest - length :] = prompt.rows
            lengths = torch.tensor(self._lengths, device=self.device)[:, None]
            offsets = torch.arange(longest, device=self.device) - (longest - lengths)
            positions = torch.where(offsets < 0, self._cache.padding, offsets)
            self._predict_first(self.talker.model.append(x, positions, self._cache, self._rows, longest))
            self._positions.copy_(lengths)
        self._prompts = []

    def frame(self) -> Tensor:
        """The next frame of every item: codes int64 `[B, 16]` on the device; after an item's end, any.

        Stages `talker_decode` (not of frame 0), `sampling`, `code_predictor`, and `compile` where a step is
        recorded. Draws of the predictor are in `sampling` where `sampling_apart`.
        """
        self._first()
        return self._others()

    def run(self) -> Iterator[Tensor]:
        """Frames until every item has ended, or there are as many as wanted.

        An end is seen up to `read_back` frames late; `lengths` leaves those out.
        """
        while self._done < self._wanted:
            self._first()
            if self.ends and (self._done + 1) % self.read_back == 0 and self.ended():
                return
            yield self._others()

    def written(self) -> Tensor:
        """Codes of all frames so far, int64 `[B, 16, frames]`, a view: the next request overwrites it."""
        return self._frames[: self._done].permute(1, 2, 0)

    def lengths(self) -> list[int]:
        """Frames of each item so far, without those after its end: read back where items end."""
        return self._kept.tolist() if self.ends else [self._done] * self.batch

    def ended(self) -> bool:
        """Whether every item has ended: read back."""
        return bool(self._ended.all())

    def finite(self) -> bool:
        """Whether the last logits are numbers, read back: what is none stays in the KV cache, so in them."""
        return bool(self.logits.isfinite().all())

    def counts(self) -> Counts:
        """Of the request so far."""
        steps = max(self._done - 1, 0)
        return Counts(sum(self._lengths), steps, self._done * (self._groups - 1), self._done)

    @property
    def sampling_apart(self) -> bool:
        """Whether the predictor's draws are in the stage `sampling`: on a CPU. A card queues a whole frame of
        the predictor, or runs it as one graph, and draws are part of it."""
        return self.device.type == "cpu" and not self.graphs.recording

    @property
    def fallbacks(self) -> tuple[Fallback, ...]:
        """Why steps are launched kernel by kernel, where they were to be recorded."""
        return (unrecorded("talker_decode", self.graphs.failure),) if self.graphs.failure else ()

    def _allocate(self, rows: int) -> None:
        device, batch, frames = self.device, self.batch, self.frames
        predictor, width = self.predictor.config, self.talker.config.hidden_size
        self._groups, codes = predictor.num_code_groups, predictor.vocab_size
        self._tokens = self.eos + 1 if self.ends else codes  # of the head
        self._rows = slice(0, batch)
        slots = self._whole_blocks(rows + frames - 1)
        self._cache = Cache(self.talker.config, batch, slots, self.dtype, device)
        self._frame_cache = Cache(predictor, batch, self._groups, self.dtype, device)
        self.hidden = torch.zeros(batch, width, dtype=self.dtype, device=device)
        self.logits = torch.zeros(batch, self._tokens, device=device)
        self.codes = torch.zeros(batch, self._groups, dtype=torch.long, device=device)
        self._frames = torch.zeros(frames, batch, self._groups, dtype=torch.long, device=device)
        self._positions = torch.zeros(batch, 1, dtype=torch.long, device=device)
        self._index = torch.zeros(1, dtype=torch.long, device=device)  # of the frame
        self._draws = torch.zeros(frames, self._groups, batch, device=device)
        self._texts = torch.zeros(frames, batch, width, dtype=self.dtype, device=device)
        self._seen = torch.zeros(batch, self._tokens, dtype=torch.bool, device=device)
        self._ended = torch.zeros(batch, dtype=torch.bool, device=device)
        self._kept = torch.zeros(batch, dtype=torch.long, device=device)
        self._bans = torch.zeros(self.sampling.min_new_tokens + 1, self._tokens, device=device)
        self._bans[:, codes:] = -torch.inf
        if self.ends:
            self._bans[-1, self.eos] = 0

    def _first(self) -> None:
        if self._done:
            end = self._whole_blocks(max(self._lengths) + self._done)
            self._launch("talker_decode", end, partial(self._step, end))
        self._launch("sampling", "first", self._draw_first)

    def _others(self) -> Tensor:
        if self.sampling_apart:
            self._draw_others()
        else:
            self._launch("code_predictor", "others", self._draw_others)
        self._done += 1
        return self._frames[self._done - 1]

    def _launch(self, stage: str, key: Hashable, step: Callable[[], None]) -> None:
        """Run a step in its stage, and record it if it is new."""
        with span(stage):
            self.graphs.run(key, step)
        if self.graphs.recording and key not in self._recorded:
            with span("compile"):
                self.graphs.record(key, step)
            self._recorded.add(key)

    def _step(self, end: int) -> None:
        """Feed the last frame, beside the text that goes with it, and predict the next first code."""
        row = self.predictor.summed(self.talker.codec(self.codes[:, 0]), self.codes[:, 1:])
        x = row + self._texts.index_select(0, self._index)[0]
        with few_rows(self.batch):
            hidden = self.talker.model.append(x[:, None], self._positions, self._cache, self._rows, end)
        self._predict_first(hidden)
        self._positions.add_(1)
        self._index.add_(1)

    def _predict_first(self, hidden: Tensor) -> None:
        self.hidden.copy_(hidden)
        self.logits.copy_(self.talker.logits(hidden, self._tokens))

    def _draw_first(self) -> None:
        """The first codes. An item that draws its end has ended: code 0 goes on in its place."""
        draws = self._draws.index_select(0, self._index)[0]
        logits = self.logits
        if self.ends:
            logits = logits + self._bans.index_select(0, self._index.clamp(max=len(self._bans) - 1))
        code = self.sampling.first.pick(logits, draws[0], self._seen)
        if self.ends:
            self._ended.logical_or_(code == self.eos)
            self._kept.add_(~self._ended)
            code = code.masked_fill(self._ended, 0)
        self._seen.scatter_(1, code[:, None], True)
        self.codes[:, 0] = code

    def _draw_others(self) -> None:
        """The other codes, one after another, each from the codes before."""
        draws = self._draws.index_select(0, self._index)[0]
        first = self.predictor.input(0, self.codes[:, 0])
        x = torch.stack((self.predictor.project(self.hidden), first), dim=1)
        for index in range(1, self._groups):
            with self._part("code_predictor"):
                logits = self.predictor.logits(index, x, self._frame_cache)
            with self._part("sampling"):
                code = self.sampling.others.pick(logits, draws[index])
                self.codes[:, index] = code
            if index < self._groups - 1:
                x = self.predictor.input(index, code)[:, None]
        self._frames.index_copy_(0, self._index, self.codes[None])

    def _part(self, stage: str) -> AbstractContextManager[None]:
        return span(stage) if self.sampling_apart else nullcontext()

    def _whole_blocks(self, slots: int) -> int:
        return -(-slots // self.block) * self.block
