"""Make music, put it into words, or write a synthetic checkpoint; every command says what it costs.

python -m acestep                                   # what the card here is: tier, limits, defaults
python -m acestep --list-devices                    # all devices here, and which of them auto takes
python -m acestep fits 8                            # does a song fit a card of 8 GB? also fits "RTX 4060"
python -m acestep generate --example example_05.json
python -m acestep generate --task cover --src-audio song.flac --dry-run
python -m acestep create "a sea shanty about maintenance" --json
python -m acestep codes song.flac > song.codes && python -m acestep understand --codes @song.codes
python -m acestep write-checkpoint synthetic-tiny checkpoints
"""

from __future__ import annotations

if __name__ == "__main__":  # before anything else is imported
    from harness import interrupts

    interrupts.end_quietly()

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from acestep.cli import card, commands
from acestep.defaults import CHUNK_S, DEFAULT_DURATION_S, DEFAULT_SEED, EXAMPLE_NAMES
from acestep.gpu_config import GUIDE, POLICIES
from acestep.lm.backends.registry import BACKENDS
from acestep.placement import PARTS
from acestep.presets import FIXED, PRESETS
from acestep.request import AUDIO_FORMATS
from acestep.tasks import TASKS
from acestep.weights.layout import DEFAULT_DIT, DITS, LMS, SYNTHETIC
from harness import console
from harness.console import LISTING, LISTING_HELP, Answer, Parser, named
from harness.dtypes import AUTO
from harness.dtypes import NAMES as DTYPES
from harness.errors import BenchError
from harness.flags import number, whole
from harness.quantization import LM_QUANTIZATIONS, QUANTIZATIONS


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command, or without one say what the card here is; returns the exit code.

    That is 0 done, 1 failed, 2 usage, 3 a prerequisite is missing, 4 a bug.
    """
    words = [*(sys.argv[1:] if argv is None else argv)]

    def command() -> int:
        if not words:
            return card.show()
        return commands.run(_parser().parse_args(words), words)

    # Of `fits` 1 says that a song does not fit, and nothing else.
    failed = console.BUG if words[:1] == ["fits"] else BenchError.exit_code
    return console.run("acestep", command, failed=failed)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m acestep",
        description="ACE-Step 1.5 music generation, measured.",
    )
    parser.add_argument("--list-devices", action=Answer, const=LISTING, help=LISTING_HELP)
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    add = subparsers.add_parser
    engine = _engine_flags()
    here = add("card", help="what the card here is, as without a command")
    here.set_defaults(run=lambda options: card.show(options.policy))
    _add_policy(here.add_argument)
    _fits(add("fits", help="whether a song fits a card that need not be here, and what makes room"))
    _generate(add("generate", help="make music: one of six tasks", parents=[engine]))
    _understand(add("understand", help="metadata, caption and lyrics of audio codes", parents=[engine]))
    _create(add("create", help="a song's description from a few words", parents=[engine]))
    _format(add("format", help="caption and lyrics as the model knows them", parents=[engine]))
    codes = add("codes", help="audio codes of a recording, as text", parents=[engine])
    codes.set_defaults(run=commands.codes)
    codes.add_argument("audio", type=named, help="any file soundfile reads")
    write = add("write-checkpoint", help="write a synthetic checkpoint folder")
    write.set_defaults(run=commands.write)
    write.add_argument("source", choices=SYNTHETIC)
    write.add_argument("folder", type=Path, help="checkpoint root to create or complete")
    write.add_argument("--dit", action="append", choices=DITS, help=f"DiT variants ({DEFAULT_DIT})")
    write.add_argument("--lm", action="append", choices=LMS, help="language models (0.6B)")
    write.add_argument("--seed", type=whole, default=0, help="same seed, same bytes (%(default)s)")
    for command in subparsers.choices.values():
        command.set_defaults(parser=command)
    return parser


def _engine_flags() -> Parser:
    """What is loaded and where: flags of every command that runs a model."""
    parser = Parser(add_help=False)
    add, switch = parser.add_argument_group("engine").add_argument, argparse.BooleanOptionalAction
    _add_models(add)
    add("--lm-backend", default="auto", choices=["auto", *BACKENDS], help="what runs it (the device's)")
    add("--device", default="auto", help="auto, cuda, cuda:N, mps or cpu (%(default)s)")
    add("--threads", type=whole, help="CPU threads (torch's choice)")
    places = f"parts on other devices, e.g. dit=cuda:0,lm=cuda:1; of {', '.join(PARTS)}"
    add("--place", type=named, metavar="PART=DEVICE,..", help=places)
    add("--compile", action=switch, help="compile the DiT, on CUDA the LM and the VAE too (the tier's)")
    add("--graphs", action=switch, help="launch the kernels of a step as one (yes on CUDA, and there only)")
    add("--strict", action="store_true", help="refuse what would not be done as it was asked for")
    add("--no-limits", action="store_true", help="ignore what the card's tier allows")
    _add_policy(add)
    add("--json", action="store_true", help="print the record as one JSON line")
    return parser


def _add_models(add: Callable[..., object]) -> None:
    """Which models, in which format, and whether they wait in host memory."""
    switch = argparse.BooleanOptionalAction
    add(
        "--source",
        type=named,
        help=f"{', '.join(SYNTHETIC)} or a checkpoint folder (ACESTEP_SOURCE, then this machine's)",
    )
    add("--dit", type=named, metavar="FOLDER", help=f"DiT variant, a folder of the source ({DEFAULT_DIT})")
    add(
        "--lm",
        default="auto",
        choices=["auto", *LMS, "none"],
        help="5 Hz language model (the tier's, or the nearest there)",
    )
    add("--dtype", default=AUTO, choices=[AUTO, *DTYPES], help="(%(default)s: what the device multiplies)")
    add("--offload", action=switch, help="models in host memory while unused (the tier's)")
    add("--offload-dit", action=switch, help="the DiT as well (the tier's)")
    schemes = ["auto", "none", *QUANTIZATIONS]
    add("--quantization", default="auto", choices=schemes, help="of the DiT's weights (the tier's)")
    schemes = ["none", *LM_QUANTIZATIONS]
    add("--lm-quantization", default="none", choices=schemes, help="of the language model's (%(default)s)")


def _add_policy(add: Callable[..., object]) -> None:
    policies = f"whose tiers: {', '.join(POLICIES)} (%(default)s)"
    add("--policy", default=GUIDE, choices=POLICIES, metavar="NAME", help=policies)


def _fits(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_run_fits)
    add = parser.add_argument
    add("card", nargs="+", help='GB of its memory, such as 8, or its name, such as "RTX 4060"')
    add("--duration", type=number, help=f"seconds of audio ({DEFAULT_DURATION_S:g})")
    add("--batch-size", type=whole, help="items (1)")
    _add_models(add)
    _add_policy(add)
    add("--json", action="store_true", help="print the answer as one JSON line")


def _run_fits(options: argparse.Namespace) -> int:
    from acestep.costs import fits_command

    return fits_command.run(options)


def _generate(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=commands.generate)
    add, switch = parser.add_argument, argparse.BooleanOptionalAction
    add("--example", type=named, help=f"a request file, {EXAMPLE_NAMES}")
    add("--task", choices=list(TASKS), help="what to do (text2music)")
    add("--src-audio", type=named, metavar="FILE", help="the recording to work on; all tasks but text2music")
    add(
        "--reference-audio",
        type=named,
        metavar="FILE",
        action="append",
        help="a clip whose timbre to take; repeatable",
    )
    add("--codes", help="audio codes instead of planned ones, as text or @FILE")
    add("--caption", help="what the music is")
    add("--lyrics", help="text or @FILE")
    add("--duration", type=number, help="seconds of audio")
    add("--steps", type=whole, help="diffusion steps (turbo 8, base 50)")
    add("--thinking", action=switch, help="plan audio codes with the language model")
    add("--set", metavar="NAME=VALUE", action="append", default=[], help="any other field of a request")
    add(
        "--preset",
        choices=PRESETS,
        help="what holds where nothing else is said: all work fixed by the request, upstream's defaults, or "
        f"the benchmark guide's (the file's, else {FIXED})",
    )
    add("--batch-size", type=whole, help="items (the preset's)")
    add("--seed", type=whole, help=f"seed of the first item; -1 draws them all ({DEFAULT_SEED})")
    add("--format", choices=AUDIO_FORMATS, help="audio format (the preset's)")
    add(
        "--out",
        type=Path,
        help=f"folder for the audio, which replaces no file ({commands.OUTPUTS})",
    )
    help_of = "write WAV to standard output while it is decoded, and no file"
    add("--stream", type=named, metavar="-", help=help_of)
    help_of = f"audio of one piece of a --stream ({CHUNK_S:g})"
    add("--chunk", type=number, metavar="SECONDS", help=help_of)
    add("--dry-run", action="store_true", help="print the effective plan and load nothing")
    help_of = "print which field has a use in which task (wide: | less -S)"
    add("--help-fields", action=Answer, const="acestep.fields", help=help_of)
    help_of = "print what is made of each of upstream's fields (wide: | less -S)"
    add("--help-upstream", action=Answer, const="acestep.cli.upstream_fields", help=help_of)


def _describe_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--example", type=Path, help="a request file")
    add("--language", help="of the lyrics")
    add("--max-tokens", type=whole, help="of the lyrics (2048)")
    add("--seed", type=whole, help=f"-1 draws one ({DEFAULT_SEED})")
    add("--set", metavar="NAME=VALUE", action="append", default=[], help="any other field of a request")


def _understand(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=commands.understand)
    parser.add_argument("--codes", help="audio codes as text or @FILE")
    parser.add_argument("--audio", type=named, metavar="FILE", help="a recording, whose codes are made first")
    _describe_flags(parser)


def _create(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=commands.create)
    parser.add_argument("query", nargs="?", help="a few words about the song")
    parser.add_argument("--instrumental", action="store_true", default=None, help="no voice")
    _describe_flags(parser)


def _format(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=commands.format)
    parser.add_argument("--caption", help="what the music is")
    parser.add_argument("--lyrics", help="text or @FILE")
    _describe_flags(parser)


if __name__ == "__main__":
    sys.exit(main())
