"""Memory over time as an SVG: coloured by what the worker was doing, the cap as a dashed line."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape
from itertools import groupby

from acestep.gpu_config import GIB
from acestep.profiler.tables import harmless
from tiersim.record import Sample

MIB = 2**20
GB_FROM = GIB // 10
WIDTH, HEIGHT = 760, 220  # in user units
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 16, 30
HEADROOM = 1.08
# A cap far above the curve would flatten it: from there on it is told in words.
FARTHEST_CAP = 4
# By stage, the same in every chart of a page; parts of a stage (load/vae) share its colour.
COLOURS = {
    "load": "#9aa5b1",
    "offload": "#c7b8a3",
    "lm_prefill": "#eeca3b",
    "lm_decode": "#f58518",
    "text_encode": "#b279a2",
    "condition": "#ff9da6",
    "diffuse": "#4c78a8",
    "vae_decode": "#54a24b",
    "post": "#72b7b2",
    "save": "#9d755d",
}
OTHER = "#7f7f7f"


class Chart:
    """The chart of `samples`, at least two of them. `cap_bytes`: 0 for none."""

    def __init__(self, samples: Sequence[Sample], cap_bytes: int):
        self._samples = samples
        self._cap_bytes = cap_bytes
        peak_bytes = max(sample.used_bytes for sample in samples)
        self._cap_fits = 0 < cap_bytes <= FARTHEST_CAP * peak_bytes
        self._top = HEADROOM * max(peak_bytes, cap_bytes if self._cap_fits else 0, 1)
        self._start_s, self._span_s = samples[0].t_s, max(samples[-1].t_s - samples[0].t_s, 1e-9)
        self._stages = dict.fromkeys(map(_stage, samples))  # in the order they ran

    def svg(self) -> str:
        """The picture and, below it, what its colours mean."""
        parts = "".join((*self._grid(), *self._areas(), *self._cap(), *self._seconds()))
        legend = "".join(
            f'<span><i style="background:{COLOURS.get(stage, OTHER)}"></i>{safe(stage)}</span>'
            for stage in self._stages
        )
        picture = (
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="memory over time">{parts}</svg>'
        )
        return f'{picture}<p class="legend">{legend}</p>'

    def _x(self, t_s: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (t_s - self._start_s) / self._span_s

    def _y(self, used_bytes: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * used_bytes / self._top

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
        runs = [(stage, list(run)) for stage, run in groupby(self._samples, key=_stage)]
        for (stage, run), (_, following) in zip(runs, [*runs[1:], ("", [])], strict=True):
            path = self._steps([*run, *following[:1]])
            fill = f'fill="{COLOURS.get(stage, OTHER)}" fill-opacity=".8"'
            yield f'<path d="{path}" {fill}><title>{safe(stage)}</title></path>'

    def _steps(self, run: Sequence[Sample]) -> str:
        """The area under a step curve: what was in use stays so until the next sample."""
        floor, (first, *others) = self._y(0), run
        path = f"M{self._x(first.t_s):.1f} {floor:.1f}V{self._y(first.used_bytes):.1f}"
        path += "".join(f"H{self._x(s.t_s):.1f}V{self._y(s.used_bytes):.1f}" for s in others[:-1])
        return path + (f"H{self._x(run[-1].t_s):.1f}V{floor:.1f}Z")

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
            yield _label(self._x(t_s), HEIGHT - 10, f"{t_s:.1f} s", anchor)


def safe(text: str) -> str:
    """`text` for a page: escaped, and without characters that would hide or reorder what follows."""
    return "\n".join(escape(harmless(line)) for line in text.split("\n"))


def size(size_bytes: float | None) -> str:
    """In GB, or MB where it is less than a tenth of one."""
    if size_bytes is None:
        return "—"
    return f"{size_bytes / GIB:.2f} GB" if size_bytes >= GB_FROM else f"{size_bytes / MIB:.1f} MB"


def _stage(sample: Sample) -> str:
    return sample.phase.partition("/")[0]


def _line(y: float, style: str) -> str:
    return f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" {style}/>'


def _label(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'
