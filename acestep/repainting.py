"""How firmly the kept part of a recording holds while a region of it is painted. No torch import here."""

from __future__ import annotations

from dataclasses import replace

from acestep.request import GenerationParams

CROSSFADE_FRAMES, SPLICE_S = 25, 0.05  # of a repaint that keeps most
FIELDS = ("repaint_injection_ratio", "repaint_latent_crossfade_frames", "repaint_wav_crossfade_sec")


def resolved(params: GenerationParams) -> GenerationParams:
    """`params` with the injection ratio and the crossfades that follow from the mode where they are open.

        mode          ratio    latent crossfade         waveform crossfade
        conservative  1        25 frames                0.05 s
        balanced      1 - s    25·(1 - s), rounded      0.05·(1 - s) s
        aggressive    0        none                     None: the recording is not put back after decoding

    s is `repaint_strength`. A waveform crossfade of 0 s puts the recording back with hard cuts.
    """
    share = {"conservative": 1.0, "balanced": 1 - params.repaint_strength, "aggressive": 0.0}[
        params.repaint_mode
    ]
    ratio, frames, splice_s = (
        params.repaint_injection_ratio,
        params.repaint_latent_crossfade_frames,
        params.repaint_wav_crossfade_sec,
    )
    if splice_s is None and params.repaint_mode != "aggressive":
        splice_s = SPLICE_S * share
    return replace(
        params,
        repaint_injection_ratio=share if ratio is None else ratio,
        repaint_latent_crossfade_frames=round(CROSSFADE_FRAMES * share) if frames is None else frames,
        repaint_wav_crossfade_sec=splice_s,
    )
