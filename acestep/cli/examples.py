"""Requests in files: JSON, one request each, such as those of `examples/`.

    {"caption": "slow dub techno", "duration": 30, "think": true, "seed": 7}

A key is a field of `GenerationParams` or `DescriptionParams`, or of the run, by our name or upstream's
(`acestep.cli.upstream`), or `preset`; null is what nobody chose. Paths of audio are
relative to the file's own folder.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from acestep.cli.seeds import seed_of
from acestep.cli.upstream import LeftOut, field_name, leave_to_the_mode, translate
from acestep.defaults import DEFAULT_EXAMPLE, DEFAULT_SEED
from acestep.fields import REFUSED
from acestep.presets import FIXED, PRESETS, Preset, named, requested
from acestep.request import DescriptionParams, GenerationConfig, GenerationParams
from acestep.spelling import open_values
from acestep.tasks import takes
from harness.adjustments import Adjustments
from harness.checks import shown
from harness.errors import BenchError, MissingPrerequisite, UsageError
from harness.reading import read_text
from harness.subject import item_seeds

FOLDER = Path(__file__).resolve().parents[2] / "examples"  # whatever the working directory
MUSIC = FOLDER / "text2music"
INPUTS = FOLDER / "inputs"  # reference inputs, with their hashes
RUN_FIELDS = ("batch_size", "seed", "seeds", "audio_format", "mp3_bitrate", "mp3_sample_rate")
PATH_FIELDS = ("src_audio", "reference_audio")
MAX_LISTED = 12


def music_example(name: str | None) -> Path:
    """The file that `name` is the path of, else the reference input or the example of that name; without one
    the default example."""
    path = Path(DEFAULT_EXAMPLE if name is None else name)
    if exists(path) or path.parent != Path():
        return path
    reference = INPUTS / f"{path}.json"
    return reference if exists(reference) else MUSIC / path


def load_example(
    path: Path,
    left_out: LeftOut | None = None,
    preset: Preset | None = None,
    otherwise: Preset = PRESETS[FIXED],
) -> tuple[GenerationParams, GenerationConfig]:
    """Read a request to generate; `batch_size`, `seed` (DEFAULT_SEED; -1 draws) and format are of the run.

    What the file does not say is `preset`'s; without one that of the preset which the file names, or of
    `otherwise`. `left_out` learns what the file says and nothing here does;
    without it, a request for such is refused. Raises MissingPrerequisite when the file is absent or is not
    JSON, UsageError for fields that are unknown, given twice or out of range; both name the file.
    """
    with _named(path):
        fields = _read(path, GenerationParams, left_out, (*RUN_FIELDS, "preset"))
        own = fields.pop("preset", None)
        preset = preset or (otherwise if own in (None, "") else named(own))
        run = {name: fields.pop(name) for name in RUN_FIELDS if name in fields}
        run = {name: value for name, value in run.items() if name == "seed" or value not in (None, "")}
        if not fields.keys() & {"src_audio", "audio_codes"}:  # which say how long they are
            fields.setdefault("duration", preset.file_duration_s)
        fields |= {name: getattr(preset.params, name) for name in preset.over_files}
        return dataclasses.replace(preset.params, **fields), configured(preset.config, **run)


def load_description(path: Path, left_out: LeftOut | None = None) -> DescriptionParams:
    """Read a request to understand, create or format. Raises as `load_example` does."""
    with _named(path):
        return DescriptionParams(**_read(path, DescriptionParams, left_out))


def start(preset: Preset) -> tuple[GenerationParams, GenerationConfig]:
    """The request of a preset, where there is no file."""
    return preset.params, configured(preset.config)


def configured(
    start: GenerationConfig, seed: Any = DEFAULT_SEED, seeds: Any = None, **run: Any
) -> GenerationConfig:
    """The run `start`, which has no seeds, with fields of a file or of flags over it. `seed`: of
    the first item, as `seed_of` reads it."""
    config = dataclasses.replace(start, **run)
    if seeds is None and (first := seed_of(seed)) is not None:
        seeds = item_seeds(first, config.batch_size)
    return dataclasses.replace(config, seeds=seeds)


def exists(path: Path) -> bool:
    """Whether there is such a file; one with a name that no file can have is not there."""
    try:
        return path.exists()
    except OSError:
        return False


def overlaid(
    params: GenerationParams,
    changes: Mapping[str, Any],
    left_out: LeftOut,
    start: GenerationParams = PRESETS[FIXED].params,
) -> GenerationParams:
    """An example's request, which began with `start`, with the `changes` of flags over it.

    What the example has for its own task, or for a length that is no longer its own, gives way to them, and
    `left_out` notes it: the flags did not ask for it. What is refused elsewhere still is, with UsageError.
    """
    task = changes.get("task_type", params.task_type)
    chosen = requested(params, start)
    own = {name for name in chosen if takes(params.task_type, name) and not takes(task, name)}
    own -= {*REFUSED}
    if changes.get("src_audio") or changes.get("audio_codes"):
        own |= {"duration", "thinking"} & chosen.keys()
    if own := sorted(own - changes.keys()):
        left_out.notes.append(f"{', '.join(own)}: the example's, without a use beside the flags; left out")
    return dataclasses.replace(params, **{name: getattr(start, name) for name in own} | dict(changes))


def example_names(
    path: Path,
    params: GenerationParams,
    changes: Container[str],
    start: GenerationParams = PRESETS[FIXED].params,
) -> dict[str, str]:
    """How errors name what the example at `path` has chosen, beside `start`, and no flag has changed."""
    chosen = requested(params, start)
    return {name: f"example {str(path)!r}: {name}" for name in chosen if name not in changes}


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Errors say which example they are about."""
    try:
        yield
    except BenchError as error:
        raise type(error)(f"example {str(path)!r}: {error}") from None


def _read(path: Path, kind: type, left_out: LeftOut | None, more: tuple[str, ...] = ()) -> dict[str, Any]:
    """Fields of the JSON object in `path`, by the names `kind` has for them."""
    if not exists(path):
        there = sorted(beside.name for beside in path.parent.glob("*.json"))[:MAX_LISTED]
        raise MissingPrerequisite(f"no such file; beside it: {', '.join(there) or 'no other'}")
    names = [*(field.name for field in dataclasses.fields(kind)), *more]
    try:
        data = json.loads(read_text(path), object_pairs_hook=partial(_fields, names))
    except (ValueError, RecursionError) as error:
        raise MissingPrerequisite(f"not JSON: {error}") from None
    if not isinstance(data, dict):
        raise UsageError(f"the top level is a {type(data).__name__}, not an object")
    left_out = left_out or LeftOut(Adjustments(strict=True))
    fields = translate(data, names, left_out)
    leave_to_the_mode(fields, left_out)
    may_be_open = {*open_values(kind), *more}
    fields = {name: value for name, value in fields.items() if value is not None or name in may_be_open}
    return {name: _beside(path, value) if name in PATH_FIELDS else value for name, value in fields.items()}


def _fields(names: Sequence[str], pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object. What is given twice, under whichever name, has no one meaning."""
    for name, times in Counter(field_name(name, names) for name, _ in pairs).items():
        if times > 1:
            raise UsageError(f"field {shown(name)} is given twice; keep one of them")
    return dict(pairs)


def _beside(path: Path, value: Any) -> Any:
    """Audio paths in an example are relative to it. What is no path stays, to be refused as it was given."""
    paths = value if isinstance(value, list) else [value]
    beside = [str(path.parent / name) if isinstance(name, str) and name else name for name in paths]
    return beside if isinstance(value, list) else beside[0]
