"""The request a command line asks for: an example of the repository with flags over it.

The preset is the guide's unless another is named: the switches that make the language model plan are off
unless given, also where an example has them on, so that what is profiled is what the command line says.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acestep.cli.examples import (
    FOLDER,
    example_names,
    exists,
    load_description,
    load_example,
    music_example,
    overlaid,
)
from acestep.cli.seeds import one_seed
from acestep.cli.upstream import LeftOut, field_name
from acestep.presets import GUIDE, PRESETS, Preset
from acestep.presets import requested as beyond
from acestep.profiler.flags import BENCHMARK, CREATE, FORMAT, UNDERSTAND
from acestep.request import (
    DURATION_RANGE_S,
    DescriptionParams,
    GenerationConfig,
    GenerationParams,
)
from harness.adjustments import Adjustments
from harness.checks import within
from harness.errors import UsageError
from harness.flags import text
from harness.reading import read_text
from harness.subject import item_seeds

if TYPE_CHECKING:
    from harness.records.schema import Input

WORDS_EXAMPLES = {
    UNDERSTAND: FOLDER / "text" / "understand.json",
    CREATE: FOLDER / "text" / "create.json",
}
WORDS_INPUTS = {UNDERSTAND: ("audio_codes", "audio_codes"), CREATE: ("sample_query", "query")}  # flag, field
COT_SWITCHES = ("use_cot_metas", "use_cot_caption", "use_cot_language")
AXES = ("duration", "batch_size", "thinking", "inference_steps")  # of a benchmark
SHORTEST_S = 10.0
LM_DECIDES = -1  # as a duration


@dataclass(frozen=True, slots=True)
class RequestFile:
    """The file of a request that flags and a matrix may change. `own`: what it comes to by itself."""

    path: Path
    sha256: str
    own: Mapping[str, Any]

    def input_of(self, requested: Mapping[str, Any]) -> Input:
        """What a request is of the file, and what it is not."""
        from harness.records.schema import Input  # not for `--help`

        changed = {name: value for name, value in requested.items() if self.own.get(name, value) != value}
        seeds = changed.pop("seeds", None)  # consecutive: the first says them all
        if seeds and seeds[:1] != (self.own["seeds"] or ())[:1]:
            changed["seed"] = seeds[0]
        return Input(name=self.path.stem, sha256=self.sha256, changed=changed)


def requested(mode: str, settings: Mapping[str, Any], origins: dict[str, str]) -> dict[str, Any]:
    """The fields of `Options` that say what is asked for; `origins` learns what the example says.

    Raises UsageError for a value out of range, MissingPrerequisite for a file that is not there.
    """
    left_out = LeftOut(Adjustments("strict" in settings))
    seed = one_seed(settings["seed"], left_out.notes) if "seed" in settings else None
    if mode in WORDS_EXAMPLES:
        description = _described(mode, settings, seed, origins)
        return {"config": GenerationConfig(), "description": description, "left_out": left_out}
    path = music_example(settings.get("example"))
    if exists(path) and path.is_fifo():
        raise UsageError(f"example: {str(path)!r} is a pipe, which is read once only; name a file")
    params, config = _example(path, left_out, PRESETS.get(settings.get("preset", "")), origins)
    preset = PRESETS[config.preset]
    own = asdict(params) | asdict(config)
    if mode == FORMAT:
        description, names = _rewritten(params, settings, seed), example_names(path, params, ())
        return {"config": GenerationConfig(), "description": description} | _of_file(left_out, names)
    if seed is None:
        seed = config.seeds[0] if config.seeds else one_seed(None, left_out.notes)
    config = replace(config, seeds=None, batch_size=settings.get("batch_size", config.batch_size))
    config = replace(config, seeds=item_seeds(seed, config.batch_size))
    changes = _changes(settings)
    names = example_names(path, params, {*changes, *(AXES if mode == BENCHMARK else ())}, preset.params)
    params = overlaid(params, changes, left_out, preset.params)
    if settings.get("duration") == LM_DECIDES and not params.use_cot_metas:
        raise UsageError("duration: -1 leaves it to the language model; add --use-cot-metas, or name one")
    if "preset" in settings:  # whose values stand where the file says nothing
        own["preset"] = None
    request_file = RequestFile(path, hashlib.sha256(path.read_bytes()).hexdigest(), own)
    return {"config": config, "params": params, "request_file": request_file} | _of_file(left_out, names)


def _of_file(left_out: LeftOut, names: Mapping[str, str]) -> dict[str, Any]:
    return {"left_out": left_out, "example_names": names}


def _example(
    path: Path, left_out: LeftOut, preset: Preset | None, origins: dict[str, str]
) -> tuple[GenerationParams, GenerationConfig]:
    """The request of an example, and which flags have their value from it, or from a named preset."""
    params, config = load_example(path, left_out, preset, PRESETS[GUIDE])
    names = [known.name for known in fields(GenerationParams)]
    in_file = {
        field_name(word, [*names, "batch_size", "seed", "preset"]) for word in json.loads(read_text(path))
    }
    preset, is_named = PRESETS[config.preset], preset or "preset" in in_file
    of_preset = preset.values(turbo=True) | beyond(preset.params, PRESETS[GUIDE].params) if is_named else ()
    origins |= {name: "preset" for name in of_preset if origins.get(name) == "default"}
    for name in in_file - {*preset.over_files}:
        if origins.get(name) in ("default", "preset"):
            origins[name] = "example"
    return params, config


def _changes(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What the flags say of the music. Raises UsageError."""
    known = {known.name for known in fields(GenerationParams)}
    changes = {name: value for name, value in settings.items() if name in known}
    if "no_constrained_decoding" in settings:
        changes["use_constrained_decoding"] = False
    if changes.get("duration") == LM_DECIDES:
        changes["duration"] = None
    elif "duration" in changes:
        within("duration", changes["duration"], SHORTEST_S, DURATION_RANGE_S[1])
    return changes


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
