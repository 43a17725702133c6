"""RVC's synthesizer, version 2: what is said and the pitch to the waveform of a speaker.

    text encoder ─▶ mean, scale ─ + noise ─▶ flow, backwards ─▶ generator ◀─ source of the pitch

Every random draw is an input: the same draws give the same samples on any device.
"""

from __future__ import annotations

from torch import Tensor, nn

from harness.nn.qwen3 import table
from subjects.rvc.config import SynthesizerConfig
from subjects.rvc.models.flow import Flow
from subjects.rvc.models.generator import Generator
from subjects.rvc.models.text_encoder import TextEncoder

NOISE_SCALE = 0.66666  # as published: not two thirds


class Synthesizer(nn.Module):
    """Weights as published below `weight`, without `enc_q`, which is of training."""

    def __init__(self, config: SynthesizerConfig):
        super().__init__()
        self.config = config
        self.enc_p = TextEncoder(config)
        self.flow = Flow(config)
        self.dec = Generator(config)
        self.emb_g = table(config.speakers, config.gin)

    def voice(self, speaker: Tensor) -> Tensor:
        """Rows `[B, 1, G]` of the speakers `[B]`, int64, below `config.speakers`, which is not checked."""
        return self.emb_g(speaker)[:, None]

    def latents(self, phone: Tensor, pitch: Tensor, e1: Tensor) -> Tensor:
        """Latents `[B, T, C]` drawn from the text encoder's distribution by the noise `e1 [B, C, T]`."""
        mean, log_scale = self.enc_p(phone, pitch)
        return mean + log_scale.exp() * e1.transpose(1, 2) * NOISE_SCALE

    def forward(
        self, phone: Tensor, pitch: Tensor, f0: Tensor, speaker: Tensor, e1: Tensor, eps: Tensor
    ) -> Tensor:
        """Waveforms `[B, T·hop]` within ±1.

        phone `[B, T, 768]`; pitch `[B, T]`, int64, 1 to 255; f0 `[B, T]`, Hz, 0 where unvoiced, on the host;
        speaker `[B]`, int64; noise e1 `[B, C, T]` of the latents and eps `[B, T·hop, 1]` of the source.
        """
        har, g = self.dec.m_source(f0, eps), self.voice(speaker)
        return self.dec(self.flow(self.latents(phone, pitch, e1), g), har, g)
