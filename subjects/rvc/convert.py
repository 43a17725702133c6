"""The stages of a conversion."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.errors import MissingPrerequisite
from harness.sound import read_mono, save_wav
from harness.spans import span
from subjects.loading import ends_early
from subjects.rvc import conversion as steps
from subjects.rvc import pitch
from subjects.rvc.config import HOP, SAMPLE_RATE, SynthesizerConfig
from subjects.rvc.conversion import Chunk, Samples
from subjects.rvc.index import Index, read_index
from subjects.rvc.plan import Plan
from subjects.rvc.request import LEAST_S
from subjects.rvc.result import Audio, Counts
from subjects.rvc.voices import voice
from subjects.rvc.weights import Networks

PITCH_FRAMES = 32_768  # of the U-Net at once, beyond which it runs in pieces, which changes nothing
ToHost = Callable[[Tensor], NDArray[Any]]


def to_host(values: Tensor) -> NDArray[Any]:
    """What the device has computed."""
    return values.cpu().numpy()


class Conversion:
    """A plan on its way. Afterwards `waves [B, samples]` are what the generator made, joined; `f0` is the
    pitch in Hz of the padded recording."""

    waves: NDArray[np.float32]
    f0: NDArray[np.float32]

    def __init__(self, networks: Networks, plan: Plan, host: ToHost = to_host):
        self.networks = networks
        self.plan = plan
        self.counts = Counts()
        self._host = host
        self._lots = [torch.Generator().manual_seed(seed) for seed in plan.request.seeds]
        self._features = self._frames = 0

    def run(self, save_dir: Path | None) -> tuple[Audio, ...]:
        """Every stage in order."""
        request = self.plan.request
        with span("load_audio"):
            samples = steps.highpassed(steps.levelled(recording(self.plan)))
            index = read_index(request.index, self._config.phone) if request.index else None
            points = steps.quiet_points(samples)
            padded = steps.padded(samples, self.plan.exact).astype(np.float32)
        with span("pitch"):
            self.f0, coarse = self._pitch(padded)
        chunks = [*steps.chunks(len(samples), points, self.plan.exact)]
        pieces = [self._piece(chunk, padded, coarse, index) for chunk in chunks]
        with span("post"):
            self.waves = self._joined(pieces, len(samples))
            finished = [self._finished(samples, wave) for wave in self.waves]
        if save_dir is None:
            audios = self._audios(finished, None)
        else:
            with span("save"):
                audios = self._audios(finished, save_dir)
        self.counts = Counts(
            audio_s=len(finished[0]) / self.plan.sample_rate,
            input_samples=len(samples),
            chunks=len(chunks),
            pitch_frames=len(self.f0),
            voiced=int((self.f0 > 0).sum()),
            hubert_frames=self._features,
            frames=self._frames * request.batch_size,
        )
        return audios

    def _pitch(self, padded: Samples) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Hz and steps of each frame."""
        request = self.plan.request
        hertz = pitch.estimate(
            self.networks.rmvpe,
            torch.from_numpy(padded)[None].to(self.networks.device),
            padding=request.mel_padding,
            chunk=PITCH_FRAMES if len(padded) > PITCH_FRAMES * steps.HOP else None,
        )
        f0 = self._host(hertz[0]).astype(np.float32) * np.float32(2 ** (request.transpose / 12))
        if request.interpolate_pitch:
            f0 = steps.interpolated(f0)
        return f0, pitch.coarse(torch.from_numpy(f0)).numpy()

    def _piece(
        self, chunk: Chunk, padded: Samples, coarse: NDArray[np.int64], index: Index | None
    ) -> NDArray[np.float32]:
        """The waves `[B, samples]` of a chunk, its edges included."""
        synthesizer, device = self.networks.synthesizer, self.networks.device
        batch = self.plan.request.batch_size
        with span("features"):
            frames = steps.frames_of(chunk)
            run = slice(chunk.frame, chunk.frame + frames)
            f0 = self.f0[run]
            phone = self._phone(padded[chunk.start : chunk.end], f0, index)
            self._features += phone.shape[1] // 2
            phone = phone[:, :frames].expand(batch, -1, -1)
            self._frames += frames
        with span("text_encode"):
            steps_of_pitch = torch.from_numpy(coarse[run])[None].expand(batch, -1).to(device)
            e1 = self._noise(self._config.inter, frames).to(device)
            latents = synthesizer.latents(phone, steps_of_pitch, e1)
        with span("flow"):
            speaker = torch.full((batch,), self.plan.request.speaker)
            g = synthesizer.voice(speaker.to(device))
            latents = synthesizer.flow(latents, g)
        with span("generate"):
            for lot in self._lots:  # a draw of the published pipeline that has no effect, in its place
                torch.rand(1, 1, generator=lot)
            eps = self._noise(frames * self._config.hop, 1).to(device)
            hz = torch.from_numpy(f0)[None].expand(batch, -1)
            return self._host(synthesizer.dec(latents, synthesizer.dec.m_source(hz, eps), g))

    @property
    def _config(self) -> SynthesizerConfig:
        return self.networks.synthesizer.config

    def _noise(self, *shape: int) -> Tensor:
        """Standard normal draws `[B, *shape]` of each item's own."""
        return torch.stack([torch.randn(*shape, generator=lot) for lot in self._lots])

    def _phone(self, samples: Samples, f0: NDArray[np.float32], index: Index | None) -> Tensor:
        """Features `[1, T, D]` on the device, each frame of 20 ms twice."""
        features = self.networks.hubert(torch.from_numpy(samples)[None].to(self.networks.device))
        if index is None:
            return features.repeat_interleave(2, dim=1)
        request = self.plan.request
        assert request.index_rate is not None and request.protect is not None
        raw, rate = self._host(features[0]), request.index_rate
        with span("retrieve"):
            mixed = rate * index.nearest(raw) + (1 - rate) * raw
        mixed, raw = (frames.repeat(2, axis=0)[: len(f0)] for frames in (mixed, raw))
        phone = steps.protected(mixed, raw, f0[: len(mixed)], request.protect)
        return torch.from_numpy(phone.astype(np.float32))[None].to(self.networks.device)

    def _joined(self, pieces: list[NDArray[np.float32]], length: int) -> NDArray[np.float32]:
        """Pieces without their edges, one after another; if exact, without the rest of the last frame."""
        rate = self._config.sample_rate
        pad = steps.CUTTING.pad * rate
        waves = np.concatenate([piece[:, pad:-pad] for piece in pieces], axis=1)
        return waves[:, : round(length * rate / SAMPLE_RATE)] if self.plan.exact else waves

    def _finished(self, samples: Samples, wave: Samples) -> NDArray[np.int16]:
        request, rate = self.plan.request, self._config.sample_rate
        wave = steps.mixed_loudness(samples, wave, rate, request.rms_mix_rate)
        return steps.sixteen_bits(steps.resampled(wave, rate, request.resample_hz))

    def _audios(self, finished: list[NDArray[np.int16]], save_dir: Path | None) -> tuple[Audio, ...]:
        rate = self.plan.sample_rate
        audios = []
        for samples, seed in zip(finished, self.plan.request.seeds, strict=True):
            place = save_wav(save_dir, str(seed), samples, rate) if save_dir else None
            audios.append(Audio(samples, rate, seed, place))
        return tuple(audios)


def recording(plan: Plan) -> Samples:
    """Samples of what a plan converts, at 16 kHz.

    Raises MissingPrerequisite for a recording that cannot be read, is shorter than it says, or silent.
    """
    request = plan.request
    assert request.duration_s is not None
    if request.audio is None:
        return voice(request.duration_s).samples
    most_s = request.duration_s
    samples = read_mono("audio", request.audio, SAMPLE_RATE, least_s=LEAST_S, most_s=most_s, quality="VHQ")
    if len(samples) < plan.samples - HOP:
        remedy = "--duration {} converts what is there"
        raise ends_early("audio", request.audio, len(samples) / SAMPLE_RATE, most_s, remedy)
    if not samples.any():
        raise MissingPrerequisite(
            f"audio: {request.audio!r} is silent for {most_s:g} s; name another recording"
        )
    return samples[: plan.samples]
