"""How fast our networks are beside transformers' and diffusers' own, measured in turn in one process.

    OMP_WAIT_POLICY=PASSIVE python -m scripts.decode_ratio            # LM decode, bf16, published 0.6B shape
    OMP_WAIT_POLICY=PASSIVE python -m scripts.decode_ratio --parts dit vae --duration 30
    python -m scripts.decode_ratio --parts lm dit vae --source synthetic-tiny --dtype fp32

lm: tokens from the same prompt at batch 1 without guidance, by transformers' `generate`, greedy, over its
static cache, and by the codes of a plan, greedy; the difference between a long run and a short one leaves
prefill and set-up out. dit: a step, its conditions included, and vae: a decode in one pass, both over
diffusers' with the same input. The weights are the same tensors (the VAE's: theirs normalised on every call).
The ratio is above 1 where ours is faster.
"""

from __future__ import annotations

import sys

from acestep.weights.layout import SYNTHETIC
from harness import console, dtypes
from harness.checks import within
from harness.flags import whole

PARTS = ("lm", "dit", "vae")


def main() -> int:
    """The command; returns its exit code."""
    return console.run("decode_ratio", compare)


def compare() -> int:
    """Time each part in turn, and print it when it is done."""
    parser = console.Parser(prog="python -m scripts.decode_ratio", description=__doc__.split("\n")[0])
    parser.add_argument("--parts", nargs="+", default=["lm"], choices=PARTS, help="(lm)")
    parser.add_argument("--source", default=SYNTHETIC[1], help="(%(default)s)")
    parser.add_argument("--device", default="auto", help="(%(default)s)")
    parser.add_argument("--dtype", default=dtypes.BF16, choices=dtypes.NAMES, help="(%(default)s)")
    parser.add_argument("--tokens", type=whole, default=50, help="decoded per sample, lm (%(default)s)")
    parser.add_argument("--duration", type=whole, default=30, help="seconds of audio, dit, vae (%(default)s)")
    parser.add_argument("--pairs", type=whole, default=5, help="(%(default)s)")
    options = parser.parse_args()
    for name in ("tokens", "pairs"):
        within(f"--{name}", getattr(options, name), 1, 10_000, kind=int)
    within("--duration", options.duration, 1, 600, kind=int)
    from scripts import network_pairs  # which imports torch

    network_pairs.run(options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
