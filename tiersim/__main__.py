"""`python -m tiersim`: test what fits each GPU tier, on a card that is here, simulated or predicted.

    python -m tiersim                                          # 4 6 8 12 16 20 24 GB
    python -m tiersim --predict --boundary --card rtx4060      # without a GPU and without weights
    python -m tiersim --run                                    # really generate, under a cap
    python -m tiersim --tiers 6 8 16 --with-lm --out results   # killed and started again it goes on
    python -m tiersim --boundary                               # where quantization and offloading can go
    python -m tiersim --batch-boundary --tiers 8 12 16 24      # how large a batch fits
    python -m tiersim --baseline results                       # what is worse than it was
    python -m tiersim --predict --matrix --svg fits.svg        # what fits which card, as a picture
    python -m tiersim --duration 30 240 --dry-run              # several values are a matrix; counted

Exit codes: 0 as expected, 1 a case failed or is worse than the baseline, 2 usage, 3 a device or weights are
missing, 4 the harness itself failed, 129, 130 and 143 interrupted. Running out of memory beyond what a tier
promises, where the boundary lies, is expected.
"""

from __future__ import annotations

if __name__ == "__main__":  # before anything else is imported
    from harness import interrupts

    interrupts.end_quietly()

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from harness import console
from harness.cards import DEFAULT
from harness.console import LISTING, LISTING_HELP, Answer, Parser, named
from harness.flags import number, spelled, spellings, whole
from harness.tiers import BATCHES, Option
from tiersim.case import CAPS, TIMEOUT_S, VARIANTS, Case, subject_of

DEFAULTS = Case(tier_gb=8)
FIELDS = {
    "tier_gb": "tiers",
    "timeout_s": "case_timeout",
    "duration_s": "duration",
    "inference_steps": "steps",
}


def arguments() -> argparse.ArgumentParser:
    """The flags."""
    parser = Parser(
        prog="python -m tiersim",
        description="What fits each GPU tier: one generation each, run under its size or predicted.",
        allow_abbrev=False,
    )
    _add_cases(parser.add_argument_group("what is tested").add_argument)
    _add_how(parser)
    _add_boundaries(parser.add_argument_group("boundaries").add_argument)
    _add_results(parser.add_argument_group("results").add_argument)
    return parser


def _add_cases(add: Callable[..., object]) -> None:
    subject = subject_of(DEFAULTS)
    usual = [subject.usual({}, preset) for preset in subject.presets]
    sizes = " ".join(f"{size:g}" for size in subject.tested_gb({}))
    add("--tiers", type=number, nargs="+", metavar="GB", help=sizes)
    add("--with-lm", action="store_true", help="load the tier's LM where it has one")
    add(
        "--lm-backend",
        choices=subject.lm_backends,
        default=DEFAULTS.lm_backend,
        help="what runs it (the tier's)",
    )
    for option in subject.options:
        _add_option(add, option)
    add(
        "--preset",
        choices=subject.presets,
        help=f"what of a request holds where neither a flag nor its file says it ({DEFAULTS.preset})",
    )
    variants = f"of each tier's settings: {', '.join(VARIANTS)} ({VARIANTS[0]})"
    add("--variants", nargs="+", choices=VARIANTS, metavar="NAME", help=variants)
    sources = "synthetic-tiny, synthetic-full or a checkpoint folder (default: ACESTEP_SOURCE)"
    add("--source", type=named, help=sources)
    add(
        "--duration",
        type=number,
        nargs="+",
        metavar="S",
        help=", ".join(f"{of.duration_s:g} {of.preset}" for of in usual),
    )
    items = ", ".join(f"{of.batch_size} {of.preset}" for of in usual)
    add("--batch-size", type=whole, metavar="N", help=items)
    add("--steps", type=whole, metavar="N", help=f"{DEFAULTS.steps}")
    add("--seed", type=whole, metavar="N", help=f"{DEFAULTS.seed}")
    add("--repeats", type=whole, metavar="N", help="runs of each case (1)")
    add("--skip-compile", action="store_true", help="where nothing is quantized")
    add("--strict", action="store_true", help="refuse a case over its tier's limits")
    add("--no-limits", action="store_true", help="test a case over its tier's limits")


def _add_option(add: Callable[..., object], option: Option) -> None:
    """The flag of a subject's option."""
    allowed = f": {', '.join(option.allowed)}" if option.allowed else ""
    add(
        *option.flags,
        dest=option.name,
        type=option.read,
        nargs="+" if option.several else None,
        choices=option.allowed,
        metavar=option.metavar,
        help=option.help + allowed,
    )


def _add_how(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "how, by default run where there is an accelerator and predicted elsewhere"
    )
    either = group.add_mutually_exclusive_group()
    either.add_argument("--predict", action="store_true", help="trace each case on a card that is not here")
    either.add_argument("--run", action="store_true", help="generate in a process that is held to the size")
    add = group.add_argument
    add("--jobs", type=whole, metavar="N", help="cases at a time (predicted: one per core; run on a CPU: 1)")
    add("--card", metavar="NAME", help=f"predict for this card, of the tier's memory ({DEFAULT})")
    add("--device-json", type=Path, metavar="FILE", help="for the card that a file describes")
    add("--device", help="run on auto, cuda, cuda:N, mps or cpu")
    add("--cap", choices=CAPS, help="run, with memory limited in this way (the device's own)")
    add("--gpus", nargs="+", metavar="ID", help="run on these, one case on each at a time (all)")
    add("--scheduler", type=named, metavar="ADDRESS", help="run on the workers of a dask scheduler")
    add("--list-devices", action=Answer, const=LISTING, help=LISTING_HELP)
    add("--case-timeout", type=number, metavar="S", help=f"wall clock of a run ({TIMEOUT_S:g})")


def _add_boundaries(add: Callable[..., object]) -> None:
    add("--boundary", action="store_true", help="all variants, and where each begins")
    add("--batch-boundary", action="store_true", help="the largest batch of each card")
    sizes = " ".join(map(str, BATCHES))
    add("--batch-sizes", type=whole, nargs="+", metavar="N", help=sizes)
    every = "all variants of the models that are compared, with and without a language model"
    add("--matrix", action="store_true", help=every)
    patch = "what predictions support of each tier, as a patch to the subject's table"
    add("--suggest", action="store_true", help=patch)


def _add_results(add: Callable[..., object]) -> None:
    add("--out", type=Path, metavar="DIR", help="keep every case, a summary and a page; go on from there")
    add("--svg", type=Path, metavar="FILE", help="the fit matrix as a picture")
    add("--rerun", choices=("failed", "all"), help="run these again (timeouts and crashes always are)")
    add("--baseline", type=Path, metavar="PATH", help="an earlier --out or results file: exit 1 if worse")
    add("--benchmark-output", type=Path, metavar="FILE", help="results, as .json, .csv or .md")
    add("--json-compat", action="store_true", help="a bare list with upstream's field names")
    add("--dry-run", action="store_true", help="print what would run")
    add("--wide", action="store_true", help="every column")
    add("--ascii", action="store_true", help="no other characters")


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""

    def test() -> int:
        words, parser = sys.argv[1:] if argv is None else argv, arguments()
        options = parser.parse_args(words)
        from tiersim import command

        with spelled(spellings(parser, words, FIELDS)):
            return command.run(options, words)

    return console.run("tiersim", test, failed=console.BUG)  # 1 is for what was tested


if __name__ == "__main__":
    sys.exit(main())
