"""Checkpoint folders of made-up weights, one tensor in memory at a time; each file is whole or absent.

A folder is begun before torch is imported, which waits until tensors are drawn.
"""

from __future__ import annotations

import argparse
import io
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.checks import within
from harness.errors import UsageError
from harness.files import regular, replacing, unwritten, write_whole
from harness.subject import MAX_SEED
from harness.tensor_files import Shape
from harness.text import harmless

if TYPE_CHECKING:
    from harness.random_weights import RandomWeights

SAFETENSORS_NAMES = {"torch.float32": "F32", "torch.bfloat16": "BF16"}


def run(options: argparse.Namespace, begin: Callable[[str, str, Path], None], weights: str) -> int:
    """A subject's command that writes a folder; returns the exit code.

    `begin`: begins it, of a source and a model. `weights`: the module of what is drawn, `Synthetic`, and of
    what writes it, `write`. Raises UsageError for a folder that holds something else, BenchError where
    it cannot be written.
    """
    within("seed", options.seed, 0, MAX_SEED, kind=int)
    with writing(options.folder):
        begin(options.source, options.model, options.folder)
        module = import_module(weights)
        source = module.Synthetic(options.source, options.model, options.seed)
        folder = module.write(source, options.folder)
    print(harmless(str(folder)))
    return 0


def begin(configs: Mapping[Path, dict[str, Any]]) -> None:
    """Make the folders of a checkpoint, each with its `config.json`, by which what is begun is known.

    Raises UsageError for one that holds something else, OSError where it cannot be written.
    """
    contents = {path: json_file(config) for path, config in configs.items()}
    for path, content in contents.items():
        check_free(path, content)
    for path, content in contents.items():
        path.mkdir(parents=True, exist_ok=True)
        write_whole(path / "config.json", content)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Have an OSError of the block be a BenchError about its file, or about `folder`."""
    try:
        yield
    except OSError as error:
        place = str(error.filename or folder)
        raise unwritten(f"folder: {place!r}: cannot write the checkpoint", error) from None


def check_free(path: Path, config: bytes) -> None:
    """Raise UsageError unless the folder holds nothing but what is written there beside the file `config`."""
    try:
        with regular(path / "config.json").open("rb") as file:
            free = file.read(len(config) + 1) == config
    except FileNotFoundError:
        free = not any(path.glob("[!.]*"))
    if not free:
        raise UsageError(
            f"{str(path)!r} is there and would be lost: it holds another checkpoint; "
            "name another folder, or move it away"
        )


def write_weights(path: Path, stem: str, weights: RandomWeights, count: int = 1) -> None:
    """One safetensors file in the folder `path`, or `count` shards and then the index that names them."""
    shapes = weights.shapes()
    if count == 1:
        return save(path / f"{stem}.safetensors", weights, list(shapes))
    home: dict[str, str] = {}
    for number, names in enumerate(shards(shapes, count), start=1):
        shard = f"{stem}-{number:05}-of-{count:05}.safetensors"
        save(path / shard, weights, names)
        home |= dict.fromkeys(names, shard)
    elements = sum(map(math.prod, shapes.values()))
    size = {"total_parameters": elements, "total_size": elements * weights.dtype.itemsize}
    index = json_file({"metadata": size, "weight_map": home}, sort_keys=True)
    write_whole(path / f"{stem}.safetensors.index.json", index)


def shards(shapes: Mapping[str, Shape], count: int) -> list[list[str]]:
    """Names in `count` runs: each ends with the last tensor that does not cross its share of the whole."""
    total, end = sum(map(math.prod, shapes.values())), 0
    runs: list[list[str]] = [[] for _ in range(count)]
    for name, shape in shapes.items():
        end += math.prod(shape)
        runs[(end - 1) * count // total].append(name)
    return runs


def save(path: Path, weights: RandomWeights, names: Sequence[str]) -> None:
    """A safetensors file of `names`: the header's length, the header, then each tensor as it is drawn."""
    import torch

    names, shapes = sorted(names), weights.shapes()
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in names:
        start, end = end, end + math.prod(shapes[name]) * weights.dtype.itemsize
        header[name] = {
            "dtype": SAFETENSORS_NAMES[str(weights.dtype)],
            "shape": shapes[name],
            "data_offsets": (start, end),
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with replacing(path) as part, part.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in names:
            file.write(weights.read(name).view(torch.uint8).numpy().data)


def save_pickle(path: Path, content: object) -> None:
    """A file of `torch.save`, made in memory: torch writes the name of a path into the archive, and of a disk
    that is full it only says that a position was unexpected. Raises OSError."""
    import torch

    file = io.BytesIO()
    torch.save(content, file)
    write_whole(path, file.getvalue())


def json_file(content: dict[str, Any], sort_keys: bool = False) -> bytes:
    """The bytes of a JSON file, as people read it."""
    return json.dumps(content, indent=2, sort_keys=sort_keys).encode() + b"\n"
