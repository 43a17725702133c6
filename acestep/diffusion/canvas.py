"""The canvas: source latents and mask, which say what the DiT sees and which frames it is to fill.

Six tasks are one network filling 64 channels of latents, 25 frames per second, beside which lie a source
and a mask (1 = fill, 0 = keep), constant through all steps:

    task               source                                  mask
    text2music         silence                                 1              silent
    codes, or a cover  what the codes stand for                1              from_codes, cover
    repaint            the recording, its region silenced      1, or region   kept(..., erase=True)
    lego               the recording                           1, or region   kept
    extract, complete  the recording                           1              kept, no region

The mask is what the network is told, no more: what keeps a recording outside its region is
`acestep.diffusion.repaint`, which has the region from the request.

The checkpoint's latents of silence are a constant of 600 s, not zeros: they begin where a recording
would, so whatever is missing at an end is taken from their beginning.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from acestep.models.ace_step import AceStep
from acestep.models.rates import FRAME_SAMPLES, FRAMES_PER_SECOND, SAMPLE_RATE
from acestep.models.rates import MIN_FRAMES as MIN_FRAMES
from acestep.models.rates import latent_frames as latent_frames
from acestep.text.audio_codes import CODES_PER_SECOND

FRAMES_PER_CODE = FRAMES_PER_SECOND // CODES_PER_SECOND


@dataclass(frozen=True)
class Canvas:
    """Source latents `[1 or B, T, 64]` and mask `[T]`, both in the model's dtype; mask 1 = fill, 0 = keep."""

    source: Tensor
    mask: Tensor

    def context(self, batch: int) -> Tensor:
        """`[batch, T, 128]`: the source, and the mask once per channel."""
        source = self.source.expand(batch, -1, -1)
        return torch.cat((source, self.mask[:, None].expand_as(source)), dim=-1)


def silent(silence: Tensor, frames: int) -> Canvas:
    """Nothing but silence, all of it to be filled: text to music."""
    return _open(_silence(silence, frames))


def from_codes(model: AceStep, codes: Tensor, silence: Tensor, frames: int) -> Canvas:
    """The latents audio `codes [B, n]` (int64, 0 to 63,999) stand for, made `frames` long."""
    hints = model.detokenizer(model.tokenizer.quantizer.decode(codes))
    return _open(fit(hints, silence, frames))


def cover(model: AceStep, latents: Tensor, silence: Tensor) -> tuple[Canvas, Tensor]:
    """The recording `latents [B, T, 64]` retold in audio codes, and those codes `[B, ceil(T / 5)]`.

    Five frames a second survive as one of 64,000 values, so melody and rhythm stay and the sound is open.
    """
    frames = latents.shape[1]
    whole = -(-frames // FRAMES_PER_CODE) * FRAMES_PER_CODE
    codes = model.tokenizer(fit(latents, silence, whole))
    return from_codes(model, codes, silence, frames), codes


def kept(
    latents: Tensor,
    silence: Tensor,
    region: tuple[int, int] | None = None,
    *,
    erase: bool = False,
    explicit: bool = True,
) -> Canvas:
    """The recording `latents [B, T, 64]`, to be filled in the frames `[a, b)` of `region`, or throughout.

    `erase` puts silence into the region, the same frames of it. Without it the network hears what it adds
    to: so does diffusers, and upstream since it stopped silencing the region for lego.

    `explicit`: the mask says which frames, as diffusers' does. Otherwise it is 1 throughout, as upstream's is
    by default. By accident: its "auto" writes 2, which was to leave the choice to the model, into a mask of
    booleans, where 2 is true.
    """
    if region is None:
        return _open(latents)
    a, b = region
    source = latents
    if erase:
        silent_region = _silence(silence, b)[:, a:].expand(len(latents), -1, -1)
        source = torch.cat((latents[:, :a], silent_region, latents[:, b:]), dim=1)
    if not explicit:
        return _open(source)
    mask = latents.new_zeros(latents.shape[1])
    mask[a:b].fill_(1)
    return Canvas(source, mask)


def fit(latents: Tensor, silence: Tensor, frames: int) -> Tensor:
    """`latents [B, T, 64]` made `frames` long: cropped, or followed by silence from its beginning."""
    missing = max(frames - latents.shape[1], 0)
    rest = _silence(silence, missing).expand(len(latents), -1, -1)
    return torch.cat((latents[:, :frames], rest), dim=1)


def region_frames(start_s: float, end_s: float, frames: int) -> tuple[int, int]:
    """Seconds to the frames `[a, b)` they lie in, of a recording of `frames`: `0 <= a < b <= frames`.

    An end below 0 is the end of the recording; a region past it is its last frame. Seconds are rounded to
    samples first: in binary 1.16 · 25 is less than 29, where upstream and diffusers lose a frame.
    """
    a = min(max(_frame(start_s), 0), frames - 1)
    b = frames if end_s < 0 else min(max(_frame(end_s), a + 1), frames)
    return a, b


def region_samples(start_s: float, end_s: float, samples: int) -> tuple[int, int]:
    """Seconds to the samples `[a, b)` they lie in, of a recording of `samples`: `0 <= a <= b <= samples`.

    An end below 0 is the end of the recording.
    """
    a = min(max(round(start_s * SAMPLE_RATE), 0), samples)
    b = samples if end_s < 0 else min(max(round(end_s * SAMPLE_RATE), a), samples)
    return a, b


def outpaint(wave: Tensor, start_s: float, end_s: float) -> tuple[Tensor, float, float]:
    """Room for a region that reaches out of `wave [2, N]`: zeros before and after it, as far as needed.

    Returns the wave and the region's seconds in it; an end below 0 becomes the end of the recording.
    """
    before = max(round(-start_s * SAMPLE_RATE), 0)
    end = wave.shape[1] if end_s < 0 else round(end_s * SAMPLE_RATE)
    after = max(end - wave.shape[1], 0)
    start = max(round(start_s * SAMPLE_RATE), 0)
    return F.pad(wave, (before, after)), start / SAMPLE_RATE, (end + before) / SAMPLE_RATE


def _frame(seconds: float) -> int:
    return round(seconds * SAMPLE_RATE) // FRAME_SAMPLES


def _silence(silence: Tensor, frames: int) -> Tensor:
    """`[1, frames, 64]` of `silence [1, 15000, 64]`, which repeats."""
    repeats = -(-frames // silence.shape[1])
    return silence.repeat(1, repeats, 1)[:, :frames]


def _open(source: Tensor) -> Canvas:
    return Canvas(source, source.new_ones(source.shape[1]))
