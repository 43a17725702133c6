"""What the DiT is given for a request, a second time and plainly: length, region, source, mask, words.

The part of `reference_pipeline` that comes before the noise; what is said there holds here.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from acestep.text import audio_codes, conditioning
from acestep.text.metadata import Metadata

RATE, HOP, SHORTEST = 48_000, 1920, 128
INSTRUCTIONS = {
    "text2music": "Fill the audio semantic mask based on the given conditions:",
    "cover": "Generate audio semantic tokens based on the given conditions:",
    "repaint": "Repaint the mask area based on the given conditions:",
    "lego": "Generate the {} track based on the audio context:",
    "extract": "Extract the {} track from the audio:",
    "complete": "Complete the input track with {}:",
}


class Scene:
    """A request on the networks of `models`. `params`: a GenerationParams; `wave [2, N]`: its recording."""

    def __init__(self, models: Any, params: Any, wave: Tensor | None = None):
        self.p, self.models, self.model = params, models, models.ace_step
        self.turbo = models.config.is_turbo
        self.regional = params.task_type in ("repaint", "lego")
        self.codes = audio_codes.parse(params.audio_codes)
        self.wave = None if wave is None else self.outpainted(wave)
        self.clean = None if self.wave is None else self.filled(self.encoded(self.wave))
        self.frames = self.length()
        self.region = self.painted() if self.regional else None

    # Length and region.

    def outpainted(self, wave: Tensor) -> Tensor:
        """The recording with silence before and after it, as far as a region reaches out of it."""
        start, end, seconds = self.p.repainting_start, self.p.repainting_end, wave.shape[1] / RATE
        self.start, self.end = max(start, 0.0), (seconds if end < 0 else end) - min(start, 0.0)
        if not self.regional:
            return wave
        before, after = round(max(-start, 0) * RATE), round(max(end - seconds, 0) * RATE)
        return torch.cat((torch.zeros(2, before), wave, torch.zeros(2, after)), dim=1)

    def painted(self) -> tuple[int, int]:
        first = min(round(self.start * RATE) // HOP, self.frames - 1)
        return first, max(first + 1, min(round(self.end * RATE) // HOP, self.wave.shape[1] // HOP))

    def length(self) -> int:
        if self.clean is not None:
            return self.clean.shape[1]
        return max(5 * len(self.codes) or int(25 * self.p.duration), SHORTEST)

    def seconds(self) -> float:
        """What the words say: the recording's length, else what was asked for."""
        if self.wave is not None:
            return self.wave.shape[1] / RATE
        return self.p.duration or len(self.codes) / 5

    # Source and mask.

    def silence(self, frames: int) -> Tensor:
        return self.models.silence.repeat(1, 1 + frames // 15_000, 1)[:, :frames]

    def encoded(self, wave: Tensor) -> Tensor:
        """Mean of the VAE's posterior."""
        return self.models.vae.encoder(wave[None])[:, :64].transpose(1, 2)

    def filled(self, latents: Tensor) -> Tensor:
        missing = max(SHORTEST - latents.shape[1], 0)
        return torch.cat((latents, self.silence(missing)), dim=1)

    def digits(self, features: Tensor) -> Tensor:
        """Finite scalar quantization, all of it in single precision."""
        fsq = self.model.tokenizer.quantizer
        levels = torch.tensor(fsq.levels, dtype=torch.float32)
        z = features.float() @ fsq.project_in.weight.float().T + fsq.project_in.bias.float()
        c = 1 + 1 / (levels - 1)
        z = (torch.tanh(z / c) * c).clamp(-1, 1)
        return torch.floor((levels - 1) * (z + 1) / 2 + 0.5).long()

    def detokenized(self, digits: Tensor) -> Tensor:
        """Latents of digits `[n, 6]`, level k of L at 2k/(L - 1) - 1."""
        fsq = self.model.tokenizer.quantizer
        levels = torch.tensor(fsq.levels, dtype=torch.float32)
        features = fsq.project_out((2 * digits / (levels - 1) - 1).to(fsq.project_out.weight.dtype))
        return self.model.detokenizer(features[None])

    def recoded(self, latents: Tensor) -> Tensor:
        """A recording through its audio codes: five frames each, completed by silence."""
        frames = latents.shape[1]
        latents = torch.cat((latents, self.silence(-frames % 5)), dim=1)
        tokenizer = self.model.tokenizer
        groups = tokenizer.audio_acoustic_proj(latents).reshape(
            -1, 5, tokenizer.audio_acoustic_proj.out_features
        )
        return self.detokenized(self.digits(tokenizer.attention_pooler(groups)))[:, :frames]

    def from_codes(self) -> Tensor:
        levels = self.model.tokenizer.quantizer.levels
        basis = [math.prod(levels[:d]) for d in range(6)]
        digits = [[code // b % n for b, n in zip(basis, levels, strict=True)] for code in self.codes]
        return self.filled(self.detokenized(torch.tensor(digits)))

    def source(self) -> Tensor:
        if self.codes:
            return self.from_codes()
        if self.clean is None:
            return self.silence(self.frames)
        if self.p.task_type == "cover":
            return self.recoded(self.clean)
        source = self.clean.clone()
        if self.p.task_type == "repaint":
            source[:, slice(*self.region)] = self.silence(self.frames)[:, slice(*self.region)]
        return source

    def mask(self) -> Tensor:
        """`[T]`: one where the model is told to fill; all of it unless the region is to be explicit."""
        mask = torch.ones(self.frames)
        if self.region and self.p.chunk_mask_mode == "explicit":
            mask[: self.region[0]] = mask[self.region[1] :] = 0
        return mask

    # Words.

    def instruction(self) -> str:
        task = "cover" if self.codes else self.p.task_type
        tracks = self.p.complete_track_classes if task == "complete" else (self.p.track_name,)
        return INSTRUCTIONS[task].format(" | ".join(tracks).upper())

    def conditions(self, instruction: str, source: Tensor, **words: str) -> Any:
        p, models = self.p, self.models
        text = conditioning.encode_text(
            models.text_encoder,
            models.text_tokenizer,
            instruction=instruction,
            caption=words.get("caption", p.caption),
            lyrics=words.get("lyrics", p.lyrics),
            language=p.vocal_language,
            metadata=Metadata(
                bpm=p.bpm,
                duration=int(self.seconds()),
                keyscale=p.keyscale or None,
                timesignature=p.timesignature or None,
            ),
        )
        encoded, _ = self.model.encoder(text.caption, None, text.lyrics, None, models.timbre_of_silence)
        context = torch.cat((source, self.mask()[None, :, None].expand_as(source)), dim=-1)
        null = self.model.null_condition_emb if self.scale() > 1 else None
        return self.model.decoder.condition(context, encoded, null)

    def scale(self) -> float:
        if self.turbo:
            return 1.0
        return 7.0 if self.p.guidance_scale is None else self.p.guidance_scale
