"""What safetensors files say they hold, by their headers alone. No torch import here.

    8 bytes            length of the header, little-endian
    header             JSON: {name: {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]}, ...}
    the rest           the tensors' bytes, one after another without a hole

A header is held to that before anything is built by it, and so is the index that names the shards.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta

from harness.checkpoint_files import opened, parse_json, read_json
from harness.checks import shown
from harness.errors import CheckpointError
from harness.nn.config import Schema, parse_config

Shape = tuple[int, ...]

ELEMENT_BYTES = {"BF16": 2, "F16": 2, "F32": 4, "F64": 8}
INDEX = ".index.json"
MAX_HEADER_BYTES = 2**24  # published: 80,000
MAX_SHARDS = 1_000
MAX_NAME_CHARS = 250  # of a tensor, of a shard


class Entry(Schema, frozen=True, kw_only=True):
    """A tensor in a header. Weights are of real numbers."""

    dtype: Literal["BF16", "F16", "F32", "F64"]
    shape: Annotated[list[Annotated[int, Meta(ge=0, le=2**40)]], Meta(min_length=0, max_length=8)]
    data_offsets: Annotated[list[Annotated[int, Meta(ge=0, le=2**50)]], Meta(min_length=2, max_length=2)]

    def contradiction(self) -> str | None:
        start, end = self.data_offsets
        length = prod(self.shape) * ELEMENT_BYTES[self.dtype]
        if end - start != length:
            return f"data_offsets: {self.data_offsets} hold {end - start:,} bytes, its shape takes {length:,}"
        return None


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where a tensor is: `start`, its first byte in the file `path`."""

    path: Path
    dtype: str
    shape: Shape
    start: int


def stored_tensors(folder: Path, stem: str) -> dict[str, StoredTensor]:
    """The tensors of a component by name: of its one file, or of the shards that an index names.

    Raises CheckpointError naming the file and what is wrong.
    """
    tensors: dict[str, StoredTensor] = {}
    for path in _paths(folder, stem):
        for name, tensor in _header(path).items():
            if name in tensors:
                raise CheckpointError(f"{path}: {name} is in {tensors[name].path.name} as well")
            tensors[name] = tensor
    return tensors


def is_there(folder: Path, stem: str) -> bool:
    """Whether there are weights, or an index of some."""
    return any(os.path.lexists(folder / f"{stem}.safetensors{suffix}") for suffix in ("", INDEX))


def _paths(folder: Path, stem: str) -> list[Path]:
    single = folder / f"{stem}.safetensors"
    index = folder / f"{single.name}{INDEX}"
    if not os.path.lexists(index):
        return [single]
    names = read_json(index, MAX_HEADER_BYTES).get("weight_map")
    if not isinstance(names, dict) or not all(map(_is_shard, names.values())):
        raise CheckpointError(f"{index}: weight_map must name files of its own folder")
    shards = sorted(set(names.values()))
    if len(shards) > MAX_SHARDS:
        raise CheckpointError(f"{index}: weight_map names {len(shards):,} files, at most {MAX_SHARDS:,} are")
    return [folder / shard for shard in shards]


def _is_shard(name: Any) -> bool:
    """Whether `name` is a plain file name: an index may not point outside its folder."""
    suffix = ".safetensors"
    return isinstance(name, str) and name.endswith(suffix) and _is_name(name) and Path(name).name == name


def _is_name(name: str) -> bool:
    return len(name) <= MAX_NAME_CHARS and name.isprintable()


def _header(path: Path) -> dict[str, StoredTensor]:
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        start = 8 + int.from_bytes(file.read(8), "little")
        if start > min(size, 8 + MAX_HEADER_BYTES) or size < 8:
            claim = f"a header of {start - 8:,} bytes in a file of {size:,}"
            raise CheckpointError(f"{path}: unreadable ({claim}); download it again")
        header = parse_json(file.read(start - 8), f"{path}: unreadable header")
    header.pop("__metadata__", None)
    entries: dict[str, Entry] = {}
    for name, fields in header.items():
        if not _is_name(name):
            raise CheckpointError(f"{path}: {shown(name)} is not the name of a tensor")
        entries[name] = parse_config(fields, Entry, f"{path}: {name}")
    _check_layout(path, entries, size - start)
    return {
        name: StoredTensor(path, entry.dtype, tuple(entry.shape), start + entry.data_offsets[0])
        for name, entry in entries.items()
    }


def _check_layout(path: Path, entries: Mapping[str, Entry], length: int) -> None:
    """Refuse tensors that overlap, leave holes, or do not end where the file does."""
    end = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1].data_offsets):
        start, before = entry.data_offsets[0], end
        if start != before:
            raise CheckpointError(
                f"{path}: {name}: data_offsets: {start} is not allowed; use {before}, the next"
            )
        end = entry.data_offsets[1]
    if end != length:
        raise CheckpointError(
            f"{path}: unreadable (its tensors end at byte {end:,} of {length:,}); download it again"
        )
