"""Published names: files of a folder, and the keys of a voice's.

    <folder>/rmvpe.safetensors, or rmvpe.pt                     pitch
    <folder>/hubert/config.json, model.safetensors, or pytorch_model.bin
    <folder>/<name>.pth                                         a voice, version 2; one or more

A voice is {"weight": tensors, "config": a list, "sr": "48k", "f0": 1, "version": "v2", "info": text}.
No torch import here.
"""

from __future__ import annotations

ENVIRONMENT = "RVC_SOURCE"
SYNTHETIC = TINY, FULL = ("synthetic-tiny", "synthetic-full")
DEFAULT_RATE = "48k"

RMVPE, HUBERT, HUBERT_STEM, HUBERT_PICKLE = "rmvpe", "hubert", "model", "pytorch_model.bin"
VOICE_SUFFIX = ".pth"
WEIGHT, CONFIG, VERSION, F0, RATE = "weight", "config", "version", "f0", "sr"
SUPPORTED = "v2"  # and a file without a version is of v1
# A voice's `config`, by position.
POSITIONS = (
    *("spec_channels", "segment_size", "inter_channels", "hidden_channels", "filter_channels"),
    *("n_heads", "n_layers", "kernel_size", "p_dropout", "resblock", "resblock_kernel_sizes"),
    *("resblock_dilation_sizes", "upsample_rates", "upsample_initial_channel", "upsample_kernel_sizes"),
    *("spk_embed_dim", "gin_channels", "sr"),
)

COUNTER = "num_batches_tracked"  # of a batch norm: of no use, and not in every file
NESTED = "model"  # under which RMVPE's authors keep its tensors
UNUSED = ("unet.tf.", "final_proj.")  # what names begin with that nothing here computes
