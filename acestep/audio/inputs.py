"""Recordings to latents: the source a task works on, and the clips whose timbre is taken.

    file -> [2, N] at 48 kHz -> [1, T, 64] at 25 Hz

A region that reaches out of the source makes it longer; what is shorter than the model's shortest canvas is
followed by silence.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
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
from harness.residency import brought
from harness.spans import span

if TYPE_CHECKING:
    from acestep.effective_plan import EffectivePlan


@dataclass(frozen=True)
class AudioInputs:
    """The recordings of a request, encoded.

    `source [1, T, 64]`, of which `frames` are the recording's and `region` are to be painted; `clips`:
    `[1, 750, 64]` per reference that is not silent. `tiles`: how many they took.

    `wave`: what was encoded as the source, `[2, N]` at 48 kHz in fp32 on the host, and `wave_region` the
    samples `[a, b)` of it to be painted, `0 <= a < b <= N`. Both only where the rest of the recording is put
    back after decoding (`repaint_wav_crossfade_sec`); a minute of it is 23 MB.
    """

    source: Tensor | None = None
    frames: int = 0
    region: tuple[int, int] | None = None
    wave: Tensor | None = None
    wave_region: tuple[int, int] | None = None
    clips: tuple[Tensor, ...] = ()
    tiles: int = 0
    fallbacks: tuple[Fallback, ...] = ()


def encode_inputs(models: Models, budget: MemoryBudget, plan: EffectivePlan) -> AudioInputs:
    """Read and encode what a request names. Needs the part `vae_encoder` where it names anything.

    Raises MissingPrerequisite or UsageError for a recording that cannot be used.
    """
    inputs = _encode_source(models, budget, plan) if plan.params.src_audio else AudioInputs()
    encoded = []
    for path in plan.params.reference_audio:
        clip = reference.windows(load_audio("reference_audio", path, REFERENCE_S))
        if clip is not None:
            encoded.append(vae_encode(clip, models, budget))
    return replace(
        inputs,
        clips=tuple(part.latents for part in encoded),
        tiles=inputs.tiles + sum(part.tiles for part in encoded),
        fallbacks=(*inputs.fallbacks, *(fallback for part in encoded for fallback in part.fallbacks)),
    )


def _encode_source(models: Models, budget: MemoryBudget, plan: EffectivePlan) -> AudioInputs:
    """The recording a task works on, without the reference clips."""
    params = plan.params
    start, end = params.repainting_start, params.repainting_end
    wave = load_audio("src_audio", params.src_audio or "", plan.setup.max_duration_s + min(start, 0.0))
    if plan.task.region:
        wave, start, end = canvas.outpaint(wave, start, end)
    encoded = vae_encode(wave, models, budget)
    frames = encoded.latents.shape[1]
    inputs = AudioInputs(
        source=canvas.fit(encoded.latents, models.silence, max(frames, canvas.MIN_FRAMES)),
        frames=frames,
        tiles=encoded.tiles,
        fallbacks=encoded.fallbacks,
    )
    if not plan.task.region:
        return inputs
    inputs = replace(inputs, region=canvas.region_frames(start, end, frames))
    wave_region = canvas.region_samples(start, end, wave.shape[1])
    if params.repaint_wav_crossfade_sec is None or wave_region == (0, wave.shape[1]):
        return inputs
    return replace(inputs, wave=wave, wave_region=wave_region)


def load_audio(name: str, path: str, most_s: float) -> Tensor:
    """At most `most_s` seconds of a recording, `[2, N]` at 48 kHz. `name`: of the field that names it."""
    with span("load_audio"):
        return torch.from_numpy(audio_file.read(path, name, most_s))


def vae_encode(wave: Tensor, models: Models, budget: MemoryBudget) -> Encoded:
    """Latents `[1, T, 64]` of a waveform `[2, N]`, at least one frame of it, where conditions are made."""
    wave = F.pad(wave, (0, max(0, models.hop - wave.shape[1])))
    with models.residency.using(components.VAE_ENCODER), span("vae_encode"):
        place = models.place(components.VAE_ENCODER)
        encoded = encode(models.vae.encoder, wave[None], models.hop, budget, place, models.dtype)
    (latents,) = brought(models.place(components.CONDITION), encoded.latents)
    return encoded if latents is encoded.latents else replace(encoded, latents=latents)
