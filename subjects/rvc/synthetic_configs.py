"""The dimensions of made-up models. No torch import here.

synthetic-full has the published ones. synthetic-tiny has the same structure, narrow: rates, kernels, strides
and the number of convolutions are the published ones, so lengths and contexts are.
"""

from __future__ import annotations

from dataclasses import replace

from subjects.rvc.config import SYNTHESIZERS, Configs, HubertConfig, RMVPEConfig
from subjects.rvc.layout import FULL

NARROW_RMVPE = RMVPEConfig(channels=2, blocks=1, intermediate=1, gru=16)
NARROW_HUBERT = HubertConfig(
    hidden=32, intermediate=64, layers=2, heads=2, conv_dim=16, position_kernel=16, position_groups=4
)
NARROW = {
    "phone": NARROW_HUBERT.hidden,
    "inter": 16,
    "hidden": 16,
    "filter": 32,
    "layers": 2,
    "initial": 16,
    "gin": 8,
    "speakers": 4,
}


def configs(source: str, rate: str) -> Configs:
    """Of the synthetic `source`, its voice at `rate` (48k, 40k, 32k)."""
    voice = SYNTHESIZERS[rate]
    if source == FULL:
        return Configs(RMVPEConfig(), HubertConfig(), voice)
    return Configs(NARROW_RMVPE, NARROW_HUBERT, replace(voice, **NARROW))
