"""Example requests: the JSON files of `examples/`, one request each.

    {"caption": "slow dub techno", "duration": 30, "think": true, "seed": 7}

A key is a field of `GenerationParams` or `DescriptionParams` (two have upstream's shorter names), or of
the run. Paths of audio files are relative to the example's own folder.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from acestep.defaults import DEFAULT_DURATION_S, DEFAULT_EXAMPLE, DEFAULT_SEED
from acestep.request import DescriptionParams, GenerationConfig, GenerationParams, item_seeds
from harness.checks import shown
from harness.errors import BenchError, MissingPrerequisite, UsageError

FOLDER = Path(__file__).resolve().parents[2] / "examples"  # whatever the working directory
MUSIC = FOLDER / "text2music"
ALIASES = {"think": "thinking", "language": "vocal_language"}
RUN_FIELDS = ("batch_size", "seed")
PATH_FIELDS = ("src_audio", "reference_audio")
MAX_FILE_CHARS = 2**20  # the longest request there can be is a tenth of it
MAX_LISTED = 12


def music_example(name: str | None) -> Path:
    """The file that `name` is the path of, else the example of that name; without one the default example."""
    path = Path(DEFAULT_EXAMPLE if name is None else name)
    return path if exists(path) or path.parent != Path() else MUSIC / path


def load_example(path: Path) -> tuple[GenerationParams, GenerationConfig]:
    """Read a request to generate; `batch_size` and `seed` (DEFAULT_SEED) are of the run.

    Raises MissingPrerequisite when the file is absent or is not JSON, UsageError for a field that is
    unknown, given twice or out of range; both name the file.
    """
    with _named(path):
        data = _read(path, GenerationParams, RUN_FIELDS)
        batch, seed = data.pop("batch_size", 1), data.pop("seed", DEFAULT_SEED)
        if not data.keys() & {"src_audio", "audio_codes"}:  # which say how long they are
            data.setdefault("duration", DEFAULT_DURATION_S)
        config = GenerationConfig(batch_size=batch)
        return GenerationParams(**data), dataclasses.replace(config, seeds=item_seeds(seed, batch))


def load_description(path: Path) -> DescriptionParams:
    """Read a request to understand, create or format. Raises as `load_example` does."""
    with _named(path):
        return DescriptionParams(**_read(path, DescriptionParams))


def read_text(path: Path) -> str:
    """The text of a file, at most a million characters of it: a device that never ends is none.

    Raises MissingPrerequisite when it cannot be read, UsageError when it is longer.
    """
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(MAX_FILE_CHARS + 1)
    except OSError as error:
        raise MissingPrerequisite(f"cannot be read: {error.strerror}") from None
    except ValueError as error:  # bytes that are no UTF-8, a path that no file can have
        raise MissingPrerequisite(f"cannot be read as text: {error}") from None
    if len(text) > MAX_FILE_CHARS:
        raise UsageError(f"over {MAX_FILE_CHARS:,} characters are too many; use a smaller file")
    return text


def exists(path: Path) -> bool:
    """Whether there is such a file; one with a name that no file can have is not there."""
    try:
        return path.exists()
    except OSError:
        return False


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Errors say which example they are about."""
    try:
        yield
    except BenchError as error:
        raise type(error)(f"example {str(path)!r}: {error}") from None


def _read(path: Path, kind: type, more: tuple[str, ...] = ()) -> dict[str, Any]:
    """Fields of the JSON object in `path`, by the names `kind` has for them."""
    if not exists(path):
        there = sorted(beside.name for beside in path.parent.glob("*.json"))[:MAX_LISTED]
        raise MissingPrerequisite(f"no such file; beside it: {', '.join(there) or 'no other'}")
    try:
        data = json.loads(read_text(path), object_pairs_hook=_fields)
    except (ValueError, RecursionError) as error:
        raise MissingPrerequisite(f"not JSON: {error}") from None
    if not isinstance(data, dict):
        raise UsageError(f"the top level is a {type(data).__name__}, not an object")
    known = [*(field.name for field in dataclasses.fields(kind)), *more]
    for name in data:
        if ALIASES.get(name, name) not in known:
            allowed = ", ".join([*known, *(alias for alias, ours in ALIASES.items() if ours in known)])
            raise UsageError(f"unknown field {shown(name)}; allowed: {allowed}")
    fields = {ALIASES.get(str(name), str(name)): value for name, value in data.items()}
    return {name: _beside(path, value) if name in PATH_FIELDS else value for name, value in fields.items()}


def _fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object. What is given twice, under whichever name, has no one meaning."""
    for name, times in Counter(ALIASES.get(name, name) for name, _ in pairs).items():
        if times > 1:
            raise UsageError(f"field {shown(name)} is given twice; keep one of them")
    return dict(pairs)


def _beside(path: Path, value: Any) -> Any:
    """Audio paths in an example are relative to it. What is no path stays, to be refused as it was given."""
    paths = value if isinstance(value, list) else [value]
    beside = [str(path.parent / name) if isinstance(name, str) and name else name for name in paths]
    return beside if isinstance(value, list) else beside[0]
