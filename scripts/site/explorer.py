"""The explorer: asv-tachyon's pages of all series, which open on what moved and call worse what got worse.

Its graphs are as asv wrote them. What it reads instead of asv's index, `explorer.json`, has one name for each
machine with its environment, and of each the series that were measured there, the one that moved most first,
and what has failed since last.
Which way a series moved, and what of it still stands, is what `scripts.changes` says.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from asv.graph import Graph, GraphSet
from asv.util import is_na

from harness.text import harmless
from scripts.changes.show import CARDS, on_cards
from scripts.changes.standing import Step, paths, standing, verdict
from scripts.changes.units import by_difference
from scripts.gate.causes import percent
from scripts.git import git
from scripts.site.page import Site

MOST_LABEL = 80  # characters
LAST = 1_000_000
EMPTY = {"profiles.json": {"paths": {}}, "regressions-ignore.json": []}


@dataclass(frozen=True)
class Environment:
    """A machine with all that asv tells series apart by: `params`, as they are in the names of its files.

    `steps` has what commits did to its series, by their names.
    """

    label: str
    params: Mapping[str, str | None]
    graphs: Mapping[str, Graph]
    steps: Mapping[str, list[Step]] = field(default_factory=dict)


def write(site: Site, published: dict[str, Any], benchmarks: Mapping[str, dict], graphs: GraphSet,
          revisions: Mapping[str, int], html: Path) -> None:  # fmt: skip
    """Write what the explorer reads into `html`. `published`: what it knows of the project; `revisions`: the
    numbers of commits in the graphs."""
    environments = list(_environments(site, graphs))
    subjects = git("log", "--no-walk", "--format=%H%x1f%s", *revisions).splitlines()
    files: dict[str, Any] = dict(EMPTY) | {
        "commits.json": dict(line.split("\x1f", 1) for line in subjects),
        "regressions.json": {
            "regressions": [row for one in environments for row in _regressions(one, benchmarks, revisions)]
        },
        "explorer.json": _index(environments, benchmarks, revisions) | published,
    }
    for environment in environments:
        for name in benchmarks:
            path = Graph.get_file_path(dict(environment.params), name) + ".json"
            if not (html / path).exists():
                files[path] = []
            files[path.replace("graphs", "samples", 1)] = {}
    for name, content in files.items():
        (html / name).parent.mkdir(parents=True, exist_ok=True)
        (html / name).write_text(json.dumps(content), "utf-8")


def _environments(site: Site, graphs: GraphSet) -> Iterator[Environment]:
    """All that were measured, the latest first; what is on no branch has no changes, and comes last."""
    groups: dict[Path, dict[str, Graph]] = {}
    for path, graph in graphs:
        groups.setdefault(Path(path).parent, {})[graph.benchmark_name] = graph
    every = [next(iter(group.values())).params for group in groups.values()]
    places = [_place(site, params) for params in every]
    for place, label, params, group in sorted(
        zip(places, _labels(every), every, groups.values(), strict=True), key=lambda row: row[:2]
    ):
        yield Environment(label, params, group, paths(site.report.machines[place]) if place < LAST else {})


def _place(site: Site, params: Mapping[str, str | None]) -> int:
    """Which of the report's machines has been measured with `params`; LAST of none."""
    order = [(one.facts, one.environment) for one in site.report.machines]
    for machine in site.history.machines:
        variables = {f"env-{name}": value for name, value in machine.variables.items()}
        if _identity(machine.facts | variables) == _identity(params):
            return order.index((machine.facts, machine.environment))
    return LAST


def _identity(params: Mapping[str, str | None]) -> dict[str, str]:
    """What tells a machine with its environment apart. asv adds the branch, and as None what others have."""
    return {
        name: str(value) for name, value in params.items() if value not in (None, "") and name != "branch"
    }


def _labels(every: list[dict[str, str | None]]) -> Iterator[str]:
    """A name of each: its machine's, and in what it differs from others of that machine."""
    taken: set[str] = set()
    for params in every:
        machine = params.get("machine")
        rivals = [one for one in every if one.get("machine") == machine]
        own = [value for name, value in params.items() if any(one.get(name) != value for one in rivals)]
        label = harmless(" · ".join(str(value) for value in (machine, *own) if value), most=MOST_LABEL)
        while label in taken:
            label += "'"
        taken.add(label)
        yield label


def _index(environments: list[Environment], benchmarks: Mapping[str, dict], revisions: Mapping[str, int]):
    """What there is to look at."""
    shown = {one.label: dict(_measured(one, benchmarks, revisions)) for one in environments}
    measured = {name for names in shown.values() for name in names}
    return {
        "revision_to_hash": {revision: sha for sha, revision in revisions.items()},
        "params": {"machine": list(shown)},
        "graph_param_list": [{"machine": label} for label in shown],
        "environments": {one.label: one.params for one in environments},
        "machines": {str(one.params.get("machine")): one.params for one in environments},
        "benchmarks": {
            name: benchmark | {
                "by_difference": by_difference(benchmark.get("unit", ""), name),
                "apart": benchmark.get("unit") in CARDS,
            }
            for name, benchmark in benchmarks.items() if name in measured
        },
        "measured": shown,
    }  # fmt: skip


def _measured(environment: Environment, benchmarks: Mapping[str, dict], revisions: Mapping[str, int]):
    """Of each benchmark with a value, the places of its series that have one, the furthest moved first; which
    of them are worse (1) or better (-1) than they were; and what commits did to any of them."""
    for name, benchmark in benchmarks.items():
        if not (last := _columns(environment.graphs.get(name))):
            continue
        series = {at: environment.steps.get(one, []) for at, one in _series(name, benchmark) if at in last}
        ends = max(last.values())
        size = {at: max([abs(moved.step) for _, moved in path], default=0) for at, path in series.items()}
        rank = {
            at: (last[at] < ends, -size[at], at) for at in series
        }  # what has failed since is no latest value
        own = {
            "order": sorted(series, key=rank.__getitem__),
            "verdicts": {at: verdict(path) for at, path in series.items() if path},
            "moves": _moves([step for path in series.values() for step in path], revisions),
        }
        yield name, own


def _columns(graph: Graph | None) -> dict[int, int]:
    """The places of series that have a value, and the revision of their last."""
    points = sorted(graph.data_points.items()) if graph else []
    known = ((revision, row) for revision, rows in points for row in rows)
    return {at: revision for revision, row in known for at, value in enumerate(row) if not is_na(value)}


def _series(name: str, benchmark: dict) -> Iterator[tuple[int, str]]:
    """The places of all series of a benchmark, and their names."""
    for at, values in enumerate(product(*benchmark["params"])):
        yield at, f"{name}({', '.join(values)})" if values else name


def _moves(steps: list[Step], revisions: Mapping[str, int]) -> dict[int, tuple[bool, str]]:
    """By revision what a commit did there: whether for the worse, and how much. Of several the worst."""
    steps = [one for one in steps if one.shift.commit.sha in revisions]
    steps.sort(key=lambda one: (one.shift.worse, abs(one.moved.step)))
    return {revisions[one.shift.commit.sha]: (one.shift.worse, _amount(one)) for one in steps}


def _amount(step: Step) -> str:
    """How far a series moved: a percentage, a difference, or from what to what."""
    shift, moved = step
    if shift.unit in CARDS:
        return on_cards(shift.unit, moved)
    if moved.ratio is not None:
        return percent(moved.ratio - 1)
    if shift.difference is None:
        return f"{moved.before:g} to {moved.after:g}"
    return f"{moved.step:+.3g} {shift.unit}"


def _regressions(environment: Environment, benchmarks: Mapping[str, dict], revisions: Mapping[str, int]):
    """Rows of asv's format: a series that is worse than it was, its last and its best value, and the commits
    that did it. Where no ratio says how much, an eighth field does."""
    for name, benchmark in benchmarks.items():
        path = Graph.get_file_path(dict(environment.params), name) + ".json"
        for at, series in _series(name, benchmark):
            steps = environment.steps.get(series, [])
            jumps = [_jump(one, revisions) for one in standing(steps) if one.shift.commit.sha in revisions]
            if jumps:
                last, best = steps[-1].moved.after, jumps[0][2]
                end = steps[-1]
                apart = None if end.moved.ratio and end.shift.unit not in CARDS else _amount(end)
                column = at if benchmark["params"] else None
                yield [series, path, {"machine": environment.label}, column, last, best, jumps, apart]


def _jump(step: Step, revisions: Mapping[str, int]) -> tuple[int | None, int, float, float]:
    """Revision before (None of one commit) and of a loss, values before and after."""
    shift, moved = step
    first = revisions.get(shift.since.sha) if shift.since != shift.commit else None
    return first, revisions[shift.commit.sha], moved.before, moved.after
