"""A small DiT whose layers run compiled, and what it is given."""

from __future__ import annotations

import msgspec
import torch
from torch import Tensor, nn

from acestep.diffusion import sampler as diffusion
from acestep.diffusion import step
from acestep.models.configs import DiTConfig
from acestep.models.dit import Conditions, DiT, Modulation
from harness.compiling import Compiled

CPU = torch.device("cpu")
TIMES = [1.0, 0.6, 0.3]
CONFIG = DiTConfig(
    model_type="acestep",
    hidden_size=32,
    intermediate_size=48,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    num_hidden_layers=4,
    layer_types=["sliding_attention", "full_attention"] * 2,
    sliding_window=6,
    fsq_input_levels=[8, 8, 8, 5, 5, 5],
)
WITHIN, BEYOND = 13, 41  # frames: 7 tokens, which the window holds, and 21
LIMIT = 1e-5  # relative RMS, fp32


class CompiledDiT:
    """A DiT whose layers run compiled."""

    def __init__(self, dit: DiT):
        self.dit = dit
        self.compiled = Compiled()
        self.compiled.layers(dit.layers)
        self.frozen = self.compiled.frozen

    def warm(self, conditions: Conditions, modulation: Modulation, guided: bool) -> None:
        step.warm(self.compiled, self.dit, conditions, modulation, guided)


def small_dit(layers: int = 4) -> DiT:
    torch.manual_seed(0)
    kinds = CONFIG.layer_types[:layers]
    dit = DiT(msgspec.structs.replace(CONFIG, num_hidden_layers=layers, layer_types=kinds))
    for parameter in dit.parameters():
        nn.init.normal_(parameter, 0, 0.2)
    return dit


def conditions(dit: DiT, batch: int, frames: int, *, guided: bool, encoder_tokens: int = 11) -> Conditions:
    width = dit.config.encoder.hidden_size
    null = torch.randn(1, 1, width) if guided else None
    encoded = torch.randn(1, encoder_tokens, width)
    return dit.condition(torch.randn(batch, frames, 128), encoded, null)


def modulation(dit: DiT) -> Modulation:
    return diffusion.modulate(dit, TIMES, torch.float32, CPU)


def difference(result: Tensor, expected: Tensor) -> float:
    """Relative RMS."""
    return float((result - expected).norm() / expected.norm())
