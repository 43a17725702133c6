"""The request a command line asks for: an example of the repository with flags over it.

The switches that make the language model plan are off unless given, also where an example has them on: what
is profiled is what the command line says.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from acestep.cli.examples import FOLDER, MUSIC, load_description, load_example
from acestep.defaults import DEFAULT_EXAMPLE, DEFAULT_SEED
from acestep.profiler.flags import CREATE, FORMAT, UNDERSTAND
from acestep.request import (
    DURATION_RANGE_S,
    DescriptionParams,
    GenerationConfig,
    GenerationParams,
    item_seeds,
)
from harness.checks import shown, within
from harness.errors import UsageError
from harness.flags import text
from harness.reading import read_text

WORDS_EXAMPLES = {
    UNDERSTAND: FOLDER / "text" / "understand.json",
    CREATE: FOLDER / "text" / "create.json",
}
WORDS_INPUTS = {UNDERSTAND: ("audio_codes", "audio_codes"), CREATE: ("sample_query", "query")}  # flag, field
COT_SWITCHES = ("use_cot_metas", "use_cot_caption", "use_cot_language")
PLANNING = ("thinking", *COT_SWITCHES)
SHORTEST_S = 10.0
LM_DECIDES = -1  # as a duration
DRAWN = -1  # as a seed


def requested(mode: str, settings: Mapping[str, Any], origins: dict[str, str]) -> dict[str, Any]:
    """`config` with the `params` or the `description` of the request; `origins` learns what the example says.

    Raises UsageError for a value out of range, MissingPrerequisite for a file that is not there.
    """
    seed = settings.get("seed")
    if seed == DRAWN:
        seed = int.from_bytes(os.urandom(4))  # 0 to MAX_SEED
    if mode in WORDS_EXAMPLES:
        description = _described(mode, settings, seed, origins)
        return {"config": GenerationConfig(), "description": description}
    params, config = _example(settings.get("example", DEFAULT_EXAMPLE), origins)
    if mode == FORMAT:
        return {"config": GenerationConfig(), "description": _rewritten(params, settings, seed)}
    (first, *_) = config.seeds or (DEFAULT_SEED,)
    config = GenerationConfig(settings.get("batch_size", config.batch_size))
    config = replace(config, seeds=item_seeds(first if seed is None else seed, config.batch_size))
    return {"config": config, "params": _music(params, settings)}


def _example(name: str, origins: dict[str, str]) -> tuple[GenerationParams, GenerationConfig]:
    """The request of an example, and which flags have their value from it."""
    if Path(name).name != name or Path(name).suffix != ".json":
        raise UsageError(f"example: {shown(name)} is not allowed; name a .json file of examples/text2music")
    path = MUSIC / name
    request = load_example(path)
    for field in json.loads(read_text(path)):
        if origins.get(field) == "default" and field not in PLANNING:
            origins[field] = "example"
    return request


def _music(params: GenerationParams, settings: Mapping[str, Any]) -> GenerationParams:
    """The example's request with the flags over it."""
    known = {known.name for known in fields(GenerationParams)}
    changes = {name: value for name, value in settings.items() if name in known}
    changes |= {name: name in settings for name in PLANNING}
    changes["use_constrained_decoding"] = "no_constrained_decoding" not in settings
    if changes.get("duration") == LM_DECIDES:
        changes["duration"] = None
        if not changes["use_cot_metas"]:
            raise UsageError("duration: -1 leaves it to the language model; add --use-cot-metas, or name one")
    elif "duration" in changes:
        within("duration", changes["duration"], SHORTEST_S, DURATION_RANGE_S[1])
    elif "src_audio" in changes:
        changes["duration"] = None  # the recording's, not that of an example which knows none
    return replace(params, **changes)


def _described(
    mode: str, settings: Mapping[str, Any], seed: int | None, origins: dict[str, str]
) -> DescriptionParams:
    """The codes or the query on the command line, else an example's."""
    flag, name = WORDS_INPUTS[mode]
    if flag in settings:
        params = replace(DescriptionParams(), **{name: text(flag, settings[flag])})
    else:
        params = load_description(WORDS_EXAMPLES[mode])
        origins[flag] = "example"
    if "instrumental" in settings:
        params = replace(params, instrumental=True)
    return _sampled(params, settings, seed)


def _rewritten(params: GenerationParams, settings: Mapping[str, Any], seed: int | None) -> DescriptionParams:
    """Caption, lyrics and metadata of an example."""
    shared = ("caption", "lyrics", "bpm", "keyscale", "timesignature", "vocal_language")
    values: dict[str, Any] = {name: getattr(params, name) for name in shared}
    if params.duration is not None:
        values["duration"] = int(params.duration)
    return _sampled(DescriptionParams(**values), settings, seed)


def _sampled(params: DescriptionParams, settings: Mapping[str, Any], seed: int | None) -> DescriptionParams:
    temperature = settings.get("lm_temperature", params.temperature)
    within("lm_temperature", temperature, 0.0, 2.0)
    constrained = "no_constrained_decoding" not in settings
    seed = params.seed if seed is None else seed
    return replace(params, temperature=temperature, seed=seed, use_constrained_decoding=constrained)
