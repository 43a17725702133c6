"""`python -m tiersim`: test what fits each GPU tier, on the card that is here or under a host cap.

    python -m tiersim --tiers 6 8 --with-lm --source synthetic-tiny --duration 10

Exit codes: 0 every case passed or was skipped, 1 a case failed, 2 usage, 3 a device or weights are
missing, 4 the harness itself failed, 130 and 143 interrupted.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence

from acestep.errors import AceStepError
from tiersim import Case, Record, report, run_case
from tiersim.case import DEFAULT_TIERS_GB, resolve
from tiersim.protocol import Exit

FAILED, HARNESS, INTERRUPTED, TERMINATED = 1, 4, 130, 143


def arguments() -> argparse.ArgumentParser:
    """The flags; both spellings where the profiler has its own."""
    defaults = Case(tier_gb=DEFAULT_TIERS_GB[0])
    parser = argparse.ArgumentParser(
        prog="python -m tiersim",
        description="Generate once per GPU tier, each in a fresh process that may use only so much memory.",
    )
    add = parser.add_argument
    add(
        "--tiers",
        type=float,
        nargs="+",
        default=DEFAULT_TIERS_GB,
        metavar="GB",
        help="default: 4 6 8 12 16 20 24",
    )
    add("--with-lm", "--tier-with-lm", action="store_true", help="load the tier's LM where it has one")
    add("--source", help="synthetic-tiny, synthetic-full or a checkpoint folder (default: ACESTEP_SOURCE)")
    add("--device", default=defaults.device, help="auto, cuda, cuda:N, mps or cpu")
    add(
        "--duration", "--tier-duration", type=float, default=defaults.duration_s, metavar="S", help="of audio"
    )
    add("--batch-size", type=int, default=defaults.batch_size, metavar="N")
    add("--steps", "--inference-steps", type=int, default=defaults.steps, metavar="N")
    add("--seed", type=int, default=defaults.seed, metavar="N")
    add("--case-timeout", type=float, default=defaults.timeout_s, metavar="S", help="wall clock of one case")
    return parser


def cases(options: argparse.Namespace) -> list[Case]:
    """One case per tier, ascending, duplicates merged. Raises UsageError."""
    return [
        Case(
            tier_gb=tier_gb,
            lm=options.with_lm,
            source=options.source,
            device=options.device,
            duration_s=options.duration,
            batch_size=options.batch_size,
            steps=options.steps,
            seed=options.seed,
            timeout_s=options.case_timeout,
        )
        for tier_gb in sorted(set(options.tiers))
    ]


def run(todo: list[Case]) -> list[Record]:
    """Run and print case by case. A device that is unknown or absent is an error before the first line."""
    resolve(todo[0])
    print(report.header(), flush=True)
    records = []
    for case in todo:
        records.append(run_case(case))
        print(report.row(records[-1]), flush=True)
    print(report.footer(records))
    return records


def exit_code(records: list[Record]) -> int:
    """0 when nothing failed; 3 when something was missing rather than wrong."""
    if any(r.exit_code == Exit.PREREQUISITE for r in records):
        return Exit.PREREQUISITE
    return FAILED if any(r.status not in ("ok", "skip") for r in records) else 0


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    options = arguments().parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))  # so that a running case is cleaned up
    try:
        return exit_code(run(cases(options)))
    except AceStepError as error:
        print(f"tiersim: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:
        print(f"tiersim: {error}", file=sys.stderr)
        return HARNESS


if __name__ == "__main__":
    sys.exit(main())
