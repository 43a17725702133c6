"""The configurations of synthetic checkpoints, as their `config.json` files hold them.

synthetic-full has the published ones. synthetic-tiny has the same structure, narrow; its XL differs from
its 2B as the published one does: the DiT is wider than the encoders, its attention is wider still, and it
has more layers. No torch import here: a variant is known before paying for one.
"""

from __future__ import annotations

from typing import Any

from acestep.text.tokenizer import LM_VOCAB, TEXT_VOCAB
from acestep.weights.layout import DITS, LMS, TEXT_ENCODER, VAE

Config = dict[str, Any]


def _block(hidden: int, intermediate: int, heads: int, kv: int, d: int) -> Config:
    return {
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "head_dim": d,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1_000_000,
    }


def _qwen3(layers: int, block: Config, vocab: int) -> Config:
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "num_hidden_layers": layers,
        **block,
        "vocab_size": vocab,
        "max_position_embeddings": 40_960,
        "hidden_act": "silu",
        "attention_bias": False,
        "tie_word_embeddings": True,
        "bos_token_id": 151_643,
        "eos_token_id": 151_645,
    }


def _dit(layers: int, block: Config, text: int, **rest: Any) -> Config:
    kinds = ["sliding_attention", "full_attention"]
    return {
        "model_type": "acestep",
        "num_hidden_layers": layers,
        **block,
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
        "fsq_dim": block["hidden_size"],
        "fsq_input_levels": [8, 8, 8, 5, 5, 5],
        "fsq_input_num_quantizers": 1,
    } | rest


def _xl(small: Config, layers: int, block: Config) -> Config:
    """`small` with a DiT of `layers` and `block`; the encoders around it stay as they are."""
    encoder = {
        f"encoder_{key}": small[key]
        for key in ("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads")
    }
    layer_types = (small["layer_types"] * 2)[:layers]
    return small | block | encoder | {"num_hidden_layers": layers, "layer_types": layer_types}


def _vae(decoder_channels: int, multiples: list[int], **rest: Any) -> Config:
    return {
        "_class_name": "AutoencoderOobleck",
        "sampling_rate": 48_000,
        "audio_channels": 2,
        "encoder_hidden_size": 128,  # twice the latent channels
        "decoder_channels": decoder_channels,
        "decoder_input_channels": 64,
        "channel_multiples": multiples,
        "downsampling_ratios": [2, 4, 4, 6, 10],
    } | rest


def _variants(small: Config, xl: Config) -> dict[str, Config]:
    """One architecture per family; its variants differ in how they were trained."""
    turbo = {"model_version": "turbo", "is_turbo": True}
    return {
        dit: (xl if "-xl-" in dit else small) | (turbo if "turbo" in dit else {"is_turbo": False})
        for dit in DITS
    }


def _stored(dtype: str, folders: dict[str, Config]) -> dict[str, Config]:
    return {folder: {"torch_dtype": dtype} | config for folder, config in folders.items()}


def _full() -> dict[str, Config]:
    small = _dit(24, _block(2048, 6144, 16, 8, 128), text=1024)
    xl = _xl(small, 32, _block(2560, 9728, 32, 8, 128)) | {"torch_dtype": "float32"}
    embedding = _block(1024, 3072, 16, 8, 128)
    return _stored(
        "bfloat16",
        _variants(small, xl)
        | {
            VAE: _vae(128, [1, 2, 4, 8, 16]),
            TEXT_ENCODER: _qwen3(28, embedding, TEXT_VOCAB),
            LMS[0]: _qwen3(28, embedding, LM_VOCAB),
            LMS[1]: _qwen3(28, _block(2048, 6144, 16, 8, 128), LM_VOCAB),
            LMS[2]: _qwen3(36, _block(2560, 9728, 32, 8, 128), LM_VOCAB),
        },
    )


def _tiny() -> dict[str, Config]:
    layers = {"num_lyric_encoder_hidden_layers": 2, "num_timbre_encoder_hidden_layers": 2}
    small = _dit(8, _block(192, 576, 6, 2, 32), text=64, **layers)
    block = _block(64, 192, 4, 2, 32)  # vLLM has kernels for heads of 32 and more
    return _stored(
        "float32",
        _variants(small, _xl(small, 10, _block(240, 912, 12, 2, 32)))
        | {VAE: _vae(2, [1, 1, 2, 2, 2], encoder_channels=4), TEXT_ENCODER: _qwen3(2, block, TEXT_VOCAB)}
        | {lm: _qwen3(2 + size, block, LM_VOCAB) for size, lm in enumerate(LMS)},
    )


CONFIGS = {"synthetic-full": _full(), "synthetic-tiny": _tiny()}
