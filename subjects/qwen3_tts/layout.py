"""Published names: variants, files of a model's folder, keys and ids of their configurations.

    <folder>/config.json, model.safetensors                      talker, code predictor, speaker encoder
    <folder>/speech_tokenizer/config.json, model.safetensors     the decoder, 12.5 Hz to 24 kHz

No torch import here.
"""

from __future__ import annotations

ENVIRONMENT = "QWEN3_TTS_SOURCE"
SYNTHETIC = TINY, FULL = ("synthetic-tiny", "synthetic-full")

BASE, CUSTOM_VOICE, VOICE_DESIGN = TYPES = ("base", "custom_voice", "voice_design")
SMALL, LARGE = SIZES = ("0b6", "1b7")
# By name: `tts_model_size`, `tts_model_type`.
VARIANTS = {
    "0.6B-Base": (SMALL, BASE),
    "0.6B-CustomVoice": (SMALL, CUSTOM_VOICE),
    "1.7B-Base": (LARGE, BASE),
    "1.7B-CustomVoice": (LARGE, CUSTOM_VOICE),
    "1.7B-VoiceDesign": (LARGE, VOICE_DESIGN),
}
DEFAULT_VARIANT = "0.6B-CustomVoice"

TOKENIZER_TYPE = "qwen3_tts_tokenizer_12hz"
CODEC = "speech_tokenizer"  # the folder in a model's folder
STEM = "model"  # of both safetensors files
# What a name begins with in the files, by network.
TALKER, CODE_PREDICTOR, SPEAKER_ENCODER = "talker.", "talker.code_predictor.", "speaker_encoder."
DECODER, ENCODER = "decoder.", "encoder."  # of the codec; its encoder has no use here

GROUPS = 16  # codes of a frame
CODES = 2_048  # of each codebook; rows of the talker's table from here on are control tokens
TEXT_VOCAB, CODEC_VOCAB = 151_936, 3_072
DEFAULT_SPEAKER = "ryan"
# Tokens of the templates' words.
IM_START, IM_END, ASSISTANT, USER, NEWLINE = 151_644, 151_645, 77_091, 872, 198
TEMPLATE_IDS = {"im_start_token_id": IM_START, "im_end_token_id": IM_END, "assistant_token_id": ASSISTANT}
# Keys of the published configurations, by what they are in a prompt (`prompt.ControlIds`).
MODEL_IDS = {"tts_pad": "tts_pad_token_id", "tts_bos": "tts_bos_token_id", "tts_eos": "tts_eos_token_id"}
LANGUAGES, SPEAKERS, DIALECTS = "codec_language_id", "spk_id", "spk_is_dialect"
TALKER_IDS = {
    "pad": "codec_pad_id",
    "bos": "codec_bos_id",
    "eos": "codec_eos_token_id",
    "think": "codec_think_id",
    "nothink": "codec_nothink_id",
    "think_bos": "codec_think_bos_id",
    "think_eos": "codec_think_eos_id",
}
