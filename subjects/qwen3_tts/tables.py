"""Tables of the runner, for a terminal of 80 columns. No torch import here."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

from msgspec import UNSET

from harness.records.memory import MemoryByStage
from harness.records.schema import Input, Item
from harness.records.verdict import of_rows
from harness.spans import OTHER
from harness.text import harmless, wrapped

NONE = "n/a"
MIB = 2**20
WIDTH = 79
SUMMARY = ("input", "device", "dtype", "audio s", "wall s", "first ms", "rtf", "x real", "tok/s", "MiB")
WIDTHS = (8, 8, 9, 8, 9, 9, 8, 8, 7, 5)
NOTE = "rtf: wall over audio, x real its inverse; tok/s: in talker_decode alone"
FIRST = {  # what the time to the first chunk is made of, by stages
    "prefill": ("prompt", "talker_prefill"),
    "frames": ("sampling", "code_predictor", "talker_decode"),
    "decode": ("decode",),
}


def verdict(items: Sequence[Item]) -> str:
    """How many inputs were measured and where, and how fast."""
    return "\n".join(wrapped(of_rows(items, "inputs", "speech"), WIDTH))


def heads() -> str:
    """What stands above rows."""
    return f"{_row(SUMMARY)}\n{'-' * WIDTH}"


def row(item: Item) -> str:
    """The line of an item, and what is wrong with it; of one that did not run, why."""
    effective, typical = item.effective, item.typical
    if typical is None:
        return "\n".join(_told(item, f"{effective.get('device', '')}: "))
    stream = typical.stream
    first_ms = None if stream is UNSET else stream.time_to_first_chunk_ms  # type: ignore[union-attr]
    tokens, talker_s = item.counts["talker_tokens"], typical.stages_s.get("talker_decode")
    cells = (
        name(item),
        str(effective["device"]),
        str(effective["dtype"]),
        f"{item.counts['audio_s']:.2f}",
        f"{typical.wall_s:.3f}",
        NONE if first_ms is None else f"{first_ms:.1f}",
        f"{item.rtf:.3f}",
        f"{1 / item.rtf:.3f}" if item.rtf else NONE,
        f"{tokens / talker_s:.1f}" if talker_s else NONE,
        f"{max(item.memory_bytes.values(), default=0) / MIB:.0f}" if item.memory_bytes else NONE,
    )
    return "\n".join((_row(cells), *problem(item)))


def problem(item: Item) -> list[str]:
    """Lines that say what is wrong with an item, if anything."""
    return _told(item) if item.error else []


def stages(item: Item) -> str:
    """Where the wall of the typical run went, and the time to the first chunk, if it was streamed."""
    typical = item.typical
    assert typical is not None
    lines = [f"{name(item)}: stages of the typical of {len(typical_walls := item.samples)} runs"]
    assert typical_walls
    for stage, seconds in typical.stages_s.items():
        lines.append(f"  {stage:<16}{1e3 * seconds:>12.2f} ms {seconds / typical.wall_s:>7.1%}")
    lines.append(f"  {'wall':<16}{1e3 * typical.wall_s:>12.2f} ms {1:>7.1%}")
    if typical.stream is not UNSET:
        stream = typical.stream
        parts = split(stream.first_chunk_stages_ms or {})  # type: ignore[union-attr]
        total = stream.time_to_first_chunk_ms  # type: ignore[union-attr]
        text = ", ".join(f"{name} {part:.1f}" for name, part in parts.items())
        lines += textwrap.wrap(
            f"first chunk after {total:.1f} ms: {text}", WIDTH, initial_indent="  ", subsequent_indent="    "
        )
        error = stream.offline_error  # type: ignore[union-attr]
        distance = "of another length" if error is None else f"{error:.2g} of the peak off"
        lines.append(f"  beside the same frames decoded at once: {distance}")
    return "\n".join(lines)


def split(stages_ms: Mapping[str, float]) -> dict[str, float]:
    """Milliseconds to the first chunk by `FIRST`, and what is left as `other`."""
    parts = {name: sum(stages_ms.get(stage, 0.0) for stage in stages) for name, stages in FIRST.items()}
    return parts | {OTHER: sum(stages_ms.values()) - sum(parts.values())}


def memory(name: str, by_stage: MemoryByStage) -> str:
    """Memory where each stage ended; peaks are those since the line above."""
    heads = ("MiB", "RSS", "RSS peak", "alloc", "its peak", "reserved", "weights")
    rows: list[Sequence[str]] = [heads]
    for one in by_stage.boundaries:
        sizes = (
            *(one.rss_bytes, one.rss_peak_bytes, one.allocated_bytes, one.allocated_peak_bytes),
            *(one.reserved_bytes, one.weights_bytes),
        )
        rows.append((one.stage, *(NONE if size is None else f"{size / MIB:,.0f}" for size in sizes)))
    lines = (f"  {row[0]:<14}" + "".join(f"{cell:>10}" for cell in row[1:]) for row in rows)
    return "\n".join((f"{name}: memory at the end of each stage", *lines))


def _told(item: Item, where: str = "") -> list[str]:
    """Why there is nothing to show of an item, or what is wrong with it."""
    line = f"{name(item):<8}{where}{item.status}: {item.error}"
    return textwrap.wrap(harmless(line), WIDTH, subsequent_indent=" " * 8, break_on_hyphens=False)


def name(item: Item) -> str:
    """Of the input of an item."""
    return item.input.name if isinstance(item.input, Input) else item.mode


def _row(cells: Sequence[str]) -> str:
    left = (f"{cell:<{width}}" for cell, width in zip(cells[:3], WIDTHS[:3], strict=True))
    return "".join(left) + "".join(f"{c:>{w}}" for c, w in zip(cells[3:], WIDTHS[3:], strict=True))
