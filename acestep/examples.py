"""Example requests: the JSON files of `examples/`, one request each.

    {"caption": "slow dub techno", "duration": 30, "think": true, "seed": 7}

A key is a field of `GenerationParams` or `DescriptionParams` (two have upstream's shorter names), or of
the run. Paths of audio files are relative to the example's own folder.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from acestep.errors import MissingPrerequisite, UsageError
from acestep.request import DescriptionParams, GenerationConfig, GenerationParams, item_seeds

ALIASES = {"think": "thinking", "language": "vocal_language"}
RUN_FIELDS = ("batch_size", "seed")
PATH_FIELDS = ("src_audio", "reference_audio")


def load_example(path: Path) -> tuple[GenerationParams, GenerationConfig]:
    """Read a request to generate; `batch_size` and `seed` (42) are of the run.

    Raises MissingPrerequisite when the file is absent or is not JSON, UsageError for a field that is
    unknown or out of range; both name the file.
    """
    data = _read(path, GenerationParams, RUN_FIELDS)
    batch, seed = data.pop("batch_size", 1), data.pop("seed", 42)
    try:
        config = GenerationConfig(batch_size=batch)
        return GenerationParams(**data), dataclasses.replace(config, seeds=item_seeds(seed, batch))
    except UsageError as error:
        raise UsageError(f"example {path}: {error}") from None


def load_description(path: Path) -> DescriptionParams:
    """Read a request to understand, create or format. Raises as `load_example` does."""
    data = _read(path, DescriptionParams)
    try:
        return DescriptionParams(**data)
    except UsageError as error:
        raise UsageError(f"example {path}: {error}") from None


def _read(path: Path, kind: type, more: tuple[str, ...] = ()) -> dict[str, Any]:
    """Fields of the JSON object in `path`, by the names `kind` has for them."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        there = ", ".join(sorted(p.name for p in path.parent.glob("*.json"))) or "none"
        raise MissingPrerequisite(f"example {path}: no such file; in {path.parent}: {there}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise MissingPrerequisite(f"example {path}: not JSON: {error}") from None
    if not isinstance(data, dict):
        raise UsageError(f"example {path}: the top level is a {type(data).__name__}, not an object")
    known = [field.name for field in dataclasses.fields(kind)]
    renamed = {ALIASES.get(str(name), str(name)): value for name, value in data.items()}
    for name in renamed:
        if name not in known and name not in more:
            allowed = ", ".join([*known, *more, *ALIASES])
            raise UsageError(f"example {path}: unknown field {name!r}; allowed: {allowed}")
    for name in PATH_FIELDS:
        if name in renamed:
            renamed[name] = _beside(path, renamed[name])
    return renamed


def _beside(path: Path, value: Any) -> Any:
    """Audio paths in an example are relative to it."""
    if isinstance(value, str):
        return str(path.parent / value)
    return [_beside(path, item) for item in value] if isinstance(value, list) else value
