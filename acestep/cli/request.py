"""The request a command line asks for: an example, or a preset alone, with the flags and settings over it."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from acestep.cli.examples import (
    RUN_FIELDS,
    configured,
    example_names,
    load_description,
    load_example,
    music_example,
    overlaid,
    start,
)
from acestep.cli.seeds import one_seed
from acestep.cli.upstream import LeftOut, field_name, translate
from acestep.presets import FIXED, PRESETS, named
from acestep.request import DescriptionParams, GenerationConfig, GenerationParams
from harness import console, flags
from harness.adjustments import Adjustments
from harness.checks import shown
from harness.errors import UsageError
from harness.flags import spelled

GIVEN = ("caption", "lyrics", "codes", "src_audio", "task")  # a request of its own needs no example


class Request(NamedTuple):
    """What a command line asks to generate. `origins`: how errors name the fields that an example chose."""

    params: GenerationParams
    config: GenerationConfig
    left_out: LeftOut
    origins: Mapping[str, str]


def requested_music(arguments: argparse.Namespace) -> Request:
    """The example's request, or an empty one, with the flags over it."""
    left_out = LeftOut(Adjustments(arguments.strict))
    values = {
        "task_type": arguments.task,
        "src_audio": arguments.src_audio,
        "reference_audio": arguments.reference_audio,
        "audio_codes": flag_text("--codes", arguments.codes),
        "caption": arguments.caption,
        "lyrics": flag_text("--lyrics", arguments.lyrics),
        "duration": arguments.duration,
        "inference_steps": arguments.steps,
        "thinking": arguments.thinking,
        "batch_size": arguments.batch_size,
        "seed": arguments.seed,
        "audio_format": arguments.format,
        "preset": arguments.preset,
    }
    changes = _changes(GenerationParams, values, arguments.set, left_out)
    run = {name: changes.pop(name) for name in RUN_FIELDS if name in changes}
    if arguments.seed is not None and run.get("seeds") is not None:
        raise UsageError("seeds: given together with --seed; use one of them")
    own = changes.pop("preset", None)
    preset = None if own in (None, "") else named(own)
    example = arguments.example
    if example is None and any(getattr(arguments, name) is not None for name in GIVEN):
        params, config = start(preset or PRESETS[FIXED])
        names = {}
    else:
        path = music_example(example)
        params, config = load_example(path, left_out, preset)
        names = example_names(path, params, changes, PRESETS[config.preset].params)
    with spelled(names):
        params = overlaid(params, changes, left_out, PRESETS[config.preset].params)
    return Request(params, _config(config, run), left_out, names)


def _config(config: GenerationConfig, run: dict[str, Any]) -> GenerationConfig:
    """The run an example asks for, with the fields `run` over it."""
    if not run.keys() & {"seed", "seeds"}:
        same_size = run.get("batch_size", config.batch_size) == config.batch_size
        run |= {"seeds": config.seeds if same_size else None, "seed": next(iter(config.seeds or ()), None)}
    return configured(dataclasses.replace(config, seeds=None), **run)


def requested_words(arguments: argparse.Namespace, **values: Any) -> DescriptionParams:
    """The example's description, or an empty one, with `values` and the flags over it."""
    left_out = LeftOut(Adjustments(arguments.strict))
    params = load_description(arguments.example, left_out) if arguments.example else DescriptionParams()
    values |= {
        "vocal_language": arguments.language,
        "max_lyrics_tokens": arguments.max_tokens,
    }
    if arguments.seed is not None:
        values["seed"] = one_seed(arguments.seed, left_out.notes)
    changes = _changes(DescriptionParams, values, arguments.set, left_out)
    console.warn("acestep", left_out.warnings)
    return dataclasses.replace(params, **changes)


def _changes(
    kind: type, values: Mapping[str, Any], settings: Sequence[str], left_out: LeftOut
) -> dict[str, Any]:
    """What flags and `name=value` settings give, by `field_names`; `values` of None were not given.

    Settings may have every name that a request file may.
    """
    names = field_names(kind)
    texts = {field.name for field in dataclasses.fields(kind) if str(field.type).startswith("str")}
    typed = {}
    for setting in settings:
        word, equals, value = setting.partition("=")
        if not equals:
            raise UsageError(f"--set: {shown(setting)} has no value; use NAME=VALUE")
        name = field_name(word, names)
        typed[name] = value if name in texts else _value(value)
    flags = {name: value for name, value in values.items() if value is not None}
    changes = translate(typed, names, left_out)
    if both := sorted(flags.keys() & changes.keys()):
        raise UsageError(f"{', '.join(both)}: given by a flag and by --set; keep one of them")
    return flags | changes


def field_names(kind: type) -> list[str]:
    """Fields that a request of `kind` may have, those of its run among them."""
    of_run = (*RUN_FIELDS, "preset") if kind is GenerationParams else ()
    return [*(field.name for field in dataclasses.fields(kind)), *of_run]


def _value(text: str) -> Any:
    """A number, a truth value or a list where it reads as JSON, else the text itself."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def flag_text(name: str, value: str | None) -> str | None:
    """The text of the flag `name`, or of the file it names; None where it was not given."""
    return None if value is None else flags.text(name, value)
