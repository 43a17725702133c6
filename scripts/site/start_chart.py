"""The headline series: how long a song takes, on each machine, over the commits."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

from scripts.changes.history import History, Machine, Series
from scripts.changes.report import changes
from scripts.changes.results import FAILED
from scripts.site.charts import Chart
from scripts.site.page import Site, commit_page
from scripts.site.shifts import machines

BENCHMARK = "generate.TimeGenerate.track_wall"
LEAST_SPAN = 0.1  # of the axis, or noise would look like something
HEADINGS = {
    "date": "date", "commit": "commit", "subject": "subject", "machine": "machine", "seconds": "s",
    "level_s": "level, s", "note": "",
}  # fmt: skip


def chart(site: Site) -> Chart | None:
    """Wall time of the shortest song, one item, by commit; None where none was measured."""
    songs = [(name, one) for name, machine, _ in machines(site) for one in _songs(machine)]
    if not songs:
        return None
    length = min((float(one.params["duration_s"]) for _, one in songs))
    rows = [
        row
        for name, series in songs
        if float(series.params["duration_s"]) == length
        for row in _rows(site.history, name, series)
    ]
    rows.sort(key=lambda row: (row["at"], row["machine"]))
    title = f"A song of {length:g} s: its time against the first that was measured"
    return Chart("song", title, _story(rows), HEADINGS, rows, _spec(rows))


def _songs(machine: Machine) -> list[Series]:
    """The plainest request that a machine has, at every length."""
    own = [one for one in machine.series if one.benchmark == BENCHMARK]
    plain = [one for one in own if (one.params["batch"], one.params["thinking"]) == ("1", "False")]
    steps = min((int(one.params["steps"]) for one in plain), default=0)
    return [one for one in plain if int(one.params["steps"]) == steps]


def _rows(history: History, machine: str, series: Series) -> Iterator[dict[str, Any]]:
    """A row for each commit at which there should be a number."""
    moves = changes(series)
    level = moves[0].before if moves else _middle(series.sound)
    first = level or _middle(series.values)
    for at, value in enumerate(series.values):
        move = next((one for one in moves if one.at == at), None)
        level = move.after if move else level
        failed = series.gaps.get(at) == FAILED
        if math.isnan(value) and not failed:
            continue
        commit = history.commits[at]
        note = FAILED if failed else series.doubts.get(at, "")
        kind = (
            "doubtful"
            if note
            else "slower"
            if move and move.after > move.before
            else "faster"
            if move
            else ""
        )
        yield {
            "at": at, "date": commit.date[:10], "commit": commit.sha[:8], "subject": commit.subject,
            "machine": machine, "seconds": None if math.isnan(value) else round(value, 6),
            "level_s": level and round(level, 6), "note": note or kind, "kind": kind,
            "time": None if math.isnan(value) or not first else round(value / first - 1, 5),
            "level": None if not level or not first else round(level / first - 1, 5),
            "label": f"{commit.date[:10]} {commit.sha[:8]}", "page": commit_page(commit.sha),
        }  # fmt: skip


def _middle(values: Iterable[float]) -> float | None:
    """The middle one of those that are numbers; None where none is."""
    numbers = sorted(value for value in values if not math.isnan(value))
    return numbers[len(numbers) // 2] if numbers else None


def _story(rows: list[dict[str, Any]]) -> str:
    """What the chart says, in a sentence for each machine."""
    parts = []
    for name in dict.fromkeys(row["machine"] for row in rows):
        own = [row for row in rows if row["machine"] == name]
        moved = sum(row["kind"] in ("slower", "faster") for row in own)
        if own[-1]["level_s"]:
            state = f"now {own[-1]['level_s']:.3g} s, {moved or 'no'} change{'' if moved == 1 else 's'}"
        else:
            doubts = [row["note"] for row in own if row["seconds"] is not None]
            state = f"has no measurement without doubt ({doubts[-1]})" if doubts else "failed throughout"
        parts.append(f"{name} {state}")
    return f"{'; '.join(parts)}. The line is the level, points are measurements, triangles changes."


def _spec(rows: list[dict[str, Any]]) -> dict[str, Any]:
    known = [row["time"] for row in rows if row["time"] is not None]
    ends = [min([*known, -LEAST_SPAN]), max([*known, LEAST_SPAN])]
    x = {
        "field": "label", "type": "ordinal", "sort": None, "title": None,
        "axis": {"labelExpr": "slice(datum.label, 5, 10)", "labelOverlap": "greedy", "labelSeparation": 16,
                 "labelAngle": 0},
    }  # fmt: skip
    y = {
        "type": "quantitative", "title": None,
        "axis": {"format": "+.0%", "labelExpr": "datum.value ? datum.label : '0%'", "tickCount": 5},
        "scale": {"domain": ends},
    }  # fmt: skip
    names = [{"field": name, "type": "nominal"} for name in ("commit", "subject", "machine", "note")]
    tooltip = [*names, {"field": "seconds", "type": "quantitative", "format": ".4g"}]
    shapes = {"slower": "triangle-up", "faster": "triangle-down", "doubtful": "cross"}
    shape = [{"test": f"datum.kind == '{kind}'", "value": mark} for kind, mark in shapes.items()]
    machine = {"field": "machine", "type": "nominal", "title": None, "legend": {"symbolType": "stroke"}}
    moved = {"test": "datum.kind == 'slower' || datum.kind == 'faster'", "value": 110}
    return {
        "height": 200,
        "encoding": {"x": x, "color": machine, "strokeDash": machine},
        "layer": [
            {
                "mark": {"type": "line", "interpolate": "step-after", "strokeWidth": 1.5},
                "encoding": {"y": y | {"field": "level"}},
            },
            {
                "mark": {"type": "point", "filled": True, "cursor": "pointer"},
                "encoding": {
                    "y": y | {"field": "time"}, "shape": {"condition": shape, "value": "circle"},
                    "size": {"condition": moved, "value": 26}, "tooltip": tooltip,
                    "opacity": {"condition": {"test": "datum.kind == ''", "value": 0.55}, "value": 1},
                    "href": {"field": "page", "type": "nominal"},
                },
            },
        ],
    }  # fmt: skip
