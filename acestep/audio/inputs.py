"""Recordings to latents: the source a task works on, and the clips whose timbre is taken.

    file -> [2, N] at 48 kHz -> [1, T, 64] at 25 Hz

A region that reaches out of the source makes it longer; what is shorter than the model's shortest canvas is
followed by silence.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from acestep.audio import files as audio_file
from acestep.audio import reference
from acestep.audio.encode import encode
from acestep.diffusion import canvas
from acestep.weights.loading import Models
from harness.adjustments import Fallback
from harness.memory import MemoryBudget
from harness.spans import span

if TYPE_CHECKING:
    from acestep.resolver import EffectivePlan


@dataclass
class AudioInputs:
    """What the recordings of a request are to the model.

    `source [1, T, 64]`, of which `frames` are the recording's and `region` are to be painted; `clips`:
    `[1, 750, 64]` per reference that is not silent.
    """

    source: Tensor | None = None
    frames: int = 0
    region: tuple[int, int] | None = None
    clips: list[Tensor] = field(default_factory=list)
    tiles: int = 0
    fallbacks: list[Fallback] = field(default_factory=list)


def encode_inputs(models: Models, budget: MemoryBudget, plan: EffectivePlan) -> AudioInputs:
    """Read and encode what a request names. Needs the part `vae_encoder` where it names anything.

    Raises MissingPrerequisite or UsageError for a recording that cannot be used.
    """
    params, inputs = plan.params, AudioInputs()
    if params.src_audio:
        start, end = params.repainting_start, params.repainting_end
        wave = _load("src_audio", params.src_audio, plan.setup.max_duration_s + min(start, 0.0))
        if plan.task.region:
            wave, start, end = canvas.outpaint(wave, start, end)
        latents = _encode(wave, models, budget, inputs)
        inputs.frames = latents.shape[1]
        if plan.task.region:
            inputs.region = canvas.region_frames(start, end, inputs.frames)
        inputs.source = canvas.fit(latents, models.silence, max(inputs.frames, canvas.MIN_FRAMES))
    for path in params.reference_audio:
        clip = reference.windows(_load("reference_audio", path, reference.MOST_S))
        if clip is not None:
            inputs.clips.append(_encode(clip, models, budget, inputs))
    return inputs


def _load(name: str, path: str, most_s: float) -> Tensor:
    with span("load_audio"):
        return torch.from_numpy(audio_file.read(path, name, most_s))


def _encode(wave: Tensor, models: Models, budget: MemoryBudget, inputs: AudioInputs) -> Tensor:
    """Latents `[1, T, 64]` of a waveform `[2, N]`, at least one frame of it."""
    wave = F.pad(wave, (0, max(0, models.hop - wave.shape[1])))
    with models.residency.using("vae_encoder"), span("vae_encode"):
        done = encode(models.vae.encoder, wave[None], models.hop, budget, models.device, models.dtype)
    inputs.tiles += done.tiles
    inputs.fallbacks += done.fallbacks
    return done.latents
