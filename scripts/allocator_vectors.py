"""Random programs for PyTorch's caching allocator, run by the real one and by our model of it.

    python -m scripts.allocator_vectors RECORDER --write tests/data/allocator/programs.json.gz
    python -m scripts.allocator_vectors RECORDER --compare --steps 20000 --seed 7

RECORDER is `tests/data/allocator/recorder.cpp`, built as the README beside it says: PyTorch's library on a
card that does nothing. A program is a list of steps, `["m", bytes]`, `["f", number of the block]`, `["e"]` to
empty the cache and `["p"]` to reset the peaks; its counters are one row per step, of the columns in `ROW`.
"""

from __future__ import annotations

import gzip
import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from harness import console
from harness.checks import within
from harness.errors import MissingPrerequisite
from harness.files import writable, write_whole
from harness.flags import whole
from harness.trace.allocator import Allocator, Block, NoMemory

KIB, MIB, GIB = 2**10, 2**20, 2**30
# (what may be reserved, what the card has): held back by the fraction, by the card, by nothing.
CAPS = ((512 * MIB, 64 * GIB), (2 * GIB, 64 * GIB), (2 * GIB, 2 * GIB), (8 * GIB, 64 * GIB), (2**50, 2**50))
ROW = (
    "address", "allocated", "reserved", "live", "peak_allocated", "peak_reserved", "peak_live", "retries",
)  # fmt: skip
MOST_STEPS = 1_000_000
NO_MEMORY = -1  # the address of a block that was refused
BORDERS = (512, 4 * KIB, 512 * KIB, MIB, 2 * MIB, 9 * MIB, 10 * MIB, 18 * MIB, 19 * MIB, 20 * MIB, 40 * MIB)


def any_size(draw: random.Random) -> int:
    return int(2 ** draw.uniform(0, 30))


def border_size(draw: random.Random) -> int:
    """At a border of the allocator's rules, or a little beside it."""
    return draw.choice(BORDERS) + draw.choice((-512, -511, -1, 0, 0, 0, 1, 511, 512, 513))


def model_size(draw: random.Random) -> int:
    """A tensor in 16 bits: a DiT's weight or hidden states, or the activations of a VAE's tile."""
    weight = draw.choice((64, 128, 1024, 2048)) * draw.choice((1, 128, 1024, 2048, 6144))
    hidden = draw.choice((25, 250, 750, 1500, 6000)) * draw.choice((64, 1024, 2048, 4096, 6144))
    channels, samples = draw.choice(((2048, 1), (1024, 10), (512, 60), (256, 240), (128, 960), (128, 1920)))
    tile = draw.choice((64, 128, 256, 512)) * channels * samples
    batch = draw.choice((1, 2, 4, 8))
    return 2 * draw.choice((weight, batch * hidden, tile))


SIZES: tuple[Callable[[random.Random], int], ...] = (any_size, border_size, model_size)


def programs(steps: int, seed: int) -> Iterator[dict[str, Any]]:
    """One program of `steps` per cap and kind of sizes."""
    for cap_bytes, card_bytes in CAPS:
        for size in SIZES:
            draw = random.Random(f"{seed} {cap_bytes} {card_bytes} {size.__name__}")
            yield {
                "cap_bytes": cap_bytes,
                "card_bytes": card_bytes,
                "steps": steps_of(draw, size, steps, cap_bytes),
            }


def steps_of(
    draw: random.Random, size: Callable[[random.Random], int], count: int, cap_bytes: int
) -> list[list[Any]]:
    """Phases that fill the card and phases that empty it; what is freed is recent half of the time."""
    steps: list[list[Any]] = []
    blocks: list[tuple[int, int]] = []  # number and bytes of those that were not freed, refused ones included
    number, full, filling = 0, min(cap_bytes, 8 * GIB), True
    while len(steps) < count:
        level = sum(size for _, size in blocks) / full
        if level > draw.uniform(0.8, 1.5):
            filling = False
        elif level < draw.uniform(0, 0.5):
            filling = True
        chance = draw.random()
        if chance < 0.01:
            steps.append([draw.choice("ep")])
        elif blocks and draw.random() < (0.25 if filling else 0.75):
            freed, _ = blocks.pop(-1 if draw.random() < 0.5 else draw.randrange(len(blocks)))
            steps.append(["f", freed])
        else:
            blocks.append((number, 0 if chance > 0.995 else size(draw)))
            steps.append(["m", blocks[-1][1]])
            number += 1
    return steps


def record(recorder: Path, program: dict[str, Any]) -> list[list[int]]:
    """The counters after each step, as PyTorch's library has them."""
    text = "\n".join(" ".join(map(str, step)) for step in program["steps"])
    command = [str(recorder), str(program["cap_bytes"]), str(program["card_bytes"])]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    return [[int(number) for number in line.split()] for line in done.stdout.splitlines()]


def replay(program: dict[str, Any]) -> list[list[int]]:
    """The counters after each step, as `harness.trace.allocator` has them."""
    allocator = Allocator(program["cap_bytes"])
    blocks: list[Block | None] = []
    rows = []
    for kind, *rest in program["steps"]:
        address = 0
        if kind == "m":
            try:
                block = allocator.malloc(*rest)
                blocks.append(block)
                address = block.address
            except NoMemory:
                blocks.append(None)
                address = NO_MEMORY
        elif kind == "f":
            if block := blocks[rest[0]]:
                allocator.free(block)
        elif kind == "e":
            allocator.empty_cache()
        else:
            allocator.reset_peak()
        rows.append(
            [
                address, allocator.allocated_bytes, allocator.reserved_bytes, allocator.live_bytes,
                allocator.peak_allocated_bytes, allocator.peak_reserved_bytes, allocator.peak_live_bytes,
                allocator.retries,
            ]
        )  # fmt: skip
    return rows


def difference(program: dict[str, Any], truth: list[list[int]]) -> str | None:
    """The first step after which our counters are not `truth`, in words; None if there is none."""
    ours = replay(program)
    if len(ours) != len(truth):
        return f"{len(ours)} steps for {len(truth)}"
    for number, (mine, right) in enumerate(zip(ours, truth, strict=True)):
        wrong = [f"{name} {a} for {b}" for name, a, b in zip(ROW, mine, right, strict=True) if a != b]
        if wrong:
            return f"step {number}, {program['steps'][number]}: {', '.join(wrong)}"
    return None


def main() -> int:
    """The command; returns its exit code: 1 where ours differ."""
    return console.run("allocator_vectors", compare)


def compare() -> int:
    """Run the programs by the real one, and write its counters down or hold ours against them."""
    parser = console.Parser(prog="python -m scripts.allocator_vectors", description=__doc__.splitlines()[0])
    parser.add_argument("recorder", type=Path, help="built as tests/data/allocator/README.md says")
    parser.add_argument("--steps", type=whole, default=400, help="in each program (%(default)s)")
    parser.add_argument("--seed", type=whole, default=0, help="(%(default)s)")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--write", type=Path, metavar="FILE", help="keep its counters, .json.gz")
    what.add_argument("--compare", action="store_true", help="hold ours against them")
    options = parser.parse_args()
    within("--steps", options.steps, 1, MOST_STEPS, kind=int)
    if not options.recorder.is_file():
        how = "build it as tests/data/allocator/README.md says"
        raise MissingPrerequisite(f"recorder: {str(options.recorder)!r} is not there; {how}")
    if options.write:
        writable("--write", options.write)  # refused here, not after all have run
    drawn = list(programs(options.steps, options.seed))
    runs = [record(options.recorder, program) for program in drawn]
    if options.write:
        recorded = [program | {"books": rows} for program, rows in zip(drawn, runs, strict=True)]
        data = json.dumps(recorded, separators=(",", ":")).encode()
        write_whole(options.write, gzip.compress(data, mtime=0))
        return 0
    wrong = [text for program, rows in zip(drawn, runs, strict=True) if (text := difference(program, rows))]
    refused = sum(row[0] == NO_MEMORY for rows in runs for row in rows)
    retried = sum(rows[-1][-1] for rows in runs)
    print(f"{sum(map(len, runs))} steps, {refused} refused, {retried} retries, {len(wrong)} differences")
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
