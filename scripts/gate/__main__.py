"""Is HEAD slower than BASE? One question, three exit codes.

    python -m scripts.gate main HEAD

    0  same          every series was measured on both sides and none is slower
    1  slower        at least one is
    2  not measured  a cell failed, got lost, has too few samples, or asv itself broke

asv's own codes do not do: `continuous` says 1 for slower and for a crash, says 2 without any table when
one cell fails, and says 0 when it compared nothing. So asv measures, in interleaved rounds, and the
verdict is read from the result files with asv's own test (Mann-Whitney U, p < 0.002, and a ratio of
medians above FACTOR). Rates are left out, each has a lower-is-better twin; so are peak memory and parity,
which are no samples, and cold starts, of which there are too few. What is too small to matter (FLOOR_S)
cannot turn a build red.

Predicted costs (EXACT) have no noise: half a percent more is slower.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from asv import config
from asv.benchmarks import Benchmarks
from asv.commands.compare import _is_result_better as asv_says_better
from asv.commands.compare import unroll_result
from asv.results import Results, iter_results_for_machine_and_hash
from asv.util import human_value

from harness import console
from harness.errors import MissingPrerequisite
from scripts import asv_selection
from scripts.machine import register

ROUNDS = 4
FACTOR = 1.1
FLOOR_S = 0.002
MIN_SAMPLES = 10
UNGATED = "_rate|PeakMem|TierBoundary|Parity|ColdStart"
GATED = f"^(?!.*({UNGATED}))"
EXACT, EXACT_FACTOR = "TrackCost|TrackPredictedPeak", 1.005
EXIT = {"same": 0, "slower": 1, "not measured": 2}
NOT_MEASURED = ("failed", "lost", "few samples")


@dataclass(frozen=True, slots=True)
class Measured:
    """One cell of one commit. `value`: median; None failed, NaN not applicable."""

    value: float | None
    stats: dict | None = None
    samples: list[float] | None = None


@dataclass(frozen=True, slots=True)
class Series:
    """One cell on both sides and what became of it."""

    name: str
    unit: str
    base: Measured
    head: Measured
    verdict: str

    @property
    def ratio(self) -> float:
        return self.head.value / self.base.value if self.base.value and self.head.value else math.nan


def can_differ(n: int, m: int) -> bool:
    """Whether asv can call a difference significant at these sample counts: enough of them, and not where
    asv admits a pair to its test (1/C(n+m, n) < 0.002) whose best two-sided p-value cannot pass it."""
    pairs = math.comb(n + m, n)
    return min(n, m) >= MIN_SAMPLES and 2 / pairs < 0.002


def judge(base: Measured, head: Measured, unit: str, factor: float = FACTOR, *, exact: bool = False) -> str:
    """`same`, `slower`, `faster`, one of NOT_MEASURED, or `n/a` when BASE has nothing to compare with."""
    if head.value is None:
        return "failed"
    if base.value is None or math.isnan(base.value):
        return "n/a"
    if math.isnan(head.value):
        return "lost"
    if exact:
        if head.value > EXACT_FACTOR * base.value:
            return "slower"
        return "faster" if base.value > EXACT_FACTOR * head.value else "same"
    if not can_differ(len(base.samples or ()), len(head.samples or ())):
        return "few samples"
    if unit == "seconds" and abs(head.value - base.value) < FLOOR_S:
        return "same"
    sides = (base.value, head.value), ((base.stats, base.samples), (head.stats, head.samples))
    if asv_says_better(*sides[0], *sides[1], factor):
        return "slower"
    return "faster" if asv_says_better(*sides[0][::-1], *sides[1][::-1], factor) else "same"


def decide(series: Iterable[Series]) -> str:
    """The verdict on all of them. A slower series is a fact whatever else went wrong."""
    verdicts = {one.verdict for one in series} - {"n/a"}
    if "slower" in verdicts:
        return "slower"
    return "same" if verdicts and verdicts.isdisjoint(NOT_MEASURED) else "not measured"


def cells(result: Results | None, benchmark: dict) -> Iterator[tuple[str, Measured]]:
    """Every parameter combination of one benchmark in one result file, by asv's name for it."""
    name, params = benchmark["name"], benchmark["params"]
    known = result is not None and name in result.get_all_result_keys()
    columns = [
        getter(name, params) if known else None
        for getter in (result and result.get_result_value, result and result.get_result_stats,
                       result and result.get_result_samples)
    ]  # fmt: skip
    for label, value, stats, samples in unroll_result(name, params, *columns):
        yield label, Measured(value, stats, samples)


def compare(conf: config.Config, machine: str, base: str, head: str, since: float) -> list[Series]:
    """Pair up what was measured for both commits after `since`; anything else is another run's."""
    sides = [_fresh(conf, machine, commit, since) for commit in (base, head)]
    benchmarks = Benchmarks.load(conf, regex=GATED)
    asv_selection.narrow(benchmarks, {side.env_vars[asv_selection.SOURCE] for side in sides if side})
    series = []
    for name, benchmark in benchmarks.items():
        pairs = list(zip(cells(sides[0], benchmark), cells(sides[1], benchmark), strict=True))
        for index in benchmarks.benchmark_selection[name] or (0,):
            (label, before), (_, after) = pairs[index]
            exact = re.search(EXACT, name) is not None
            verdict = judge(before, after, benchmark["unit"], exact=exact)
            series.append(Series(label, benchmark["unit"], before, after, verdict))
    return series


def _fresh(conf: config.Config, machine: str, commit: str, since: float) -> Results | None:
    for result in iter_results_for_machine_and_hash(conf.results_dir, machine, commit):
        if max(result.started_at.values(), default=0) >= since * 1e3:
            return result
    return None


def table(series: list[Series], verdict: str, base: str, head: str, command: str) -> str:
    """The outcome as Markdown: what is not `same`, a line of counts, the command to see it again."""
    counts = Counter(one.verdict for one in series)
    changed = [one for one in series if one.verdict not in ("same", "n/a")]
    changed.sort(key=lambda one: (one.verdict in NOT_MEASURED, -one.ratio if one.ratio == one.ratio else 0))
    lines = [f"**{verdict}**: {head[:8]} against {base[:8]}", ""]
    if changed:
        lines += ["| | before | after | ratio | benchmark |", "|---|---:|---:|---:|---|"]
        lines += [
            f"| {one.verdict} | {_show(one.base, one.unit)} | {_show(one.head, one.unit)}"
            f" | {one.ratio:.2f} | `{one.name}` |"
            for one in changed
        ]
        lines.append("")
    lines += [", ".join(f"{n} {word}" for word, n in counts.most_common()) or "nothing was compared", ""]
    return "\n".join([*lines, f"Again: `{command}`", ""])


def _show(measured: Measured, unit: str) -> str:
    value = measured.value
    return human_value(value if value is None or math.isnan(value) else float(f"{value:.4g}"), unit)


def _commit(name: str) -> str:
    command = ["git", "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}"]
    try:
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()
    except OSError as error:
        raise MissingPrerequisite(f"git: cannot be run: {error.strerror}; install it") from None


def main() -> int:
    """The command; returns its exit code."""
    return console.run("gate", gate)


def gate() -> int:
    """Measure both commits in turn, and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base")
    parser.add_argument("head", nargs="?", default="HEAD")
    options = parser.parse_args()
    asv_selection.check()
    base, head = _commit(options.base), _commit(options.head)
    if not base or not head or base == head:
        console.say("gate", f"{options.base} and {options.head} are not two commits of this repository")
        return EXIT["not measured"]
    machine, since = register(), time.time()
    arguments = [
        "continuous", "-E", "checkout", "--machine", machine, "--interleave-rounds", "-a", f"rounds={ROUNDS}",
        "--factor", str(FACTOR), "--bench", GATED, base, head,
    ]  # fmt: skip
    subprocess.run([sys.executable, "-m", "asv", *arguments], check=False)
    series = compare(config.Config.load("asv.conf.json"), machine, base, head, since)
    verdict = decide(series)
    report = table(series, verdict, base, head, f"python -m scripts.gate {base[:12]} {head[:12]}")
    print(f"\n{report}")
    if "GITHUB_STEP_SUMMARY" in os.environ:
        with Path(os.environ["GITHUB_STEP_SUMMARY"]).open("a", encoding="utf-8") as summary:
            summary.write(report)
    return EXIT[verdict]


if __name__ == "__main__":
    sys.exit(main())
