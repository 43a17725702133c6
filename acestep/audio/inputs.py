"""Recordings to latents: the source a task works on, and the clips whose timbre is taken.

    file -> [2, N] at 48 kHz -> [1, T, 64] at 25 Hz

A region that reaches out of the source makes it longer; what is shorter than the model's shortest canvas is
followed by silence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from acestep import components
from acestep.audio import files as audio_file
from acestep.audio import reference
from acestep.audio.encode import Encoded, encode
from acestep.audio.recordings import REFERENCE_S
from acestep.diffusion import canvas
from acestep.weights.loading import Models
from harness.adjustments import Fallback
from harness.memory import MemoryBudget
from harness.spans import span

if TYPE_CHECKING:
    from acestep.resolver import EffectivePlan


@dataclass(frozen=True)
class AudioInputs:
    """The recordings of a request, encoded.

    `source [1, T, 64]`, of which `frames` are the recording's and `region` are to be painted; `clips`:
    `[1, 750, 64]` per reference that is not silent. `tiles`: how many they took.
    """

    source: Tensor | None = None
    frames: int = 0
    region: tuple[int, int] | None = None
    clips: tuple[Tensor, ...] = ()
    tiles: int = 0
    fallbacks: tuple[Fallback, ...] = ()


def encode_inputs(models: Models, budget: MemoryBudget, plan: EffectivePlan) -> AudioInputs:
    """Read and encode what a request names. Needs the part `vae_encoder` where it names anything.

    Raises MissingPrerequisite or UsageError for a recording that cannot be used.
    """
    params = plan.params
    source, frames, region = None, 0, None
    encoded, clips = [], []
    if params.src_audio:
        start, end = params.repainting_start, params.repainting_end
        wave = load_audio("src_audio", params.src_audio, plan.setup.max_duration_s + min(start, 0.0))
        if plan.task.region:
            wave, start, end = canvas.outpaint(wave, start, end)
        encoded.append(vae_encode(wave, models, budget))
        latents = encoded[0].latents
        frames = latents.shape[1]
        if plan.task.region:
            region = canvas.region_frames(start, end, frames)
        source = canvas.fit(latents, models.silence, max(frames, canvas.MIN_FRAMES))
    for path in params.reference_audio:
        clip = reference.windows(load_audio("reference_audio", path, REFERENCE_S))
        if clip is not None:
            encoded.append(vae_encode(clip, models, budget))
            clips.append(encoded[-1].latents)
    return AudioInputs(
        source,
        frames,
        region,
        tuple(clips),
        tiles=sum(part.tiles for part in encoded),
        fallbacks=tuple(fallback for part in encoded for fallback in part.fallbacks),
    )


def load_audio(name: str, path: str, most_s: float) -> Tensor:
    """At most `most_s` seconds of a recording, `[2, N]` at 48 kHz. `name`: of the field that names it."""
    with span("load_audio"):
        return torch.from_numpy(audio_file.read(path, name, most_s))


def vae_encode(wave: Tensor, models: Models, budget: MemoryBudget) -> Encoded:
    """Latents `[1, T, 64]` of a waveform `[2, N]`, at least one frame of it."""
    wave = F.pad(wave, (0, max(0, models.hop - wave.shape[1])))
    with models.residency.using(components.VAE_ENCODER), span("vae_encode"):
        return encode(models.vae.encoder, wave[None], models.hop, budget, models.device, models.dtype)
