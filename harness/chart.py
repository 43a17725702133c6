"""Memory over time as an SVG: coloured by what was going on, the cap as a dashed line."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import cycle, groupby
from operator import attrgetter
from typing import NamedTuple, Protocol

from markupsafe import Markup

from harness.memory import GIB
from harness.page import safe
from harness.trace.cost import LOADING

MIB = 2**20
GB_FROM = GIB // 10
WIDTH, HEIGHT = 760, 220  # in user units
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 16, 30
HEADROOM = 1.08
FINEST = 0.5  # what is nearer in time is one point
# A cap far above the curve would flatten it: from there on it is told in words.
FARTHEST_CAP = 4
# For stages in the order they run, again from the start where there are more of them.
PALETTE = (
    *("#9ecae9", "#88d27a", "#c7b8a3", "#eeca3b", "#f58518", "#b279a2"),
    *("#ff9da6", "#d6a5c9", "#4c78a8", "#54a24b", "#72b7b2", "#9d755d"),
)
LOADING_COLOUR = "#9aa5b1"
OTHER = "#7f7f7f"  # of what is no stage
LINE = "currentColor"


class Sample(Protocol):
    """Memory in use at one moment, and what was going on."""

    @property
    def t_s(self) -> float: ...
    @property
    def phase(self) -> str: ...
    @property
    def used_bytes(self) -> int: ...


class Point(NamedTuple):
    """A sample as it is drawn."""

    t_s: float
    stage: str
    used_bytes: int
    reserved_bytes: int


def colours(stages: Sequence[str]) -> dict[str, str]:
    """A colour for each of a subject's stages, by its place among them, and one for loading before them."""
    return {LOADING: LOADING_COLOUR} | dict(zip(stages, cycle(PALETTE), strict=False))


class Chart:
    """The chart of `samples`, at least two of them, in order of time. `cap_bytes`: 0 for none.

    `stages`: the subject's, so that one has the same colour in every chart; parts of a stage (load/vae) share
    it. `reserved_bytes`: what an allocator held at each sample, drawn as a line; empty where nobody knows.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        cap_bytes: int,
        stages: Sequence[str],
        reserved_bytes: Sequence[int] = (),
    ):
        self._colours = colours(stages)
        self._cap_bytes = cap_bytes
        self._has_line = bool(reserved_bytes)
        peak_bytes = max(*(sample.used_bytes for sample in samples), *reserved_bytes)
        self._cap_fits = 0 < cap_bytes <= FARTHEST_CAP * peak_bytes
        self._top = HEADROOM * max(peak_bytes, cap_bytes if self._cap_fits else 0, 1)
        self._start_s, self._span_s = samples[0].t_s, max(samples[-1].t_s - samples[0].t_s, 1e-9)
        self._points = self._drawn(samples, reserved_bytes or [0] * len(samples))
        self._stages = dict.fromkeys(point.stage for point in self._points)  # in the order they ran

    def svg(self) -> Markup:
        """The picture and, below it, what its colours mean."""
        parts = "".join((*self._grid(), *self._areas(), *self._reserved(), *self._cap(), *self._seconds()))
        shown = {stage: self._colours.get(stage, OTHER) for stage in self._stages}
        if self._has_line:
            shown["reserved"] = LINE
        legend = "".join(
            f'<span><i style="background:{colour}"></i>{safe(name)}</span>' for name, colour in shown.items()
        )
        picture = (
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="memory over time">{parts}</svg>'
        )
        return Markup(f'{picture}<p class="legend">{legend}</p>')

    def _x(self, t_s: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (t_s - self._start_s) / self._span_s

    def _y(self, used_bytes: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * used_bytes / self._top

    def _drawn(self, samples: Sequence[Sample], reserved_bytes: Sequence[int]) -> list[Point]:
        """What can be told apart: of a stage's samples within a fraction of a unit, the highest."""
        points = [
            Point(sample.t_s, sample.phase.partition("/")[0], sample.used_bytes, held_bytes)
            for sample, held_bytes in zip(samples, reserved_bytes, strict=True)
        ]
        drawn = []
        for _, near in groupby(points, key=lambda point: (point.stage, self._x(point.t_s) // FINEST)):
            times, stages, used, held = zip(*near, strict=True)
            drawn.append(Point(times[0], stages[0], max(used), max(held)))
        return [*drawn, points[-1]] if drawn[-1].t_s < points[-1].t_s else drawn

    def _grid(self) -> Iterator[str]:
        """Lines at round sizes, four or so."""
        unit, name = (GIB, "GB") if self._top >= GB_FROM else (MIB, "MB")
        rough = self._top / unit / 4
        scale = 10 ** math.floor(math.log10(rough))
        step = next(round_ * scale for round_ in (1, 2, 5, 10) if round_ * scale >= rough)
        for number in range(int(self._top / unit / step) + 1):
            at = self._y(number * step * unit)
            yield _line(at, 'stroke="#8884"') + _label(LEFT - 6, at + 4, f"{number * step:g} {name}", "end")

    def _areas(self) -> Iterator[str]:
        """An area per stage, each going on to where the next begins."""
        runs = [(stage, list(run)) for stage, run in groupby(self._points, key=attrgetter("stage"))]
        for (stage, run), (_, following) in zip(runs, [*runs[1:], ("", [])], strict=True):
            path = self._steps([*run, *following[:1]])
            fill = f'fill="{self._colours.get(stage, OTHER)}" fill-opacity=".8"'
            yield f'<path d="{path}" {fill}><title>{safe(stage)}</title></path>'

    def _steps(self, run: Sequence[Point]) -> str:
        """The area under a step curve: what was in use stays so until the next sample."""
        floor, (first, *others) = self._y(0), run
        path = f"M{self._x(first.t_s):.1f} {floor:.1f}V{self._y(first.used_bytes):.1f}"
        path += "".join(f"H{self._x(s.t_s):.1f}V{self._y(s.used_bytes):.1f}" for s in others[:-1])
        return path + (f"H{self._x(run[-1].t_s):.1f}V{floor:.1f}Z")

    def _reserved(self) -> Iterator[str]:
        """A line in steps."""
        if self._has_line:
            (x, y), *others = ((self._x(point.t_s), self._y(point.reserved_bytes)) for point in self._points)
            path = f"M{x:.1f} {y:.1f}" + "".join(f"H{x:.1f}V{y:.1f}" for x, y in others)
            yield f'<path d="{path}" fill="none" stroke="{LINE}" stroke-width="1.2"/>'

    def _cap(self) -> Iterator[str]:
        if self._cap_bytes and not self._cap_fits:
            yield _label(WIDTH - RIGHT, TOP - 4, f"cap {size(self._cap_bytes)}, far above", "end")
        elif self._cap_bytes:
            at = self._y(self._cap_bytes)
            yield _line(at, 'stroke="#c62828" stroke-width="1.5" stroke-dasharray="6 4"')
            yield _label(WIDTH - RIGHT, at - 4, f"cap {size(self._cap_bytes)}", "end")

    def _seconds(self) -> Iterator[str]:
        for share, anchor in ((0, "start"), (0.5, "middle"), (1, "end")):
            t_s = self._start_s + share * self._span_s
            yield _label(self._x(t_s), HEIGHT - 10, f"{t_s:.{1 if self._span_s >= 1 else 3}f} s", anchor)


def size(size_bytes: float | None) -> str:
    """In GB, or MB where it is less than a tenth of one."""
    if size_bytes is None:
        return "—"
    return f"{size_bytes / GIB:.2f} GB" if size_bytes >= GB_FROM else f"{size_bytes / MIB:.1f} MB"


def _line(y: float, style: str) -> str:
    return f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" {style}/>'


def _label(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'
