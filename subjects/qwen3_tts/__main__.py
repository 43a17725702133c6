"""Qwen3-TTS measured: time to the first chunk, stages, memory, speech; each command says what it costs.

    python -m subjects.qwen3_tts bench --source synthetic-tiny --streaming
    python -m subjects.qwen3_tts costs --model 1.7B-CustomVoice --card h200
    python -m subjects.qwen3_tts generate "The tide is turning." --out speech
    python -m subjects.qwen3_tts write-checkpoint synthetic-tiny ./0.6B-Base --model 0.6B-Base

Exit codes: 0 done, 1 failed or does not fit, 2 usage, 3 something is missing, 4 a bug, 130 interrupted.
"""

from __future__ import annotations

if __name__ == "__main__":  # before anything else is imported
    from harness import interrupts

    interrupts.end_quietly()

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from harness import card_flags, commands
from harness.commands import Add, Command
from harness.console import Parser, named
from harness.dtypes import AUTO
from harness.dtypes import NAMES as DTYPES
from harness.flags import number, whole
from subjects.qwen3_tts.layout import DEFAULT_VARIANT, SYNTHETIC, VARIANTS

FIXTURES = ("short", "medium", "long")
DEVICES = "cpu, mps, cuda or cuda:N"


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    return commands.main("qwen3_tts", parser, argv)


def parser() -> Parser:
    """The commands and their flags."""
    each = (
        Command("bench", "how long it takes here, stage by stage", _bench, "bench:run"),
        Command("costs", "what it would cost on a card that is not here", _costs, "costs:run"),
        Command("generate", "speech as files", _generate, "generate:run"),
        Command("write-checkpoint", "a folder of made-up weights", _write, "write_checkpoint:run"),
    )
    return commands.parser("subjects.qwen3_tts", "Qwen3-TTS, measured.", each)


def _engine(add: Add) -> None:
    """What is loaded, and how it runs."""
    add("--model", choices=VARIANTS, help=f"variant of made-up weights ({DEFAULT_VARIANT})")
    add("--source", type=named, help=f"{', '.join(SYNTHETIC)} or the folder of a model (QWEN3_TTS_SOURCE)")
    add("--graphs", action=argparse.BooleanOptionalAction, help="launch a step's kernels as one (on CUDA)")
    add("--strict", action="store_true", help="refuse what would not be done as it was asked for")


def _bench(add: Add) -> None:
    _engine(add)
    add("--device", nargs="+", default=[AUTO], metavar="NAME", help=f"{DEVICES}, one or more ({AUTO})")
    names = ", ".join((AUTO, *DTYPES))
    add("--dtype", nargs="+", default=[AUTO], metavar="NAME", help=f"{names}, one or more ({AUTO})")
    add("--threads", type=whole, metavar="N", help="of a CPU (torch's choice)")
    add("--fixture", action="append", choices=FIXTURES, help="inputs of about 1, 5 and 20 s (all)")
    add("--repeats", dest="iterations", type=whole, default=3, metavar="N", help="timed runs (%(default)s)")
    add("--warmup", type=whole, default=1, metavar="N", help="runs before them (%(default)s)")
    add("--duration", dest="duration_s", type=number, metavar="S", help="seconds of audio (the fixture's)")
    add("--batch-size", type=whole, metavar="N", help="items (1)")
    add("--seed", type=whole, help="of the first item (42)")
    add("--streaming", action="store_true", help="audio piece by piece, held against the whole")
    add("--chunk", dest="chunk_frames", type=whole, metavar="N", help="frames of 80 ms in a piece (4)")
    add(
        "--context",
        type=whole,
        metavar="N",
        help="decode so many frames again before each piece, as the published package does (25), "
        "instead of keeping the decoder's state, which is exact",
    )
    add("--profile-memory", action="store_true", help="memory at the end of each stage, in a run of its own")
    add("--trace", type=Path, metavar="FILE", help="operators and kernels of one run, for Perfetto")
    add("--json-plan", type=Path, metavar="FILE", help="results by the names of a performance plan")
    add("--benchmark-output", type=Path, metavar="FILE", help="the whole record: .json, .csv or .md")


def _costs(add: Add) -> None:
    _engine(add)
    add("--dtype", default=AUTO, choices=(AUTO, *DTYPES), help="(auto: bf16 from Ampere on, else fp16)")
    card_flags.declare(add, 5.04)


def _generate(add: Add) -> None:
    _engine(add)
    add("text", nargs="?", help="what to say, or @FILE")
    add("--text-ids", type=Path, metavar="FILE", help="its tokens instead: a JSON list")
    add("--device", default=AUTO, metavar="NAME", help=f"{DEVICES} ({AUTO})")
    add("--dtype", default=AUTO, choices=(AUTO, *DTYPES), help=f"({AUTO})")
    add("--threads", type=whole, metavar="N", help="of a CPU (torch's choice)")
    add("--out", type=Path, default=Path("outputs"), metavar="FOLDER", help="where files go (%(default)s)")
    add("--duration", dest="duration_s", type=number, metavar="S", help="seconds (the model's own end)")
    add("--language", help="(auto)")
    add("--speaker", metavar="NAME", help="of a CustomVoice model (ryan)")
    add("--instruct", metavar="TEXT", help="how to speak: 1.7B CustomVoice, VoiceDesign")
    add("--reference", metavar="FILE", help="a recording of the voice, for a Base model")
    add("--reference-text", metavar="TEXT", help="what is said in it, with its codes")
    add("--reference-codes", type=Path, metavar="FILE", help="its codes, 16 a frame: a JSON list of lists")
    add("--batch-size", type=whole, metavar="N", help="items (1)")
    add("--seed", type=whole, help="of the first item (42)")
    add("--greedy", action="store_true", default=None, help="the most likely codes")


def _write(add: Add) -> None:
    add("source", choices=SYNTHETIC)
    add("folder", type=Path, help="to create or complete")
    add("--model", choices=VARIANTS, default=DEFAULT_VARIANT, help="(%(default)s)")
    add("--seed", type=whole, default=0, help="same seed, same bytes (%(default)s)")


if __name__ == "__main__":
    sys.exit(main())
