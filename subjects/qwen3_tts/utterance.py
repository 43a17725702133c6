"""The stages of a request, at once or piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from harness.adjustments import Fallback
from harness.errors import BenchError
from harness.memory import MemoryBudget
from harness.sound import save_wav
from harness.spans import OTHER, Times, record, span
from harness.stream import Clock
from subjects.qwen3_tts import decoding, voice
from subjects.qwen3_tts.config import FRAME_SAMPLES, SAMPLE_RATE
from subjects.qwen3_tts.decoding import STAGE, Pieces
from subjects.qwen3_tts.frames import FrameLoop
from subjects.qwen3_tts.mel import log_mel
from subjects.qwen3_tts.plan import Plan
from subjects.qwen3_tts.prompt import embed
from subjects.qwen3_tts.request import FRAME_S, Request
from subjects.qwen3_tts.result import Audio, Counts, Result
from subjects.qwen3_tts.sampling import FrameSampling, Tempered
from subjects.qwen3_tts.weights import Networks

GetLoop = Callable[[Plan], FrameLoop]


class Utterance:
    """A plan on its way: what was drawn and decoded of it so far.

    `kept`: codes of each item, int64 CPU `[16, T]`, when it is through.
    """

    def __init__(self, networks: Networks, plan: Plan):
        self.networks = networks
        self.plan = plan
        self.kept: tuple[Tensor, ...] = ()
        self.fallbacks: tuple[Fallback, ...] = ()
        self.first_chunk_stages_s: dict[str, float] = {}
        self.decoded_frames = 0

    def begin(self, loop_of: GetLoop) -> FrameLoop:
        """Prompt and prefill."""
        plan, networks = self.plan, self.networks
        with span("prompt"):
            loop = loop_of(plan)
            prompt = embed(plan.prompt, networks.talker, networks.code_predictor, self._x_vector())
            streams = [torch.Generator().manual_seed(seed) for seed in plan.request.seeds]
            loop.begin([prompt] * plan.request.batch_size, streams, plan.most_frames)
        loop.prefill()
        return loop

    def codes(self, loop: FrameLoop) -> Tensor:
        """All frames, int64 `[B, 16, T]` on the device."""
        for _ in loop.run():
            pass
        return self._end(loop)

    def audios(self, codes: Tensor, save_dir: Path | None) -> tuple[Audio, ...]:
        """Items of all frames, and their files."""
        with span(STAGE):
            joined, before = self.behind(codes)
            context = self.plan.request.context
            wave = decoding.whole(self.networks.decoder, joined, context, before).float().cpu()
        self.decoded_frames += joined.shape[-1]
        lengths = [item.shape[-1] for item in self.kept]
        if save_dir is None:
            return audios(wave, lengths, self.plan.request.seeds)
        with span("save"):
            return audios(wave, lengths, self.plan.request.seeds, save_dir)

    def behind(self, codes: Tensor) -> tuple[Tensor, int]:
        """`codes [B, 16, T]` behind those of the reference, and how many these are."""
        request = self.plan.request
        if not request.reference_codes:
            return codes, 0
        before = torch.tensor(request.reference_codes, device=codes.device).T.expand(len(codes), -1, -1)
        return torch.cat((before, codes), dim=-1), before.shape[-1]

    def counts(self) -> Counts:
        """Of what ran."""
        batch = self.plan.request.batch_size
        frames = max(item.shape[-1] for item in self.kept)
        groups = len(self.kept[0])
        return Counts(
            audio_s=frames * FRAME_S,
            frames=frames,
            text_tokens=batch * self.plan.text_tokens,
            prompt_rows=batch * len(self.plan.prompt.rows),
            talker_tokens=batch * max(self._ran - 1, 0),
            predictor_codes=batch * self._ran * (groups - 1),
            decoded_frames=batch * self.decoded_frames,
        )

    def pieces(self, loop: FrameLoop, decoder: Pieces) -> Generator[Tensor, None, None]:
        """Audio `[B, 1, n]` on the host, of `chunk_frames` frames and at last of what there is."""
        request = self.plan.request
        decoder.begin()
        waiting: list[Tensor] = []
        start = 0
        for codes in loop.run():
            waiting.append(codes)
            if len(waiting) == request.chunk_frames:
                yield self._piece(loop, decoder, waiting, start)
                start += len(waiting)
                waiting = []
        self._end(loop)
        if start < (frames := max(item.shape[-1] for item in self.kept)):
            yield self._piece(loop, decoder, waiting[: frames - start], start)
        self.decoded_frames = decoder.decoded
        self.fallbacks = loop.fallbacks

    def _piece(self, loop: FrameLoop, decoder: Pieces, frames: Sequence[Tensor], start: int) -> Tensor:
        codes, before = torch.stack(list(frames), dim=-1), 0
        if start == 0:
            codes, before = self.behind(codes)
        wave = decoder.next(codes)[:, before * FRAME_SAMPLES :]
        with span(STAGE):
            wave = wave.float().cpu()
            for item, length in zip(wave, loop.lengths(), strict=True):
                item[max(length - start, 0) * FRAME_SAMPLES :] = 0
        return wave[:, None]

    def _end(self, loop: FrameLoop) -> Tensor:
        if not loop.finite():
            dtype = str(loop.dtype).removeprefix("torch.")
            raise BenchError(f"talker: its logits are NaN or infinite in {dtype}; are the weights damaged?")
        lengths = loop.lengths()
        self._ran = loop.counts().frames
        self.fallbacks = loop.fallbacks
        codes = loop.written()[..., : max(lengths)]
        host = codes.cpu()
        self.kept = tuple(item[:, :length].clone() for item, length in zip(host, lengths, strict=True))
        return codes

    def _x_vector(self) -> Tensor | None:
        speaker = self.networks.speaker_encoder
        if speaker is None:
            return None
        mel = log_mel(voice.samples(self.plan.request.reference).to(self.networks.device))
        return speaker(mel.to(self.networks.dtype))[0]


class Hooks(NamedTuple):
    """What a stream asks of its engine: loop and decoder of a plan, its last request's number, a result."""

    loop: GetLoop
    pieces: Callable[[Plan, FrameLoop], Pieces]
    turn: Callable[[], int]
    result: Callable[[Utterance, tuple[Audio, ...], Times], Result]


class Run:
    """An utterance in pieces, for a `harness.stream.Stream`."""

    def __init__(
        self,
        utterance: Utterance,
        engine: Hooks,
        budget: MemoryBudget,
        sync: Callable[[], None] | None,
    ):
        self.clock = Clock()
        self.result: Result | None = None
        self._utterance = utterance
        self._engine = engine
        self._budget = budget
        self._sync = sync

    def pieces(self) -> Generator[Tensor, None, None]:
        """Every stage in order, the frames' and the decoder's piece by piece."""
        utterance = self._utterance
        self._budget.reset_peak()
        waves: list[Tensor] = []
        with record(self._sync, self.clock) as times:
            start_s = self.clock()
            loop = utterance.begin(self._engine.loop)
            turn = self._engine.turn()
            for piece in utterance.pieces(loop, self._engine.pieces(utterance.plan, loop)):
                if not waves:
                    stages = {name: times.seconds(name) for name in times.stages() if name != OTHER}
                    other_s = self.clock() - start_s - sum(stages.values())
                    utterance.first_chunk_stages_s = stages | {OTHER: other_s}
                waves.append(piece)
                yield piece
                if self._engine.turn() != turn:
                    raise BenchError("stream: another request of its engine has begun; end one first")
        lengths = [item.shape[-1] for item in utterance.kept]
        items = audios(torch.cat(waves, dim=-1)[:, 0], lengths, utterance.plan.request.seeds)
        self.result = self._engine.result(utterance, items, times)


def sampling(request: Request) -> FrameSampling:
    """How the codes of a request are drawn."""
    temperature, top_k = (0.0, 0) if request.greedy else (request.temperature, request.top_k)
    first = Tempered(temperature, top_k=top_k, repetition_penalty=request.repetition_penalty)
    return FrameSampling(first, Tempered(temperature, top_k=top_k))


def audios(
    wave: Tensor, lengths: Sequence[int], seeds: Sequence[int], save_dir: Path | None = None
) -> tuple[Audio, ...]:
    """Items of `wave`, fp32 CPU `[B, samples]`, each of so many frames; written under `save_dir`, if any."""
    items = []
    for samples, frames, seed in zip(wave, lengths, seeds, strict=True):
        sound = samples[None, : frames * FRAME_SAMPLES]
        items.append(
            Audio(
                tensor=sound,
                sample_rate=SAMPLE_RATE,
                seed=seed,
                peak=float(sound.abs().max()) if frames else 0.0,
                rms=float(sound.square().mean().sqrt()) if frames else 0.0,
                path=save_wav(save_dir, str(seed), sound.T.numpy(), SAMPLE_RATE) if save_dir else None,
            )
        )
    return tuple(items)
