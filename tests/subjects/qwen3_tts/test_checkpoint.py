"""What a folder says it is, is held against itself before torch is imported."""

import json
from pathlib import Path

import pytest

from harness.accelerators import Accelerator
from harness.errors import CheckpointError, MissingPrerequisite, UsageError
from subjects.qwen3_tts import checkpoint
from subjects.qwen3_tts.layout import CODEC, FULL, SYNTHETIC, TINY, VARIANTS
from subjects.qwen3_tts.setup import Setup
from subjects.qwen3_tts.synthetic_configs import CODECS, MODELS

MODEL = "0.6B-Base"
CARD = Accelerator("cuda", "a card", 24.0, capability=(8, 9))


def folder(path: Path, model: dict | None = None, codec: dict | None = None) -> Path:
    """A model's folder without weights."""
    (path / CODEC).mkdir(parents=True)
    (path / "config.json").write_text(json.dumps(model or MODELS[TINY][MODEL]))
    (path / CODEC / "config.json").write_text(json.dumps(codec or CODECS[TINY]))
    return path


@pytest.mark.parametrize("source", SYNTHETIC)
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_has_its_configuration(source, variant):
    configs = checkpoint.read(source, variant)
    assert configs.variant == variant and (configs.speaker is not None) == variant.endswith("Base")
    wide = configs.talker.hidden_size != configs.predictor.hidden_size
    assert wide == variant.startswith("1.7B")  # whose inputs are projected


def test_the_published_widths_are_the_published_ones():
    small, large = (checkpoint.read(FULL, f"{size}-Base").talker for size in ("0.6B", "1.7B"))
    assert (small.hidden_size, large.hidden_size, small.num_hidden_layers) == (1024, 2048, 28)
    decoder = checkpoint.read(FULL).decoder
    assert (decoder.sliding_window, decoder.decoder_dim, decoder.upsample_rates) == (72, 1536, [8, 5, 4, 3])


def model(**changes) -> dict:
    return MODELS[TINY][MODEL] | changes


def talker(**changes) -> dict:
    return model(talker_config=MODELS[TINY][MODEL]["talker_config"] | changes)


def named(key: str, **changes) -> dict:
    return talker(**{key: MODELS[TINY][MODEL]["talker_config"][key] | changes})


def predictor(**changes) -> dict:
    return talker(
        code_predictor_config=MODELS[TINY][MODEL]["talker_config"]["code_predictor_config"] | changes
    )


def codec(**changes) -> dict:
    return CODECS[TINY] | {"decoder_config": CODECS[TINY]["decoder_config"] | changes}


def groups(count: int) -> dict:
    both = MODELS[TINY][MODEL]["talker_config"]["code_predictor_config"] | {"num_code_groups": count}
    return talker(num_code_groups=count, code_predictor_config=both)


def speaker(**changes) -> dict:
    return model(speaker_encoder_config=MODELS[TINY][MODEL]["speaker_encoder_config"] | changes)


WRONG = {
    "another tokenizer": (model(tokenizer_type="25hz"), None, "tokenizer_type"),
    "no such model": (model(tts_model_type="voice_design"), None, "is published"),
    "another control token": (talker(codec_eos_token_id=4198), None, "codec_eos_token_id: 4198.*use 2150"),
    "another text token": (model(tts_eos_token_id=7), None, "tts_eos_token_id"),
    "no talker": ({k: v for k, v in model().items() if k != "talker_config"}, None, "talker_config"),
    "a width out of range": (talker(hidden_size=0), None, "hidden_size: 0"),
    "another number of codes": (None, codec(num_quantizers=8), "num_quantizers: 8.*use 16"),
    "another number of codes everywhere": (groups(8), codec(num_quantizers=8), "num_code_groups: 8.*use 16"),
    "codes that are none": (predictor(vocab_size=1_024), None, "vocab_size: 1024 is not allowed; use 2048"),
    "a larger codebook": (None, codec(codebook_size=4_096), "codebook_size: 4096.*use 2048"),
    "another frame": (None, codec(upsample_rates=[8, 5, 4, 4]), "2560 samples a frame"),
    "another voice of a name": (named("spk_id", ryan=5), None, "talker_config: spk_id: ryan: 5 is.*use 3061"),
    "a voice of no number": (named("spk_id", ryan=3061.0), None, "spk_id: ryan: 3061.0 is not allowed"),
    "voices of no names": (talker(spk_id=[3061]), None, r"spk_id: \[3061\] is not allowed; use an object"),
    "another language": (
        named("codec_language_id", german=-1),
        None,
        "codec_language_id: german: -1.*use 2053",
    ),
    "another dialect": (named("spk_is_dialect", eric=False), None, "eric: False.*use 'sichuan_dialect'"),
    "another activation": (talker(hidden_act="gelu"), None, "hidden_act: 'gelu' is not allowed; use silu"),
    "another activation of the predictor": (predictor(hidden_act="relu"), None, "hidden_act: 'relu'"),
    "another activation of the decoder": (None, codec(hidden_act="gelu"), "hidden_act: 'gelu'"),
    "fewer rows than prompts name": (talker(vocab_size=3_000), None, "vocab_size: 3000.*use 3072"),
    "fewer rows of text": (talker(text_vocab_size=9), None, "text_vocab_size: 9 is not allowed; use 151936"),
    "a speaker heard at another rate": (
        model(speaker_encoder_config={"enc_dim": 64, "sample_rate": 16_000}),
        None,
        "sample_rate: 16000 is not allowed; use 24000",
    ),
    "a speaker of other bands": (speaker(mel_dim=80), None, "mel_dim: 80 is not allowed; use 128"),
    "a speaker that sees too far": (
        speaker(enc_dilations=[1, 2, 3, 9, 1]),
        None,
        "enc_dilations: 18 frames beside one; at most 16",
    ),
    "a speaker of another width": (
        model(speaker_encoder_config={"enc_dim": 32}),
        None,
        "enc_dim: use 64",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_folder_that_contradicts_itself_is_refused(name, tmp_path):
    configs = WRONG[name]
    with pytest.raises(CheckpointError, match=configs[2]):
        checkpoint.read(str(folder(tmp_path / "a", configs[0], configs[1])))


def test_names_that_are_not_published_are_let_be(tmp_path):
    tables = {"spk_id": {"mine": 3000}, "spk_is_dialect": {}, "codec_language_id": {"german": 2053}}
    with pytest.raises(CheckpointError, match="no such file"):  # of weights: nothing else is wrong
        checkpoint.read(str(folder(tmp_path / "a", talker(**tables))))


def test_weights_that_are_not_there_are_told(tmp_path):
    with pytest.raises(CheckpointError, match=r"model\.safetensors: no such file"):
        checkpoint.read(str(folder(tmp_path / "a")))


def test_what_is_named_is_there(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match=r"model: '2B' is not allowed; use one of 0\.6B-Base"):
        checkpoint.read(TINY, "2B")
    with pytest.raises(MissingPrerequisite, match=r"source \(argument\): no folder"):
        Setup.choose(tmp_path / "absent", device="cpu")
    monkeypatch.setenv("QWEN3_TTS_SOURCE", TINY)
    setup = Setup.choose(accelerator=CARD)
    assert (setup.source, setup.source_origin) == (TINY, "environment")
    monkeypatch.delenv("QWEN3_TTS_SOURCE")
    setup = Setup.choose(accelerator=CARD)
    assert (setup.source, setup.source_origin) == (FULL, "default")
