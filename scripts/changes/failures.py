"""What ran and failed then: a benchmark that has no number any more is no noise, and no change of one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from scripts.changes.history import Commit, Machine, Series
from scripts.changes.results import FAILED


@dataclass(frozen=True, slots=True)
class Failure:
    """Series of a `benchmark` that ran at one measured commit and failed at `commit`, the next.

    `suspects`: the commits that may have done it; none where none of them changed what is measured.
    `stands`: whether they fail at the last commit that says anything of them.
    """

    benchmark: str
    series: tuple[str, ...]
    commit: Commit
    suspects: tuple[Commit, ...]
    stands: bool


def failures(commits: list[Commit], machine: Machine) -> Iterator[Failure]:
    """All of a machine, the newest first."""
    groups: dict[tuple[str, int, int, bool], list[str]] = {}
    for one in machine.series:
        benchmark = one.benchmark.rpartition(".")[0]
        for base, at, stands in _onsets(one):
            groups.setdefault((benchmark, base, at, stands), []).append(one.name)
    for (benchmark, base, at, stands), names in sorted(groups.items(), key=lambda group: -group[0][2]):
        suspects = tuple(commit for commit in commits[base + 1 : at + 1] if commit.code)
        yield Failure(benchmark, tuple(names), commits[at], suspects, stands)


def _onsets(series: Series) -> Iterator[tuple[int, int, bool]]:
    """Where it ran last, where it failed next, and whether it fails still."""
    failed = {at for at, reason in series.gaps.items() if reason == FAILED}
    if not failed:
        return
    known = [at for at, value in enumerate(series.values) if at in failed or value == value]
    runs = [at for at in known if at not in failed]
    for base, at in pairwise(known):
        if at in failed and base not in failed:
            yield base, at, at > runs[-1]
