"""The configurations of made-up models, as the published `config.json` files hold them. No torch import here.

synthetic-full has the published ones. synthetic-tiny has the same structure, narrow, the vocabularies whole:
control tokens have the ids that they have everywhere, and frames of the decoder see as many as they do there.
"""

from __future__ import annotations

from typing import Any

from subjects.qwen3_tts.layout import (
    BASE,
    CODEC_VOCAB,
    CODES,
    FULL,
    LARGE,
    MODEL_IDS,
    SMALL,
    TALKER_IDS,
    TEMPLATE_IDS,
    TEXT_VOCAB,
    TINY,
    TOKENIZER_TYPE,
    VARIANTS,
)
from subjects.qwen3_tts.prompt import PUBLISHED

Config = dict[str, Any]
GROUPS = 16
WIDTHS = {FULL: {SMALL: 1024, LARGE: 2048}, TINY: {SMALL: 64, LARGE: 96}}  # of the talker
SPEAKER_TINY = {
    "enc_channels": [32, 32, 32, 32, 96],
    "enc_attention_channels": 8,
    "enc_res2net_scale": 8,
    "enc_se_channels": 8,
}


def _block(hidden: int, intermediate: int, layers: int, heads: int, kv: int, d: int) -> Config:
    return {
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "head_dim": d,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1_000_000,
        "hidden_act": "silu",
        "attention_bias": False,
        "num_code_groups": GROUPS,
    }


def _talker(source: str, size: str) -> Config:
    width = WIDTHS[source][size]
    heads, layers, text_hidden = ((16, 8, 128), 28, 2048) if source == FULL else ((4, 2, 32), 4, 16)
    predictor = _block(1024, 3072, 5, 16, 8, 128) if source == FULL else _block(64, 192, 2, 4, 2, 32)
    half = heads[2] // 2
    return {
        **_block(width, 3 * width, layers, *heads),
        "vocab_size": CODEC_VOCAB,
        "text_vocab_size": TEXT_VOCAB,
        "text_hidden_size": text_hidden,
        "max_position_embeddings": 32_768,
        "rope_scaling": {
            "interleaved": True,
            "mrope_section": [half - 2 * (half * 5 // 16), half * 5 // 16, half * 5 // 16],
            "rope_type": "default",
        },
        **{key: getattr(PUBLISHED, name) for name, key in TALKER_IDS.items()},
        "codec_language_id": dict(PUBLISHED.languages),
        "spk_id": dict(PUBLISHED.speakers),
        "spk_is_dialect": {name: PUBLISHED.dialects.get(name, False) for name in PUBLISHED.speakers},
        "code_predictor_config": predictor | {"vocab_size": CODES, "max_position_embeddings": 65_536},
    }


def _model(source: str, variant: str) -> Config:
    size, kind = VARIANTS[variant]
    config = {
        "architectures": ["Qwen3TTSForConditionalGeneration"],
        "model_type": "qwen3_tts",
        "tokenizer_type": TOKENIZER_TYPE,
        "tts_model_size": size,
        "tts_model_type": kind,
        **TEMPLATE_IDS,
        **{key: getattr(PUBLISHED, name) for name, key in MODEL_IDS.items()},
        "talker_config": _talker(source, size),
        "torch_dtype": "bfloat16" if source == FULL else "float32",
    }
    if kind == BASE:
        narrow = SPEAKER_TINY if source == TINY else {}
        speaker = {"enc_dim": WIDTHS[source][size], "sample_rate": 24_000}
        config["speaker_encoder_config"] = speaker | narrow
    return config


def _codec(source: str) -> Config:
    decoder = {
        "codebook_size": CODES,
        "num_quantizers": GROUPS,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10_000,
        "upsample_rates": [8, 5, 4, 3],
        "upsampling_ratios": [2, 2],
        "layer_scale_initial_scale": 0.01,
    }
    if source == FULL:
        decoder |= {"latent_dim": 1024, "codebook_dim": 512, "decoder_dim": 1536}
        decoder |= {"hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 8}
        heads = {"num_attention_heads": 16, "num_key_value_heads": 16, "head_dim": 64, "sliding_window": 72}
    else:
        decoder |= {"latent_dim": 32, "codebook_dim": 32, "decoder_dim": 64}
        decoder |= {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
        heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16, "sliding_window": 72}
    return {
        "architectures": ["Qwen3TTSTokenizerV2Model"],
        "model_type": TOKENIZER_TYPE,
        "input_sample_rate": 24_000,
        "output_sample_rate": 24_000,
        "encode_downsample_rate": 1_920,
        "decode_upsample_rate": 1_920,
        "encoder_valid_num_quantizers": GROUPS,
        "decoder_config": decoder | heads,
        "torch_dtype": "float32",
    }


MODELS = {source: {variant: _model(source, variant) for variant in VARIANTS} for source in (TINY, FULL)}
CODECS = {source: _codec(source) for source in (TINY, FULL)}
