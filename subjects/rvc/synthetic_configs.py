"""The dimensions of made-up models. No torch import here.

synthetic-full has the published ones. synthetic-tiny has the same structure, narrow: rates, kernels, strides
and the number of convolutions are the published ones, so lengths and contexts are.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from harness import checkpoint_writing
from subjects.rvc.config import SYNTHESIZERS, Configs, HubertConfig, RMVPEConfig
from subjects.rvc.layout import FULL, HUBERT

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


def begin(source: str, rate: str, folder: Path) -> None:
    """Begin a folder of made-up weights, or go on with one: HuBERT is every voice's.

    Raises as `harness.checkpoint_writing.begin`.
    """
    hubert = folder / HUBERT
    if not hubert.exists():
        checkpoint_writing.check_free(folder, b"")
    checkpoint_writing.begin({hubert: hubert_file(configs(source, rate).hubert)})


def hubert_file(config: HubertConfig) -> dict[str, Any]:
    """HuBERT's `config.json`."""
    return {
        "architectures": ["HubertModel"],
        "model_type": "hubert",
        "hidden_size": config.hidden,
        "intermediate_size": config.intermediate,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "conv_dim": [config.conv_dim] * len(config.kernels),
        "conv_kernel": list(config.kernels),
        "conv_stride": list(config.strides),
        "conv_bias": False,
        "do_stable_layer_norm": False,
        "feat_extract_norm": "group",
        "hidden_act": "gelu",
        "layer_norm_eps": config.eps,
        "num_conv_pos_embeddings": config.position_kernel,
        "num_conv_pos_embedding_groups": config.position_groups,
        "torch_dtype": "float32",
    }
