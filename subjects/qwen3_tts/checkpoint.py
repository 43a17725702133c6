"""What a model is, by the configurations of its folder or of a made-up one. No torch import here.

A source is `synthetic-tiny`, `synthetic-full`, or the folder of a published model. What it holds is held
against the ranges of its fields and against itself before anything is paid for; names and shapes of weights
are when the networks are there (`subjects.qwen3_tts.weights`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from harness import checkpoint_writing
from harness.checkpoint_files import read_json
from harness.checks import shown
from harness.errors import CheckpointError, UsageError
from harness.nn.config import Schema, parse_config
from harness.tensor_files import stored_tensors
from subjects.qwen3_tts.config import (
    FRAME_SAMPLES,
    CodePredictorConfig,
    DecoderConfig,
    SpeakerConfig,
    TalkerConfig,
)
from subjects.qwen3_tts.layout import (
    BASE,
    CODEC,
    CODEC_VOCAB,
    CODES,
    DEFAULT_VARIANT,
    DIALECTS,
    GROUPS,
    LANGUAGES,
    MODEL_IDS,
    SPEAKERS,
    STEM,
    SYNTHETIC,
    TALKER_IDS,
    TEMPLATE_IDS,
    TEXT_VOCAB,
    VARIANTS,
)
from subjects.qwen3_tts.prompt import PUBLISHED
from subjects.qwen3_tts.synthetic_configs import CODECS, MODELS


class Named(Schema, frozen=True, kw_only=True):
    """As much of a model's `config.json` as says which variant it is."""

    tokenizer_type: Literal["qwen3_tts_tokenizer_12hz"]
    tts_model_size: Literal["0b6", "1b7"]
    tts_model_type: Literal["base", "custom_voice", "voice_design"]


@dataclass(frozen=True, slots=True)
class Configs:
    """The configurations of a model's networks. `speaker` is None of what is no Base model."""

    variant: str
    stored_dtype: str
    talker: TalkerConfig
    predictor: CodePredictorConfig
    decoder: DecoderConfig
    speaker: SpeakerConfig | None

    @property
    def kind(self) -> str:
        """base, custom_voice or voice_design."""
        return VARIANTS[self.variant][1]


@cache
def read(source: str, model: str | None = None) -> Configs:
    """The configurations of `source`; `model` names the variant, which a folder knows by itself.

    Raises UsageError for another model than the source's, CheckpointError for a file that is wrong.
    """
    if source in SYNTHETIC:
        variant = model or DEFAULT_VARIANT
        if variant not in VARIANTS:
            raise UsageError(f"model: {variant!r} is not allowed; use one of {', '.join(VARIANTS)}")
        return _parsed(MODELS[source][variant], CODECS[source], Path(source))
    folder = Path(source)
    configs = _parsed(read_json(folder / "config.json"), read_json(folder / CODEC / "config.json"), folder)
    if model and model != configs.variant:
        raise UsageError(f"model: {source} holds {configs.variant}, not {model}; leave it out")
    for path in (folder, folder / CODEC):
        stored_tensors(path, STEM)
    return configs


def begin(source: str, model: str, folder: Path) -> None:
    """Begin a folder of made-up weights. Raises as `harness.checkpoint_writing.begin`."""
    checkpoint_writing.begin({folder: MODELS[source][model], folder / CODEC: CODECS[source]})


def _parsed(model: Mapping[str, Any], codec: Mapping[str, Any], folder: Path) -> Configs:
    place, codec_place = str(folder / "config.json"), str(folder / CODEC / "config.json")
    named = parse_config(model, Named, place)
    identity = (named.tts_model_size, named.tts_model_type)
    variant = next((name for name, known in VARIANTS.items() if known == identity), None)
    if variant is None:
        raise CheckpointError(f"{place}: no {identity[1]} model of size {identity[0]} is published")
    talker = _section(model, "talker_config", place)
    expected = {key: (model, number) for key, number in TEMPLATE_IDS.items()}
    for section, keys in ((model, MODEL_IDS), (talker, TALKER_IDS)):
        expected |= {key: (section, getattr(PUBLISHED, name)) for name, key in keys.items()}
    for key, (section, number) in expected.items():
        if section.get(key, number) != number:
            raise CheckpointError(f"{place}: {key}: {shown(section[key])} is not allowed; use {number}")
    _check_names(talker, f"{place}: talker_config")
    predictor = _section(talker, "code_predictor_config", place)
    configs = Configs(
        variant,
        str(model.get("torch_dtype") or model.get("dtype") or "bfloat16"),
        parse_config(talker, TalkerConfig, f"{place}: talker_config"),
        parse_config(predictor, CodePredictorConfig, f"{place}: code_predictor_config"),
        parse_config(
            _section(codec, "decoder_config", codec_place), DecoderConfig, f"{codec_place}: decoder_config"
        ),
        parse_config(
            _section(model, "speaker_encoder_config", place),
            SpeakerConfig,
            f"{place}: speaker_encoder_config",
        )
        if named.tts_model_type == BASE
        else None,
    )
    if contradiction := _contradiction(configs):
        raise CheckpointError(f"{place}: {contradiction}")
    return configs


def _section(config: Mapping[str, Any], key: str, place: str) -> Mapping[str, Any]:
    if not isinstance(config.get(key), dict):
        raise CheckpointError(f"{place}: {key} is missing; it must be an object")
    return config[key]


def _check_names(talker: Mapping[str, Any], place: str) -> None:
    """Hold tables by names of languages and speakers to the published rows, which are those that are spoken
    with. Names that are not published have no use here. Raises CheckpointError."""
    dialects = {name: PUBLISHED.dialects.get(name, False) for name in PUBLISHED.speakers}
    for key, known in (
        (LANGUAGES, PUBLISHED.languages),
        (SPEAKERS, PUBLISHED.speakers),
        (DIALECTS, dialects),
    ):
        table = talker.get(key, {})
        if not isinstance(table, dict):
            raise CheckpointError(f"{place}: {key}: {shown(table)} is not allowed; use an object, by name")
        for name, value in known.items():
            if name in table and (table[name] != value or type(table[name]) is not type(value)):
                raise CheckpointError(
                    f"{place}: {key}: {name}: {shown(table[name])} is not allowed; use {shown(value)}"
                )


def _contradiction(configs: Configs) -> str | None:
    """What does not fit a network to those around it, or None."""
    for name, number, needed in (
        ("talker_config: num_code_groups", configs.talker.num_code_groups, GROUPS),
        ("code_predictor_config: num_code_groups", configs.predictor.num_code_groups, GROUPS),
        ("code_predictor_config: vocab_size", configs.predictor.vocab_size, CODES),
        ("decoder_config: num_quantizers", configs.decoder.num_quantizers, GROUPS),
        ("decoder_config: codebook_size", configs.decoder.codebook_size, CODES),
    ):
        if number != needed:
            return f"{name}: {number} is not allowed; use {needed}"
    if (samples := configs.decoder.hop) != FRAME_SAMPLES:
        return f"decoder_config: upsample_rates make {samples} samples a frame; {FRAME_SAMPLES} are needed"
    for name, rows, needed in (
        ("vocab_size", configs.talker.vocab_size, CODEC_VOCAB),
        ("text_vocab_size", configs.talker.text_vocab_size, TEXT_VOCAB),
    ):
        if rows < needed:
            return f"talker_config: {name}: {rows} is not allowed; use {needed}, of which prompts name rows"
    width = configs.talker.hidden_size
    if configs.speaker and configs.speaker.enc_dim != width:
        return f"speaker_encoder_config: enc_dim: use {width}, the hidden_size of the talker"
    return None
