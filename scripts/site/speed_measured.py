"""Charts of what was timed: stages of a song, and songs on machines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks._matrix import STAGES
from scripts.site.charts import Chart
from scripts.site.speed_numbers import Request, Times

SONG_S = 60  # the length that is told of, where there is a choice
# Of the stages in their order, the same in every chart: Tableau's, a strong one and its light one by turns.
COLOURS = (
    "#4c78a8", "#9ecae9", "#f58518", "#ffbf79", "#54a24b", "#88d27a",
    "#b79a20", "#f2cf5b", "#439894", "#83bcb6", "#e45756", "#ff9d98",
)  # fmt: skip
LETTER = 6.5  # pixels of a name in a bar


def typical(requests: Mapping[Request, Any]) -> Request | None:
    """Of what was measured, the one nearest to SONG_S, without planning where there is a choice."""
    return min(requests, key=lambda one: (abs(one.music_s - SONG_S), one.planned), default=None)


def stages(times: Sequence[Times]) -> Chart | None:
    """Stages of one song by its length, on a machine that the reader chooses."""
    rows = [
        {
            "machine": one.machine, "commit": one.commit.sha[:8], "stage": stage,
            "music": f"{request.music_s} s{', planned' if request.planned else ''}",
            "place": 2 * request.music_s + request.planned, "order": STAGES.index(stage),
            "seconds": ran[stage], "share": ran[stage] / sum(ran.values()),
            "doubt": one.doubts.get(request, ""),
        }
        for one in times
        for request, ran in sorted(one.stages.items())
        for stage in STAGES
        if stage in ran
    ]  # fmt: skip
    if not rows:
        return None
    machines = list(dict.fromkeys(row["machine"] for row in rows))
    bars = stacked("music", max(len(one.stages) for one in times), _present(rows))
    story = (
        "One song, 8 steps, at the newest timed commit; planned: the language model writes its codes first."
    )
    return Chart(
        "stages", "Measured: stages of one song, by its length",
        story,
        {"machine": "machine", "commit": "commit", "music": "music", "stage": "stage", "seconds": "seconds",
         "share": "share of the song", "doubt": "doubtful because"},
        rows, chosen("machine", "machine", machines) | bars,
    )  # fmt: skip


def _present(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return [stage for stage in STAGES if any(row["stage"] == stage for row in rows)]


def songs(times: Sequence[Times]) -> Chart | None:
    """Seconds a song by its length: machines beside each other."""
    rows = [
        {
            "machine": one.machine, "commit": one.commit.sha[:8], "music_s": request.music_s,
            "planned": "yes" if request.planned else "no", "batch": request.batch,
            "seconds": wall_s / request.batch, "speed": request.music_s * request.batch / wall_s,
            "line": f"{one.machine}{', planned' if request.planned else ''}",
            "doubt": one.doubts.get(request, ""),
        }
        for one in times
        for request, wall_s in sorted(one.walls.items())
    ]  # fmt: skip
    if not rows:
        return None
    fastest = max(rows, key=lambda row: row["speed"])
    at_once = f", {fastest['batch']} at once" if fastest["batch"] > 1 else ""
    return Chart(
        "songs", "Measured: seconds a song, machine against machine",
        f"The fastest: {fastest['music_s']} s of music in {fastest['seconds']:.3g} s on {fastest['machine']}"
        f"{at_once}, {fastest['speed']:.3g} times as fast as it plays.",
        {"machine": "machine", "commit": "commit", "music_s": "seconds of music", "planned": "planned",
         "batch": "songs at once", "seconds": "seconds a song", "speed": "times as fast as it plays",
         "doubt": "doubtful because"},
        rows, chosen("batch", "songs at once", sorted({row["batch"] for row in rows})) | _by_length(rows),
    )  # fmt: skip


def _by_length(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of a chart's specification: a line and its points for each machine."""
    length = {"field": "music_s", "type": "quantitative", "title": "seconds of music"}
    length |= {"scale": {"zero": True}}
    place = {"x": length, "y": {"field": "seconds", "type": "quantitative", "title": "seconds a song"}}
    lines = list(dict.fromkeys(row["line"] for row in rows))
    line = {
        "field": "line",
        "title": None,
        "scale": {"domain": lines},
        "legend": {"columns": 1, "labelLimit": 300},
    }
    tooltip = [{"field": name} for name in ("line", "batch", "music_s", "seconds", "speed")]
    return {
        "height": 240,
        "layer": [
            {"mark": "line", "encoding": place | {"color": line}},
            {
                "mark": {"type": "point", "filled": True, "size": 90},
                "encoding": place | {"color": line, "shape": line, "tooltip": tooltip},
            },
        ],
    }


def chosen(field: str, label: str, options: Sequence[Any]) -> dict[str, Any]:
    """Of a chart's specification: only rows whose field is what the reader chooses among `options`, of which
    the first is chosen to begin with."""
    bind = {"input": "select", "options": list(options), "name": f"{label} "}
    return {
        "params": [{"name": f"the_{field}", "value": options[0], "bind": bind}] if len(options) > 1 else [],
        "transform": [{"filter": f"datum.{field} == the_{field}"}] if len(options) > 1 else [],
    }


def coloured(stages: Sequence[str]) -> dict[str, Any]:
    """The channel of a chart that tells stages apart, of those that it has."""
    range_ = [COLOURS[STAGES.index(stage)] for stage in stages]
    return {"field": "stage", "title": None, "scale": {"domain": list(stages), "range": range_}}


def stacked(field: str, bars: int, stages: Sequence[str]) -> dict[str, Any]:
    """The same: a bar for each value of `field`, `bars` at most, by `place` from above, of `stages` in
    their order; a stage that has room for its name has it."""
    y = {"field": field, "type": "nominal", "title": None, "sort": {"field": "place", "op": "min"}}
    x = {"field": "seconds", "type": "quantitative", "title": "seconds", "stack": "zero"}
    order = {"field": "order"}
    color = coloured(stages)
    tooltip = [{"field": name} for name in (field, "stage", "seconds", "share")]
    room = f"datum.seconds / datum.longest * width > {LETTER} * (length(datum.stage) + 1)"
    return {
        "height": 30 * bars,
        "layer": [
            {"mark": "bar", "encoding": {"y": y, "x": x, "color": color, "order": order, "tooltip": tooltip}},
            {
                "transform": [
                    {"joinaggregate": [{"op": "sum", "field": "seconds", "as": "whole"}], "groupby": [field]},
                    {"joinaggregate": [{"op": "max", "field": "whole", "as": "longest"}]},
                    {"calculate": f"{room} ? datum.stage : ''", "as": "name"},
                ],
                "mark": {"type": "text", "fill": "black"},
                "encoding": {
                    "y": y, "x": x | {"bandPosition": 0.5}, "order": order, "detail": {"field": "stage"},
                    "text": {"field": "name"},
                },
            },
        ],
    }  # fmt: skip
