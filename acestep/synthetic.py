"""Made-up checkpoints at the published names and shapes.

Time and memory of a fixed-step DiT, a VAE and a forced-length language model do not depend on the
values of the weights, so random ones measure what the real ones would.

    synthetic-full   the published widths (2B DiT, 0.6B/1.7B/4B language models), bf16
    synthetic-tiny   the same structure, narrow; fp32; seconds on two cores. Widths are chosen so that
                     planner, diffusion and VAE each take a visible share, as they do at full size: a
                     change to any of them shows in the whole

Every tensor is drawn from a generator seeded by (seed, component, name): the same bytes whatever is
loaded, in whatever order. `write` puts a checkpoint on disk in the published layout.

    python -m acestep write-checkpoint synthetic-tiny ./checkpoints
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import save_file
from torch import Tensor

from acestep.checkpoint import SILENCE_FRAMES, Shape, Weights, on_meta, parameter_shapes
from acestep.errors import UsageError
from acestep.models.ace_step import AceStep
from acestep.models.configs import DiTConfig, Qwen3Config, VAEConfig, parse_config
from acestep.models.qwen3 import Qwen3
from acestep.models.vae import Oobleck, published_shapes
from acestep.sources import DIT, LMS, TEXT_ENCODER, VAE
from acestep.synthetic_tokenizer import synthetic_tokenizer, tokenizer_files
from acestep.tokenizer import LM_VOCAB, TEXT_VOCAB, Tokenizer


def _block(hidden: int, intermediate: int, heads: int, kv: int, d: int) -> dict:
    return {
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "head_dim": d,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1_000_000,
    }


def _qwen3(layers: int, hidden: int, intermediate: int, heads: int, kv: int, d: int, vocab: int) -> dict:
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "num_hidden_layers": layers,
        **_block(hidden, intermediate, heads, kv, d),
        "vocab_size": vocab,
        "max_position_embeddings": 40_960,
        "hidden_act": "silu",
        "attention_bias": False,
        "tie_word_embeddings": True,
        "bos_token_id": 151_643,
        "eos_token_id": 151_645,
    }


def _dit(layers: int, hidden: int, intermediate: int, heads: int, kv: int, d: int, text: int, **rest) -> dict:
    kinds = ["sliding_attention", "full_attention"]
    return {
        "model_type": "acestep",
        "model_version": "turbo",
        "is_turbo": True,
        "num_hidden_layers": layers,
        **_block(hidden, intermediate, heads, kv, d),
        "max_position_embeddings": 32_768,
        "use_sliding_window": True,
        "sliding_window": 128,
        "layer_types": [kinds[i % 2] for i in range(layers)],
        "in_channels": 192,
        "patch_size": 2,
        "audio_acoustic_hidden_dim": 64,
        "text_hidden_dim": text,
        "timbre_hidden_dim": 64,
        "timbre_fix_frame": 750,
        "num_lyric_encoder_hidden_layers": 8,
        "num_timbre_encoder_hidden_layers": 4,
        "num_attention_pooler_hidden_layers": 2,
        "pool_window_size": 5,
        "fsq_dim": hidden,
        "fsq_input_levels": [8, 8, 8, 5, 5, 5],
        "fsq_input_num_quantizers": 1,
    } | rest


def _vae(decoder_channels: int, multiples: list[int]) -> dict:
    return {
        "_class_name": "AutoencoderOobleck",
        "sampling_rate": 48_000,
        "audio_channels": 2,
        "encoder_hidden_size": 128,  # twice the latent channels
        "decoder_channels": decoder_channels,
        "decoder_input_channels": 64,
        "channel_multiples": multiples,
        "downsampling_ratios": [2, 4, 4, 6, 10],
    }


CONFIGS: dict[str, dict[str, dict[str, Any]]] = {
    "synthetic-full": {
        DIT: _dit(24, 2048, 6144, 16, 8, 128, text=1024),
        VAE: _vae(128, [1, 2, 4, 8, 16]),
        TEXT_ENCODER: _qwen3(28, 1024, 3072, 16, 8, 128, TEXT_VOCAB),
        LMS[0]: _qwen3(28, 1024, 3072, 16, 8, 128, LM_VOCAB),
        LMS[1]: _qwen3(28, 2048, 6144, 16, 8, 128, LM_VOCAB),
        LMS[2]: _qwen3(36, 2560, 9728, 32, 8, 128, LM_VOCAB),
    },
    "synthetic-tiny": {
        DIT: _dit(
            8, 192, 576, 6, 2, 32, text=64,
            num_lyric_encoder_hidden_layers=2, num_timbre_encoder_hidden_layers=2,
        ),
        VAE: _vae(2, [1, 1, 2, 2, 2]),
        TEXT_ENCODER: _qwen3(2, 64, 192, 4, 2, 16, TEXT_VOCAB),
        LMS[0]: _qwen3(2, 64, 192, 4, 2, 16, LM_VOCAB),
        LMS[1]: _qwen3(3, 64, 192, 4, 2, 16, LM_VOCAB),
        LMS[2]: _qwen3(4, 64, 192, 4, 2, 16, LM_VOCAB),
    },
}  # fmt: skip
DTYPES = {"synthetic-full": torch.bfloat16, "synthetic-tiny": torch.float32}


class RandomWeights:
    """Tensors drawn on demand, scaled so that activations stay of order one through any depth."""

    def __init__(self, where: str, shapes: Mapping[str, Shape], dtype: torch.dtype, seed: int):
        self.where = where
        self._shapes = shapes
        self._dtype = dtype
        self._seed = seed
        self._depth = 1 + max(
            (int(n.split("layers.")[1].split(".")[0]) for n in shapes if "layers." in n), default=0
        )

    def shapes(self) -> Mapping[str, Shape]:
        return self._shapes

    def read(self, name: str) -> Tensor:
        shape = self._shapes[name]
        mean, std = self._law(name, shape)
        if std == 0:
            return torch.full(shape, mean, dtype=self._dtype)
        seed = zlib.crc32(f"{self._seed}:{self.where}:{name}".encode())
        generator = torch.Generator().manual_seed(seed)
        return torch.empty(shape, dtype=self._dtype).normal_(mean, std, generator=generator)

    def _law(self, name: str, shape: Shape) -> tuple[float, float]:
        """Mean and standard deviation of a tensor, by the part it plays."""
        leaf = name.rpartition(".")[2]
        if leaf == "weight_g":
            return self._gain(name), 0.0
        if leaf in ("alpha", "beta"):
            return 0.0, 0.1
        if leaf == "bias":
            return 0.0, 0.02
        if "norm" in name:
            return 1.0, 0.02
        if len(shape) < 2 or shape[0] == 1:  # scale_shift tables and learned tokens
            return 0.0, max(shape) ** -0.5
        if name == "embed_tokens.weight":
            return 0.0, 2 * shape[1] ** -0.5
        fan_in = math.prod(shape[1:])
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            return 0.0, (2 * self._depth * fan_in) ** -0.5
        return 0.0, fan_in**-0.5

    def _gain(self, name: str) -> float:
        """Weight-norm length that keeps the variance of a convolution's output near its input's."""
        if name == "decoder.conv2.weight_g":
            return 0.1  # audible, and clear of clipping
        if "res_unit" in name and ".conv2." in name:
            return 0.3
        if ".conv_t1." in name:
            cin, cout, kernel = self._shapes[name.replace("weight_g", "weight_v")]
            return math.sqrt(cout * kernel / 2 / cin)
        return 1.0


class Synthetic:
    """A source of made-up weights: "synthetic-tiny" or "synthetic-full"."""

    def __init__(self, name: str, seed: int = 0):
        self.name = name
        self.seed = seed
        self.dtype = DTYPES[name]

    def config(self, folder: str) -> dict[str, Any]:
        configs = CONFIGS[self.name]
        if folder not in configs:
            raise UsageError(f"{self.name} has no {folder}; it has {', '.join(configs)}")
        return configs[folder] | {"torch_dtype": str(self.dtype).removeprefix("torch.")}

    def weights(self, folder: str) -> Weights:
        where = f"{self.name}/{folder}"
        return RandomWeights(where, _shapes(self.name, folder), self.dtype, self.seed)

    def tokenizer(self, folder: str) -> Tokenizer:
        return synthetic_tokenizer("text" if folder == TEXT_ENCODER else "lm")

    def silence_latent(self) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed)
        return torch.randn(1, SILENCE_FRAMES, 64, generator=generator) * 0.5


@cache
def _shapes(name: str, folder: str) -> dict[str, Shape]:
    config, where = CONFIGS[name][folder], f"{name}/{folder}"
    if folder == DIT:
        return parameter_shapes(on_meta(lambda: AceStep(parse_config(config, DiTConfig, where))))
    if folder == VAE:
        return published_shapes(on_meta(lambda: Oobleck(parse_config(config, VAEConfig, where))))
    return parameter_shapes(on_meta(lambda: Qwen3(parse_config(config, Qwen3Config, where))))


def write(source: Synthetic, root: Path, lms: tuple[str, ...] = LMS[:1]) -> list[Path]:
    """Write `source` under `root` in the published layout; returns the component folders.

    One component is in memory at a time. Files are complete or absent: each is renamed into place.
    Raises OSError or SafetensorError when the place cannot be written.
    """
    folders = []
    for folder in (DIT, VAE, TEXT_ENCODER, *lms):
        path = root / folder
        path.mkdir(parents=True, exist_ok=True)
        weights = cast(RandomWeights, source.weights(folder))
        stem = "diffusion_pytorch_model" if folder == VAE else "model"
        tensors = {name: weights.read(name) for name in weights.shapes()}
        _replace(path / f"{stem}.safetensors", lambda p, t=tensors: save_file(t, p, {"format": "pt"}))
        del tensors
        files = {"config.json": json.dumps(source.config(folder), indent=2).encode() + b"\n"}
        if folder == DIT:
            latent = source.silence_latent().transpose(1, 2).contiguous()
            _replace(path / "silence_latent.pt", lambda p, t=latent: torch.save(t, p))
        elif folder != VAE:
            files |= tokenizer_files("text" if folder == TEXT_ENCODER else "lm")
        for name, content in files.items():
            _replace(path / name, lambda p, c=content: p.write_bytes(c))
        folders.append(path)
    return folders


def _replace(path: Path, save: Callable[[Path], Any]) -> None:
    part = path.with_name(path.name + ".part")
    try:
        save(part)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
