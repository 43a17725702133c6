"""Configurations as published `config.json` files spell them: their fields, the range of each, and the check.

Only what shapes the computation is read; keys of no use here are ignored, so that files written by other
tools load. Widths follow one convention: `hidden_size` is the residual stream, `num_attention_heads *
head_dim` the attention width. A file may come from anybody, so a record says of each field what it may hold,
far beyond what is published and small enough to be built. No torch import here: what a model is, is known
before paying for one.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import msgspec
from msgspec import Meta, inspect

from harness.checks import shown
from harness.errors import CheckpointError

Width = Annotated[int, Meta(ge=1, le=65_536)]
Layers = Annotated[int, Meta(ge=1, le=128)]
Heads = Annotated[int, Meta(ge=1, le=512)]


class Schema(msgspec.Struct, frozen=True, kw_only=True):
    """A record of a checkpoint's file, each field with its type and range."""

    def contradiction(self) -> str | None:
        """What fields that are right by themselves are not together, or None."""
        return None


Config = TypeVar("Config", bound=Schema)


class BlockConfig(Schema, frozen=True, kw_only=True):
    """The Qwen3-style block every transformer here is made of."""

    hidden_size: Width
    intermediate_size: Annotated[int, Meta(ge=1, le=262_144)]
    num_attention_heads: Heads
    num_key_value_heads: Heads
    head_dim: Annotated[int, Meta(ge=2, le=512, multiple_of=2)]  # RoPE turns its halves
    rms_norm_eps: Annotated[float, Meta(ge=1e-12, le=0.01)] = 1e-6
    rope_theta: Annotated[float, Meta(ge=1, le=1e12)] = 1_000_000.0
    hidden_act: Literal["silu"] = "silu"

    def contradiction(self) -> str | None:
        heads, shared = self.num_attention_heads, self.num_key_value_heads
        if heads % shared:
            return f"num_attention_heads: {heads} is no multiple of num_key_value_heads, {shared}"
        return None

    @property
    def matrices(self) -> tuple[tuple[int, int], ...]:
        """Shapes `[out, in]` of q, k, v, o, gate, up and down."""
        hidden, inner = self.hidden_size, self.intermediate_size
        width, shared = (n * self.head_dim for n in (self.num_attention_heads, self.num_key_value_heads))
        heads = (width, hidden), (shared, hidden), (shared, hidden), (hidden, width)
        return (*heads, (inner, hidden), (inner, hidden), (hidden, inner))

    @property
    def attention_weights(self) -> int:
        """How many the matrices q, k, v and o have, 2HA + 2HK."""
        heads = self.num_attention_heads + self.num_key_value_heads
        return 2 * self.hidden_size * heads * self.head_dim

    @property
    def block_weights(self) -> int:
        """How many a block's matrices have, 2HA + 2HK + 3HI: those of attention, then gate, up, down."""
        return self.attention_weights + 3 * self.hidden_size * self.intermediate_size


class StackConfig(BlockConfig, frozen=True, kw_only=True):
    """Blocks one after another."""

    num_hidden_layers: Layers


class Qwen3Config(StackConfig, frozen=True, kw_only=True):
    """Text encoder and 5 Hz language model: a causal stack over a token table (head tied to it)."""

    MODEL_TYPE: ClassVar[str] = "qwen3"

    model_type: Literal["qwen3"]
    vocab_size: Annotated[int, Meta(ge=1, le=2**20)]

    @property
    def weights(self) -> int:
        """How many all matrices have: a little less than the file holds."""
        return self.vocab_size * self.hidden_size + self.num_hidden_layers * self.block_weights


def parse_config(data: Any, kind: type[Config], where: str) -> Config:
    """Read `data` (decoded JSON) as `kind`.

    Raises CheckpointError naming the file, the key that is missing or not allowed, its value and what is
    allowed, or the model type when the folder holds another architecture.
    """
    if not isinstance(data, dict):
        raise CheckpointError(f"{where}: holds a {type(data).__name__}, expected an object")
    expected, model_type = getattr(kind, "MODEL_TYPE", None), data.get("model_type")
    if expected and model_type != expected:
        raise CheckpointError(
            f"{where}: model_type is {shown(model_type)}, expected {expected!r}; wrong folder?"
        )
    values = {}
    for field in _fields(kind):
        if field.name in data:
            values[field.name] = _value(f"{where}: {field.name}", data[field.name], field.type)
        elif field.required:
            allowed = _allowed(inspect.type_info(field.type))
            raise CheckpointError(f"{where}: {field.name} is missing; it must be {allowed}")
    config = kind(**values)
    if contradiction := config.contradiction():
        raise CheckpointError(f"{where}: {contradiction}")
    return config


_fields = cache(msgspec.structs.fields)


def _value(at: str, value: object, kind: Any) -> Any:
    """`value` as the field at `at` holds it, in range."""
    try:
        return msgspec.convert(value, kind)
    except ValueError as error:  # msgspec's are; a number that Python will not print raises a plain one
        allowed = inspect.type_info(kind)
        if isinstance(value, list) and isinstance(allowed, inspect.ListType):
            if not (item := re.search(r"`\$\[(\d+)\]`$", str(error))):
                raise CheckpointError(
                    f"{at}: {len(value):,} values are not allowed; use {_allowed(allowed)}"
                ) from None
            at, value, allowed = f"{at}[{item[1]}]", value[int(item[1])], allowed.item_type
        raise CheckpointError(f"{at}: {shown(value)} is not allowed; use {_allowed(allowed)}") from None


def _allowed(kind: inspect.Type) -> str:
    """In words: the values of a field."""
    match kind:
        case inspect.IntType(ge=only, le=most) if only == most is not None:
            return str(only)
        case inspect.IntType(ge=low, le=high, multiple_of=step):
            return f"{f'a multiple of {step}' if step else 'a whole number'} from {low} to {high}"
        case inspect.FloatType(ge=low, le=high):
            return f"a number from {low:g} to {high:g}"
        case inspect.LiteralType(values=values):
            return " or ".join(map(str, values))
        case inspect.ListType(item_type=item, min_length=least, max_length=most):
            return f"a list of {least} to {most}, each {_allowed(item)}"
        case inspect.UnionType(types=kinds):
            return " or ".join(map(_allowed, kinds))
        case inspect.NoneType():
            return "null"
    return "true or false"
