"""How fast Qwen3-TTS's talker and frames are beside the published package's own loop, measured in turn.

    make .stamps/oracles
    OMP_WAIT_POLICY=PASSIVE .venv-oracles/bin/python -m scripts.frame_ratio        # 0.6B, bf16
    .venv-oracles/bin/python -m scripts.frame_ratio --source synthetic-tiny --pairs 1

talker: a step of the talker, from the codes of the frame before to a first code that is drawn; the other
codes are given. frame: the same with the code predictor's fifteen steps. Theirs is `generate` with the
package's own arguments, ours the frame loop. Both draw by the published defaults, from the same rows and with
the same tensors, batch 1, and neither may end; the difference between a long run and a short one leaves the
prompt out. The ratio is above 1 where ours is faster.
"""

from __future__ import annotations

import sys

from harness import console, dtypes
from harness.checks import within
from harness.flags import whole
from subjects.qwen3_tts.layout import DEFAULT_VARIANT, FULL, SYNTHETIC, VARIANTS

PARTS = ("talker", "frame")


def main() -> int:
    """The command; returns its exit code."""
    return console.run("frame_ratio", measure)


def measure() -> int:
    """Time each part in turn, and print it when it is done."""
    parser = console.Parser(prog="python -m scripts.frame_ratio", description=__doc__.split("\n")[0])
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS, help="(both)")
    parser.add_argument("--source", default=FULL, choices=SYNTHETIC, help="(%(default)s)")
    parser.add_argument("--model", default=DEFAULT_VARIANT, choices=VARIANTS, help="(%(default)s)")
    parser.add_argument("--device", default="cpu", help="(%(default)s)")
    parser.add_argument("--dtype", default=dtypes.BF16, choices=dtypes.NAMES, help="(%(default)s)")
    parser.add_argument("--frames", type=whole, default=8, help="made per sample (%(default)s)")
    parser.add_argument("--pairs", type=whole, default=5, help="(%(default)s)")
    options = parser.parse_args()
    for name in ("frames", "pairs"):
        within(f"--{name}", getattr(options, name), 1, 10_000, kind=int)
    from scripts import frame_pairs  # which imports torch

    frame_pairs.run(options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
