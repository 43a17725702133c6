"""The commands of `python -m acestep`: from parsed flags to an engine's answer on the terminal.

Everything that can be refused is refused before torch is imported, which is what `setup` and `resolve`
are for.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acestep import components, resolver
from acestep.audio import files as audio_file
from acestep.cli import report
from acestep.cli.examples import load_description, load_example, music_example, read_text
from acestep.defaults import DEFAULT_SEED
from acestep.request import MAX_SEED, DescriptionParams, GenerationConfig, GenerationParams, item_seeds
from acestep.resolver import EffectivePlan
from acestep.setup import Setup
from acestep.weights.layout import DEFAULT_DIT, LMS
from harness import console
from harness.checks import shown, within
from harness.errors import BenchError, MissingPrerequisite, UsageError
from harness.text import harmless

if TYPE_CHECKING:
    from acestep.engine import Engine

MAX_THREADS = 1024  # torch dies of some ten thousand, without a word
GIVEN = ("caption", "lyrics", "codes", "src_audio", "task")  # a request of its own needs no example


def generate(arguments: argparse.Namespace) -> int:
    """Make music, or say what would run."""
    params, config = _request(arguments)
    setup = _setup(arguments, want_lm=params.uses_lm)
    plan = resolver.resolve(params, config, setup)
    if arguments.dry_run:
        report.print_plan(plan, as_json=arguments.json)
        return 0
    if setup.limits:
        console.say("acestep", plan.as_dict()["card"])
    _check_folder(arguments.out)
    engine = _engine(arguments, setup, plan.components)
    result = engine.run(plan, arguments.out)
    report.print_generation(result, engine.load_s, as_json=arguments.json)
    return 1 if any(item.silent for item in result.audios) else 0


def understand(arguments: argparse.Namespace) -> int:
    """Put audio codes, or a recording, into words."""
    if arguments.codes and arguments.audio:
        raise UsageError("--codes: given together with --audio; use one of them")
    params = _description(arguments, audio_codes=_text(arguments.codes))
    setup = _text_setup(arguments, params)
    recording = None
    if arguments.audio:
        audio_file.probe(arguments.audio, "--audio")
        recording = _recording(arguments.audio, setup)
    engine = _engine(arguments, setup, components.TEXT)
    if recording:
        params = dataclasses.replace(params, audio_codes=engine.encode(recording))
    report.print_description(engine.understand(params), engine.load_s, as_json=arguments.json)
    return 0


def create(arguments: argparse.Namespace) -> int:
    """Describe a song from a few words about it."""
    params = _description(arguments, query=arguments.query, instrumental=arguments.instrumental)
    engine = _engine(arguments, _text_setup(arguments, params), components.TEXT)
    report.print_description(engine.create(params), engine.load_s, as_json=arguments.json)
    return 0


def format(arguments: argparse.Namespace) -> int:
    """Rewrite a caption and lyrics."""
    params = _description(arguments, caption=arguments.caption, lyrics=_text(arguments.lyrics))
    engine = _engine(arguments, _text_setup(arguments, params), components.TEXT)
    report.print_description(engine.format(params), engine.load_s, as_json=arguments.json)
    return 0


def codes(arguments: argparse.Namespace) -> int:
    """Print the audio codes of a recording."""
    setup = _setup(arguments)
    recording = _recording(arguments.audio, setup)
    print(_engine(arguments, setup, components.ENCODING).encode(recording))
    return 0


def write(arguments: argparse.Namespace) -> int:
    """Write a synthetic checkpoint in the published layout."""
    within("--seed", arguments.seed, 0, MAX_SEED, kind=int)
    from acestep.weights.synthetic import Synthetic, write

    source = Synthetic(arguments.source, arguments.seed)
    try:
        folders = write(
            source,
            arguments.folder,
            dits=tuple(arguments.dit or (DEFAULT_DIT,)),
            lms=tuple(arguments.lm or LMS[:1]),
        )
    except OSError as error:
        raise MissingPrerequisite(
            f"{str(arguments.folder)!r}: cannot write the checkpoint: {error}"
        ) from None
    for folder in folders:
        print(harmless(str(folder)))
    return 0


def _recording(path: str, setup: Setup) -> EffectivePlan:
    """The plan that encodes a recording; says how much of it is left out. Refuses one that cannot be read."""
    plain = dataclasses.replace(setup, adjustments=(), notes=())  # of the models; told with the result
    plan = resolver.resolve_recording(path, plain)
    report.warn(plan.warnings)
    return plan


def _check_folder(folder: Path) -> None:
    """Refuse a place that cannot be written before minutes are spent on what belongs there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise MissingPrerequisite(f"--out: {str(folder)!r}: cannot write audio: {error.strerror}") from None


def _request(arguments: argparse.Namespace) -> tuple[GenerationParams, GenerationConfig]:
    """The example's request, or an empty one, with the flags over it."""
    example = arguments.example
    if example is None and any(getattr(arguments, name) is not None for name in GIVEN):
        params, config = GenerationParams(), GenerationConfig(seeds=(DEFAULT_SEED,))
    else:
        params, config = load_example(music_example(example))
    flags = {
        "task_type": arguments.task,
        "src_audio": arguments.src_audio,
        "reference_audio": arguments.reference_audio,
        "audio_codes": _text(arguments.codes),
        "caption": arguments.caption,
        "lyrics": _text(arguments.lyrics),
        "duration": arguments.duration,
        "inference_steps": arguments.steps,
        "thinking": arguments.thinking,
    }
    params = _replace(params, flags, arguments.set)
    size = config.batch_size if arguments.batch_size is None else arguments.batch_size
    first = arguments.seed if arguments.seed is not None else (config.seeds or (DEFAULT_SEED,))[0]
    config = GenerationConfig(size, audio_format=arguments.format)  # refuse a bad size before its seeds
    return params, dataclasses.replace(config, seeds=item_seeds(first, size))


def _description(arguments: argparse.Namespace, **flags: Any) -> DescriptionParams:
    params = load_description(arguments.example) if arguments.example else DescriptionParams()
    shared = {
        "vocal_language": arguments.language,
        "max_lyrics_tokens": arguments.max_tokens,
        "seed": arguments.seed,
    }
    return _replace(params, flags | shared, arguments.set)


def _replace(params: Any, flags: dict[str, Any], settings: list[str]) -> Any:
    """`params` with the flags that were given, and with `name=value` settings."""
    known = {field.name: str(field.type) for field in dataclasses.fields(params)}
    changes = {name: value for name, value in flags.items() if value is not None}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or name not in known:
            names = ", ".join(sorted(known))
            raise UsageError(
                f"--set: {shown(setting)} names no field; use NAME=VALUE, where NAME is one of {names}"
            )
        changes[name] = value if known[name].startswith("str") else _value(value)
    return dataclasses.replace(params, **changes)


def _value(text: str) -> Any:
    """A number, a truth value or a list where it reads as JSON, else the text itself."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _text(value: str | None) -> str | None:
    """A flag's text; `@FILE` is what the file holds."""
    if value is None or not value.startswith("@"):
        return value
    try:
        return read_text(Path(value[1:])).strip("\n")
    except BenchError as error:
        raise type(error)(f"{value!r}: {error}") from None


def _setup(arguments: argparse.Namespace, want_lm: bool = False) -> Setup:
    """The engine the flags ask for. A language model nobody wants is not loaded for one command."""
    if arguments.threads is not None:
        within("--threads", arguments.threads, 1, MAX_THREADS, kind=int)
    return Setup.choose(
        arguments.source,
        device=arguments.device,
        dtype=arguments.dtype,
        dit=arguments.dit,
        lm=None if arguments.lm == "none" or (arguments.lm == "auto" and not want_lm) else arguments.lm,
        want_lm=want_lm,
        lm_backend=arguments.lm_backend,
        offload_to_cpu=arguments.offload,
        offload_dit_to_cpu=arguments.offload_dit,
        quantization=arguments.quantization,
        compile=arguments.compile,
        strict=arguments.strict,
        no_limits=arguments.no_limits,
    )


def _text_setup(arguments: argparse.Namespace, params: DescriptionParams) -> Setup:
    """A setup with a language model; without one there are no words. A strict one cuts none of `params`."""
    setup = _setup(arguments, want_lm=True)
    if setup.lm is None:
        raise MissingPrerequisite(f"--lm: no language model is loaded; load one, such as {LMS[0]}")
    resolver.description_changes(params, setup)
    return setup


def _engine(arguments: argparse.Namespace, setup: Setup, preload: Sequence[str]) -> Engine:
    """The engine of a setup, with the components to `preload`."""
    from acestep.engine import Engine

    return Engine.from_setup(setup, threads=arguments.threads, preload=preload)
