"""The published implementation of the networks, the package `qwen-tts`, with the weights of ours.

It is for comparing alone and asks for other versions than ours, so it lives in an environment of its own
(`make test-oracles`) and is imported where it is used. Its configurations are the published files' own: the
objects of `config.json`, and of `decoder_config` in `speech_tokenizer/config.json`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from harness.checkpoint import on_meta
from harness.errors import MissingPrerequisite
from harness.parity import precision

PACKAGE = "qwen_tts"
MODELS = f"{PACKAGE}.core.models"
TOKENIZER = f"{PACKAGE}.core.tokenizer_12hz"
# What the package imports for its unpublished 25 Hz tokenizer alone.
UNUSED = ("sox", "onnxruntime", "torchaudio", "torchaudio.compliance", "torchaudio.compliance.kaldi")


def generation(config: Mapping[str, Any]) -> Any:
    """Talker, code predictor and, of Base, speaker encoder: one model that generates codes, without weights.

    Its names are those of `model.safetensors`. Raises MissingPrerequisite without the package.
    """
    models = package(f"{MODELS}.modeling_qwen3_tts")
    parts = package(f"{MODELS}.configuration_qwen3_tts").Qwen3TTSConfig(**config)
    return on_meta(lambda: models.Qwen3TTSForConditionalGeneration(parts))


def decoder(config: Mapping[str, Any]) -> Any:
    """Decoder12Hz without weights. Raises MissingPrerequisite without the package."""
    models = package(f"{TOKENIZER}.modeling_qwen3_tts_tokenizer_v2")
    configs = package(f"{TOKENIZER}.configuration_qwen3_tts_tokenizer_v2")
    parts = configs.Qwen3TTSTokenizerV2DecoderConfig(**config)
    parts._attn_implementation = "sdpa"
    return on_meta(lambda: models.Qwen3TTSTokenizerV2Decoder(parts))


def fill(module: Any, state: Mapping[str, Tensor], dtype: torch.dtype) -> Any:
    """The module with the tensors of `state` in `dtype`, and its angles' frequencies, which no file has."""
    module.load_state_dict({name: tensor.to(dtype) for name, tensor in state.items()}, assign=True)
    device = next(iter(state.values())).device
    for part in module.modules():
        if hasattr(part, "inv_freq"):
            with precision(dtype):
                part.inv_freq, _ = part.rope_init_fn(part.config, device)
            part.original_inv_freq = part.inv_freq
    return module.requires_grad_(False).eval()


def log_mel(samples: Tensor) -> Tensor:
    """The speaker encoder's input `[B, frames, 128]` of `samples [B, N]`, in fp32 but for the transform."""
    models = package(f"{MODELS}.modeling_qwen3_tts")
    with precision(samples.dtype):
        return models.mel_spectrogram(samples, 1024, 128, 24_000, 256, 1024, 0, 12_000).transpose(1, 2)


@cache
def package(name: str) -> ModuleType:
    """A module of the published package. Raises MissingPrerequisite where that is not installed."""
    if find_spec(PACKAGE) is None:
        raise MissingPrerequisite(
            "oracle: qwen-tts is not installed; it has an environment of its own: make test-oracles"
        )
    import_module("transformers")  # before the empty modules: it looks which of them are there
    with _empty(UNUSED):
        return import_module(name)


@contextmanager
def _empty(names: tuple[str, ...]) -> Iterator[None]:
    """Empty modules in place of those of `names` that are not installed."""
    absent = [name for name in names if find_spec(name.partition(".")[0]) is None]
    for name in absent:
        module = ModuleType(name)
        module.__spec__, module.__path__ = ModuleSpec(name, None, is_package=True), []
        sys.modules[name] = module
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]
