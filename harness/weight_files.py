"""safetensors files of a component: which they are, and whether they are whole. No torch import here.

The header of a file says how long it is, so one that was cut short is known without reading it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.errors import CheckpointError
from harness.nn.config import read_json


def weight_files(folder: Path, stem: str) -> list[Path]:
    """The file `stem`.safetensors of `folder`, or the shards that its index names.

    Raises CheckpointError for an index that is none.
    """
    index = folder / f"{stem}.safetensors.index.json"
    if not index.exists():
        return [folder / f"{stem}.safetensors"]
    names = read_json(index).get("weight_map")
    if not isinstance(names, dict) or not all(map(_is_shard, names.values())):
        raise CheckpointError(f"{index}: weight_map must name files of its own folder")
    return [folder / name for name in sorted(set(names.values()))]


@contextmanager
def opened(path: Path, framework: str = "numpy") -> Iterator[Any]:
    """A safetensors file, its header read. Raises CheckpointError for one that is not there or not whole."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework=framework) as file:
            yield file
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file; is the download complete?") from None
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: unreadable ({error}); download it again") from None


def _is_shard(name: Any) -> bool:
    """Whether `name` is a plain file name: an index may not point outside its folder."""
    return isinstance(name, str) and name.endswith(".safetensors") and Path(name).name == name
