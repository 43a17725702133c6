"""The commands of `python -m acestep`: from parsed flags to an engine's answer on the terminal.

Everything that can be refused is refused before torch is imported, which is what `setup` and `resolve`
are for.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from acestep import components, resolver
from acestep.audio.wav_stream import STREAMED, WavStream
from acestep.cli import report
from acestep.cli.request import Request, field_names, flag_text, requested_music, requested_words
from acestep.cli.upstream import field_name
from acestep.defaults import CHUNK_S
from acestep.effective_plan import EffectivePlan
from acestep.progress import of_words, parts
from acestep.request import MAX_SEED, DescriptionParams, GenerationParams
from acestep.setup import Setup
from acestep.weights.layout import DEFAULT_DIT, LMS
from harness import console, flags
from harness.checks import check_threads, shown, within
from harness.errors import MissingPrerequisite, UsageError
from harness.files import folder_for_audio
from harness.flags import spelled
from harness.progress import following
from harness.text import harmless

if TYPE_CHECKING:
    from acestep.engine import Engine

OUTPUTS = Path("outputs")
FIELDS = {  # that a flag has another name for
    "inference_steps": "steps",
    "audio_codes": "codes",
    "task_type": "task",
    "vocal_language": "language",
    "max_lyrics_tokens": "max_tokens",
    "src_audio": "audio",
    "seeds": "seed",
    "audio_format": "format",
    "chunk_s": "chunk",
    "offload_to_cpu": "offload",
    "offload_dit_to_cpu": "offload_dit",
    "lm_model": "lm",
}


def run(arguments: argparse.Namespace, argv: Sequence[str]) -> int:
    """Run the command that was parsed from `argv`; an error names the flag that was typed."""
    kind = GenerationParams if arguments.run is generate else DescriptionParams
    fields = field_names(kind)
    words = [setting.partition("=")[0] for setting in getattr(arguments, "set", ())]
    settings = {field_name(word, fields): f"--set {word}" for word in words}
    with spelled(flags.spellings(arguments.parser, argv, FIELDS) | settings):
        return arguments.run(arguments)


def generate(arguments: argparse.Namespace) -> int:
    """Make music, or say what would run."""
    request = requested_music(arguments)
    with spelled(request.origins):
        return _generate(arguments, request)


def _generate(arguments: argparse.Namespace, request: Request) -> int:
    setup = _setup(arguments, want_lm=request.params.uses_lm)
    plan = resolver.resolve(request.params, request.config, setup)
    if components.LM not in plan.components:
        for name, asked in (("lm", arguments.lm), ("lm_backend", arguments.lm_backend)):
            if asked not in ("auto", "none"):
                request.left_out.changes.note(name, asked, None, "has nothing to plan")
    plan = _streamed(arguments, request.left_out.told_in(plan))
    if arguments.dry_run:
        report.print_plan(plan, as_json=arguments.json)
        return 0
    if setup.limits:
        console.say("acestep", plan.as_dict()["card"])
    if arguments.stream:
        return _stream(arguments, setup, plan)
    folder = arguments.out or OUTPUTS
    folder_for_audio("--out", folder)
    with following("loading", parts(plan)) as progress:
        engine = _engine(arguments, setup, plan.components)
        progress.begin("generating")
        result = engine.run(plan, folder)
    report.print_generation(result, engine.load_s, as_json=arguments.json)
    return 1 if any(item.silent for item in result.audios) else 0


def _streamed(arguments: argparse.Namespace, plan: EffectivePlan) -> EffectivePlan:
    """The plan as it is streamed, if it is. Refuses what cannot go to standard output while it is made."""
    if not arguments.stream:
        if arguments.chunk is not None:
            raise UsageError("chunk_s: has no use without --stream -; drop it")
        return plan
    if arguments.stream != "-":
        raise UsageError(f"--stream: {shown(arguments.stream)} is not allowed; use - > FILE, or --out")
    if arguments.out:
        raise UsageError("--out: given together with --stream, which writes no file; use one of them")
    if plan.config.batch_size > 1:
        items = plan.config.batch_size
        raise UsageError(f"batch_size: {items} items are more than one stream holds; use --batch-size 1")
    if plan.config.audio_format not in STREAMED:
        formats = " or ".join(STREAMED)
        raise UsageError(
            f"audio_format: {plan.config.audio_format} is not written as it comes; use --format {formats}"
        )
    if not arguments.dry_run and (sys.__stdout__ is None or sys.stdout.isatty()):
        raise UsageError("--stream: standard output is no place for audio; use | PLAYER, or > FILE")
    return resolver.streamed(plan, _chunk_s(arguments))


def _chunk_s(arguments: argparse.Namespace) -> float:
    return CHUNK_S if arguments.chunk is None else arguments.chunk


def _stream(arguments: argparse.Namespace, setup: Setup, plan: EffectivePlan) -> int:
    """Make music on standard output while it is decoded; what is said of it goes to standard error."""
    with following("loading", parts(plan)) as progress:
        engine = _engine(arguments, setup, plan.components)
        progress.begin("streaming")
        wav = None
        with engine.run_stream(plan, chunk_s=_chunk_s(arguments)) as stream:
            for chunk in stream:
                if wav is None:
                    rate, samples = engine.models.sample_rate, stream.samples or 0
                    wav = WavStream(sys.stdout.buffer, plan.config.audio_format, rate, 2, samples)
                    seconds, first_s = samples / rate, chunk.t_s
                    console.say("acestep", f"{wav}, 2 channels, {seconds:g} s; begins after {first_s:.2f} s")
                wav.write(chunk.samples[0].T.numpy())
        result = stream.result
    assert result
    with contextlib.redirect_stdout(sys.stderr):
        report.print_generation(result, engine.load_s, as_json=arguments.json)
    return 1 if any(item.silent for item in result.audios) else 0


def understand(arguments: argparse.Namespace) -> int:
    """Put audio codes, or a recording, into words."""
    if arguments.codes and arguments.audio:
        raise UsageError("--codes: given together with --audio; use one of them")
    params = requested_words(arguments, audio_codes=flag_text("--codes", arguments.codes))
    setup = _text_setup(arguments, params, "understand")
    recording = None
    if arguments.audio:
        recording = _recording(arguments.audio, setup)
    with following("understanding", of_words(params)):
        engine = _engine(arguments, setup, components.TEXT)
        if recording:
            params = dataclasses.replace(params, audio_codes=engine.encode(recording))
        result = engine.understand(params)
    report.print_description(result, engine.load_s, as_json=arguments.json)
    return 0


def create(arguments: argparse.Namespace) -> int:
    """Describe a song from a few words about it."""
    params = requested_words(arguments, query=arguments.query, instrumental=arguments.instrumental)
    setup = _text_setup(arguments, params, "create")
    with following("writing", of_words(params)):
        engine = _engine(arguments, setup, components.TEXT)
        result = engine.create(params)
    report.print_description(result, engine.load_s, as_json=arguments.json)
    return 0


def format(arguments: argparse.Namespace) -> int:
    """Rewrite a caption and lyrics."""
    params = requested_words(
        arguments, caption=arguments.caption, lyrics=flag_text("--lyrics", arguments.lyrics)
    )
    setup = _text_setup(arguments, params, "format")
    with following("rewriting", of_words(params)):
        engine = _engine(arguments, setup, components.TEXT)
        result = engine.format(params)
    report.print_description(result, engine.load_s, as_json=arguments.json)
    return 0


def codes(arguments: argparse.Namespace) -> int:
    """Print the audio codes of a recording; as JSON they are a request file."""
    setup = _setup(arguments)
    recording = _recording(arguments.audio, setup)
    with following("encoding"):
        text = _engine(arguments, setup, components.ENCODING).encode(recording)
    print(json.dumps({"audio_codes": text}) if arguments.json else text)
    return 0


def write(arguments: argparse.Namespace) -> int:
    """Write a synthetic checkpoint in the published layout."""
    within("--seed", arguments.seed, 0, MAX_SEED, kind=int)
    from acestep.weights.synthetic import Synthetic, write
    from harness.checkpoint_writing import writing

    source = Synthetic(arguments.source, arguments.seed)
    dits, lms = tuple(arguments.dit or (DEFAULT_DIT,)), tuple(arguments.lm or LMS[:1])
    with writing(arguments.folder):
        folders = write(source, arguments.folder, dits, lms)
    for folder in folders:
        print(harmless(str(folder)))
    return 0


def _recording(path: str, setup: Setup) -> EffectivePlan:
    """The plan that encodes a recording; says how much of it is left out. Refuses one that cannot be read."""
    plain = dataclasses.replace(setup, adjustments=(), notes=())  # of the models; told with the result
    plan = resolver.resolve_recording(path, plain)
    console.warn("acestep", plan.warnings)
    return plan


def _setup(arguments: argparse.Namespace, want_lm: bool = False) -> Setup:
    """The engine the flags ask for. A language model nobody wants is not loaded for one command."""
    check_threads(arguments.threads)
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
        lm_quantization=arguments.lm_quantization,
        compile=arguments.compile,
        graphs=arguments.graphs,
        strict=arguments.strict,
        no_limits=arguments.no_limits,
        policy=arguments.policy,
        place=arguments.place,
    )


def _text_setup(arguments: argparse.Namespace, params: DescriptionParams, mode: str) -> Setup:
    """A setup with a language model; without one there are no words. A strict one changes no `params`."""
    setup = _setup(arguments, want_lm=True)
    if setup.lm is None:
        raise MissingPrerequisite(f"--lm: {setup.no_lm}")
    resolver.resolve_description(params, mode, setup)
    return setup


def _engine(arguments: argparse.Namespace, setup: Setup, preload: Sequence[str]) -> Engine:
    """The engine of a setup, with the components to `preload`."""
    from acestep.engine import Engine

    return Engine.from_setup(setup, threads=arguments.threads, preload=preload)
