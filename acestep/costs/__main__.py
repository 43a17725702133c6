"""What a generation would cost on a card that is not here: whether it fits, and about how long it takes.

    python -m acestep.costs --duration 240 --batch-size 4 --card rtx4090
    python -m acestep.costs --thinking --card rtx4060 --html cost.html
    python -m acestep.costs --list-cards
    python -m acestep.costs --anchors      # predictions beside published figures
    python -m acestep.costs --lm-fits      # which language model fits which card

The engine itself runs, on tensors without memory; no weights and no GPU are needed. A kernel takes as long
as the longest of its arithmetic, its traffic and its launch at the card's peaks: an estimate, not a bound.
Memory is that of PyTorch's allocator and of a context.

Exit codes: 0 it fits, 1 it does not (--anchors: a figure is not where it should be), 2 usage, 3 weights or a
file are missing, 4 the harness itself failed (a full disk, a traceback), 130 interrupted.
"""

from __future__ import annotations

if __name__ == "__main__":  # before anything else is imported
    from harness import interrupts

    interrupts.end_quietly()

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from acestep.defaults import EXAMPLE_NAMES
from acestep.gpu_config import GUIDE, POLICIES
from acestep.placement import PARTS
from acestep.presets import FIXED, PRESETS
from acestep.weights.layout import DEFAULT_DIT, LMS, SYNTHETIC
from harness import console
from harness.cards import DEFAULT
from harness.console import Parser, named
from harness.dtypes import AUTO
from harness.dtypes import NAMES as DTYPES
from harness.errors import UsageError
from harness.flags import number, spelled, spellings, whole
from harness.quantization import LM_QUANTIZATIONS

ALONE = {"anchors": ("json",), "lm_fits": ()}  # flags of a request of their own, and what goes with them
FIELDS = {  # that a flag has another name for
    "inference_steps": "steps",
    "offload_to_cpu": "offload",
    "offload_dit_to_cpu": "offload_dit",
}


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""

    def predict() -> int:
        words, parser = sys.argv[1:] if argv is None else argv, arguments()
        options = parser.parse_args(words)
        for name, with_it in ALONE.items():
            if getattr(options, name):
                _alone(parser, options, name, with_it)
        from acestep.costs import command

        with spelled(spellings(parser, words, FIELDS)):
            return command.run(options)

    return console.run("acestep.costs", predict, failed=console.BUG)  # 1 says that it does not fit


def arguments() -> argparse.ArgumentParser:
    """The flags."""
    parser = Parser(
        prog="python -m acestep.costs",
        description="What a generation would cost on a card that is not here.",
        epilog="In round brackets the default.",
        allow_abbrev=False,
    )
    _add_card(parser.add_argument_group("card").add_argument)
    _add_request(parser.add_argument_group("request").add_argument)
    _add_engine(parser.add_argument_group("engine").add_argument)
    _add_output(parser.add_argument_group("output").add_argument)
    return parser


def _alone(
    parser: argparse.ArgumentParser, options: argparse.Namespace, alone: str, with_it: Sequence[str]
) -> None:
    """Raises UsageError for a flag that `alone` has no use for."""
    for name, value in vars(options).items():
        if name not in (alone, *with_it) and value != parser.get_default(name):
            first, flag = ("--" + word.replace("_", "-") for word in (alone, name))
            raise UsageError(f"{first}: has cards and requests of its own; drop {flag}")


def _add_card(add: Callable[..., object]) -> None:
    add(
        "--card",
        nargs="+",
        metavar="NAME",
        help=f"one of --list-cards ({DEFAULT}); of --place: cuda:0, cuda:1",
    )
    add("--device-json", type=Path, metavar="FILE", help="a card of one's own instead, as a JSON object")
    add("--max-vram", type=number, metavar="GB", help="as if it had so much memory, with the tier's policy")
    add("--list-cards", action="store_true", help="the cards there are")
    add("--anchors", action="store_true", help="published figures beside what is predicted for them; alone")
    fits = "which language model fits which card, as a table, which a file gets as well; alone"
    add("--lm-fits", type=Path, nargs="?", const=True, metavar="FILE", help=fits)


def _add_request(add: Callable[..., object]) -> None:
    add("--example", type=named, metavar="FILE", help=f"a request file, {EXAMPLE_NAMES}")
    add("--duration", type=number, metavar="S", help="seconds of audio (the example's)")
    add("--batch-size", type=whole, metavar="N", help="items (the example's)")
    add("--steps", type=whole, metavar="N", help="diffusion steps (turbo 8, base 50)")
    add("--shift", type=number, metavar="X", help="of the steps' times (the example's)")
    switch = argparse.BooleanOptionalAction
    add("--thinking", action=switch, help="plan audio codes with the language model (the preset's)")
    add("--preset", choices=PRESETS, help=f"what holds where nothing else is said (the file's, else {FIXED})")


def _add_engine(add: Callable[..., object]) -> None:
    switch = argparse.BooleanOptionalAction
    add(
        "--source",
        type=named,
        help=f"{', '.join(SYNTHETIC)} or a checkpoint folder ({SYNTHETIC[1]}); values are not read",
    )
    dits = f"DiT variant, a folder of the source ({DEFAULT_DIT})"
    add("--dit", type=named, metavar="FOLDER", help=dits)
    add("--lm", default="auto", metavar="NAME", help=f"e.g. {LMS[0]}, or none (the tier's)")
    names = f"{', '.join(DTYPES)} (auto: bf16 from Ampere on, else fp16)"
    add("--dtype", default=AUTO, metavar="NAME", help=names)
    add("--quantization", default="auto", metavar="NAME", help="of the DiT's weights, or none (the tier's)")
    schemes = f"of the language model's: none, {', '.join(LM_QUANTIZATIONS)} (none)"
    add("--lm-quantization", default="none", metavar="NAME", help=schemes)
    add("--offload", action=switch, help="models in host memory while unused (the tier's)")
    add("--offload-dit", action=switch, help="the DiT as well (the tier's)")
    places = f"e.g. dit=cuda:0,lm=cuda:1; parts: {', '.join(PARTS)}"
    add("--place", type=named, metavar="PART=DEVICE,..", help=places)
    add("--compile", action=switch, help="kernels as a compiler fuses them, by a rule (no)")
    add("--graphs", action=switch, help="launch the kernels of a step as one (yes)")
    add("--strict", action="store_true", help="refuse a request over a limit instead of changing it")
    add("--no-limits", action="store_true", help="ignore what the card's tier allows")
    policies = f"whose tiers: {', '.join(POLICIES)} ({GUIDE})"
    add("--policy", default=GUIDE, choices=POLICIES, metavar="NAME", help=policies)


def _add_output(add: Callable[..., object]) -> None:
    add(
        "--json",
        type=Path,
        nargs="?",
        const=True,
        metavar="FILE",
        help="the whole prediction, printed or as a file",
    )
    add("--html", type=Path, metavar="FILE", help="a page with the memory over time")


if __name__ == "__main__":
    sys.exit(main())
