"""The dimensions of RVC's networks; defaults are the published ones. No torch import here."""

from __future__ import annotations

import math
from dataclasses import dataclass

SAMPLE_RATE = 16_000  # of what RMVPE and HuBERT hear
HOP = 160  # samples of a frame of pitch, at that rate
FRAME_RATE = 100  # Hz, of pitch and latents
HUBERT_HOP, HUBERT_FIELD = 320, 400  # samples between HuBERT's frames, and that each is made of
PITCH_STEPS = 256  # of coarse pitch; 1 is unvoiced, 0 is not used
CENTS_BINS = 360  # of RMVPE's salience, 20 cents each


@dataclass(frozen=True, slots=True)
class RMVPEConfig:
    """A U-Net over log-mels, `channels` doubled at each of `levels` (of `blocks` residual blocks each),
    `intermediate` more levels at the deepest, and a bidirectional GRU of `gru` a direction."""

    mels: int = 128
    channels: int = 16
    levels: int = 5
    blocks: int = 4
    intermediate: int = 4
    out_channels: int = 3
    gru: int = 256
    bins: int = CENTS_BINS


@dataclass(frozen=True, slots=True)
class HubertConfig:
    """HuBERT base: convolutions over samples (`kernels`, `strides`), then `layers` post-norm transformer
    layers of width `hidden`."""

    hidden: int = 768
    intermediate: int = 3072
    layers: int = 12
    heads: int = 12
    conv_dim: int = 512
    kernels: tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
    strides: tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2)
    position_kernel: int = 128
    position_groups: int = 16
    eps: float = 1e-5


@dataclass(frozen=True, slots=True)
class SynthesizerConfig:
    """Text encoder, flow and generator.

    `inter`: channels of latents; `hidden`: of the text encoder and the flow. `rates` and `kernels`: of the
    generator's transposed convolutions. `phone`: width of what HuBERT says.
    """

    sample_rate: int = 48_000
    rates: tuple[int, ...] = (12, 10, 2, 2)
    kernels: tuple[int, ...] = (24, 20, 4, 4)
    phone: int = 768
    inter: int = 192
    hidden: int = 192
    filter: int = 768
    heads: int = 2
    layers: int = 6
    kernel: int = 3
    window: int = 10  # of relative positions, each way
    flows: int = 4
    flow_layers: int = 3
    flow_kernel: int = 5
    initial: int = 512
    resblock_kernels: tuple[int, ...] = (3, 7, 11)
    dilations: tuple[int, ...] = (1, 3, 5)
    gin: int = 256
    speakers: int = 109

    @property
    def hop(self) -> int:
        """Samples that the generator makes of a frame."""
        return math.prod(self.rates)


@dataclass(frozen=True, slots=True)
class Configs:
    """All networks of a conversion. `notes`: what their files say and is not so."""

    rmvpe: RMVPEConfig
    hubert: HubertConfig
    synthesizer: SynthesizerConfig
    notes: tuple[str, ...] = ()


# By the synthesizer's output rate in kHz, as published files are named.
SYNTHESIZERS = {
    "48k": SynthesizerConfig(),
    "40k": SynthesizerConfig(sample_rate=40_000, rates=(10, 10, 2, 2), kernels=(16, 16, 4, 4)),
    "32k": SynthesizerConfig(sample_rate=32_000, rates=(10, 8, 2, 2), kernels=(20, 16, 4, 4)),
}
RATES = tuple(SYNTHESIZERS)
