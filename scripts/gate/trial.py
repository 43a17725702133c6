"""How good is the gate? It runs on a planted slowdown, again and again, and the verdicts are counted.

    python -m scripts.gate.trial DiT 50 --runs 20 --busy 2 --budget 90s      # beside two busy loops
    python -m scripts.gate.trial DiT 0                                       # nothing planted: an A/A
    python -m scripts.gate.trial VAE 10 --keep pairs.json                    # and the pairs of every run
    python -m scripts.gate.trial DiT 25 --runs 20 --replay pairs.json        # nothing runs: kept noise
    python -m scripts.gate.trial micro 0 --runs 10 --keep pairs.json --budget 8m    # functions by themselves
    python -m scripts.gate.trial micro 10 --runs 10 --replay pairs.json --looks 30  # as in a longer budget

The slowdown is work: a share of the calls of a method is made twice; of functions by themselves each call
takes longer by that share. It is a commit that no branch has. Only times are compared, of the least that has
the component in it, and of all functions: what is predicted would give it away.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from harness import console
from harness.checks import within
from harness.files import writable
from harness.flags import number, span, whole
from scripts.gate.sides import checked_out, index
from scripts.gate.statistics import Judgement, judge
from scripts.gate.suites import readings
from scripts.gate.timing import Timing
from scripts.git import git

SOURCE = "synthetic-tiny"


class Place(NamedTuple):
    """Methods by the file whose names they are, and the series to time. `how`: what PLANTED has for them."""

    methods: dict[str, tuple[str, ...]]
    series: str
    how: str = "_again"


PLACES = {
    "DiT": Place({"acestep/models/dit.py": ("DiTLayer.forward",)}, r"TimeDiT.*\(5, 1, 8, 'none'\)"),
    "LM": Place(
        {"acestep/lm/decode/kv_cache.py": ("Qwen3.extend", "KVState.head")},
        r"TimeLMPlanning.*\(5, 1, True, 'pt'\)",
    ),
    "VAE": Place({"acestep/models/vae.py": ("DecoderBlock.forward",)}, r"TimeVAEDecode.*\(5, 1\)"),
    "micro": Place(  # but for those that take no longer than a look at the clock
        {
            "harness/nn/sampling.py": ("Sampling.pick",),
            "acestep/lm/decode/selector.py": ("ConstrainedDecoder.next",),
            "acestep/text/audio_codes.py": ("join", "parse"),
            "acestep/models/codes.py": (
                "FSQ.decode",
                "FSQ.indices",
                "AudioTokenizer.forward",
                "Detokenizer.forward",
            ),
            "acestep/audio/writing.py": ("resampled",),
        },
        r"^micro\.",
        "_longer",
    ),
}
LOOKS = 6  # before the time is over, in a replay, where nothing else is said
PLANTED = '''

def _again(method, share, due=0.0):
    """Call `method` once more in a share of its calls."""

    def call(*arguments, **options):
        nonlocal due
        due += share
        if due >= 1:
            due -= 1
            method(*arguments, **options)
        return method(*arguments, **options)

    return call


def _longer(method, share):
    """Keep the process busy after each call of `method`, for a share of what it took."""
    from time import process_time

    def call(*arguments, **options):
        start_s = process_time()
        result = method(*arguments, **options)
        end_s = process_time()
        end_s += share * (end_s - start_s)
        while process_time() < end_s:
            pass
        return result

    return call


'''


def main() -> int:
    """The command; returns its exit code."""
    return console.run("trial", trial)


def trial() -> int:
    """Run the gate, and count what it says of the planted component."""
    parser = console.Parser(prog="python -m scripts.gate.trial", description=__doc__.splitlines()[0])
    parser.add_argument("component", choices=PLACES)
    parser.add_argument("percent", type=number, help="planted, 0 to 100")
    parser.add_argument("--runs", type=whole, default=1, metavar="N")
    parser.add_argument("--busy", type=whole, default=0, metavar="N", help="loops beside it")
    parser.add_argument("--budget", type=span, default=120.0, metavar="TIME", help="of each run (2m)")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="the pairs of every run, to replay")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="pairs of runs with nothing planted")
    parser.add_argument("--looks", type=whole, default=LOOKS, metavar="N", help="of a replay (%(default)s)")
    options = parser.parse_args()
    within("percent", options.percent, 0, 100)
    for name, low, high in (("runs", 1, 10_000), ("busy", 0, 1000), ("looks", 1, 1000)):
        within(f"--{name}", getattr(options, name), low, high, kind=int)
    from scripts.gate import pairs  # what keeps them, once it is known that any are

    if options.keep:  # refused here, not after the first run; pairs begin so
        writable("--keep", options.keep, lambda head: head.startswith(b"[{"))
    if options.replay:
        every = pairs.read(options.replay)
        runs = pairs.replayed(every, options.component, options.percent, options.runs, options.looks)
    else:
        runs = _measured(options)
    verdicts: dict[str, Counter[str]] = {}
    for run, (name, judgement, effort) in enumerate(runs, 1):
        verdicts.setdefault(name.partition("(")[0], Counter())[judgement.verdict] += 1
        interval = f"x{judgement.ratio:.3f} ({judgement.low:.3f} to {judgement.high:.3f})"
        print(f"{run:3d}  {judgement.verdict:12}  {interval}  {effort}  {name}", flush=True)
    for name, counts in verdicts.items():
        print(f"{options.component} {options.percent:+g} %: {dict(counts)} of {name}")
    return 0


def _measured(options: Namespace) -> Iterator[tuple[str, Judgement, str]]:
    """Run the gate on one commit and the same with the slowdown."""
    os.environ["ACESTEP_SOURCE"] = SOURCE
    timed = readings([SOURCE], PLACES[options.component].series, exact=False)
    from scripts.gate import pairs

    every: list[pairs.Kept] = []
    commit = planted(options.component, options.percent)
    with checked_out("HEAD", commit) as sides, _busy(options.busy):
        for seed in range(options.runs):
            start_s = time.monotonic()
            timing = Timing(sides, timed, start_s + options.budget, seed)
            timing.run()
            present = [one for one in timing.series if one.base]
            every += [pairs.Kept(one.reading.unit, one.base, one.head, one.reading.name) for one in present]
            if options.keep:
                pairs.write(options.keep, every)
            spent = f"in {time.monotonic() - start_s:.0f} s, load {timing.load:.1f}"
            for one in present:
                judgement = one.judgement or judge(one.base, one.head, one.reading.unit, 0.0)
                yield one.reading.name, judgement, f"{len(one.base)} pairs {spent}"


def planted(component: str, percent: float) -> str:
    """The commit that is HEAD and slower in a component."""
    place = PLACES[component]
    with index():
        git("read-tree", "HEAD")
        for file, methods in place.methods.items():
            slower = "".join(f"{method} = {place.how}({method}, {percent / 100})\n" for method in methods)
            slower = PLANTED + slower if percent else ""
            blob = git("hash-object", "-w", "--stdin", text=git("show", f"HEAD:{file}") + slower)
            git("update-index", "--cacheinfo", f"100644,{blob},{file}")
        author = ("-c", "user.name=trial", "-c", "user.email=trial@localhost")  # whoever git thinks runs this
        message = f"{component} {percent:+g} %"
        return git(*author, "commit-tree", git("write-tree"), "-p", "HEAD", "-m", message)


@contextmanager
def _busy(loops: int) -> Iterator[None]:
    """So many processes that do nothing but keep a core busy."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(loops)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


if __name__ == "__main__":
    sys.exit(main())
