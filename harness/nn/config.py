"""Configurations as published `config.json` files spell them, and how such a file is read.

Only what shapes the computation is read; keys of no use here are ignored, so that files written by other
tools load. Widths follow one convention: `hidden_size` is the residual stream, `num_attention_heads *
head_dim` the attention width. No torch import here: what a model is, is known before paying for one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import msgspec

from harness.errors import CheckpointError
from harness.reading import decode

Config = TypeVar("Config", bound=msgspec.Struct)


class BlockConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The Qwen3-style block every transformer here is made of."""

    hidden_size: int
    intermediate_size: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    rms_norm_eps: float = 1e-6
    rope_theta: float = 1_000_000.0


class Qwen3Config(BlockConfig, frozen=True, kw_only=True):
    """Text encoder and 5 Hz language model: a causal stack over a token table (head tied to it)."""

    MODEL_TYPE: ClassVar[str] = "qwen3"

    model_type: str
    num_hidden_layers: int
    vocab_size: int


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from `path`; CheckpointError when it is missing or is not one."""
    try:
        data = json.loads(decode(path.read_bytes()))
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file; is the download complete?") from None
    except OSError as error:
        raise CheckpointError(f"{path}: unreadable ({error.strerror}); download it again") from None
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CheckpointError(f"{path}: not JSON: {error}") from None
    if not isinstance(data, dict):
        raise CheckpointError(f"{path}: holds a {type(data).__name__}, expected an object")
    return data


def parse_config(data: dict[str, Any], kind: type[Config], where: str) -> Config:
    """Read `data` (a decoded config.json) as `kind`.

    Raises CheckpointError naming the file and the key that is missing or of the wrong type, or the
    model type when the folder holds another architecture.
    """
    expected = getattr(kind, "MODEL_TYPE", None)
    model_type = data.get("model_type")
    if expected and model_type != expected:
        raise CheckpointError(f"{where}: model_type is {model_type!r}, expected {expected!r}; wrong folder?")
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        raise CheckpointError(f"{where}: {error}") from None
