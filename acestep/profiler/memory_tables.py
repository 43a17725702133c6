"""Terminal output of what a run held in memory, and of what the card did meanwhile. No torch import here."""

from __future__ import annotations

from collections.abc import Mapping

from harness.records.memory import MemoryByStage
from harness.records.telemetry import Telemetry, shares
from harness.text import wrapped

RULE = 80
# Heads, and what of a boundary is below them.
COLUMNS = (
    *(("RSS", "rss"), ("peak", "rss_peak"), ("allocated", "allocated"), ("peak", "allocated_peak")),
    *(("reserved", "reserved"), ("driver", "driver"), ("weights", "weights")),
)
WIDTHS = (8, 10, 10, 9, 10, 9, 10)
# Beside the columns: the driver's beyond the allocator's, what is not on the card, what is swapped out.
AT_END = ("context", "spilled", "swap")
MIB = 2**20


def sizes(memory_bytes: Mapping[str, int]) -> list[str]:
    """Lines of an item's memory: peaks, and what is there at the end unless that is none."""
    return [
        f"{name if name in AT_END else f'peak {name}'} {size / 2**30:.2f} GiB"
        for name, size in memory_bytes.items()
        if size or name not in AT_END
    ]


def telemetry(of: Telemetry, width: int) -> list[str]:
    """Lines of what the card did: joules, watts, clocks, and what held it back."""
    clocks_mhz = [one.sm_clock_mhz for one in of.readings if one.sm_clock_mhz is not None]
    held_back = "n/a" if of.throttling is None else shares(of.throttling) or "none"
    lines = (
        f"energy {_figure(of.joules_per_song, 'J')} a song, {_figure(of.joules_per_audio_s, 'J')} a second"
        f" of audio; {_figure(of.mean_w, 'W')}, the limit is {_figure(of.power_limit_w, 'W')}",
        f"clock {_figure(min(clocks_mhz, default=None), 'MHz')} to"
        f" {_figure(max(clocks_mhz, default=None), 'MHz')}; throttling: {held_back}",
    )
    return [part for line in lines for part in wrapped(line, width)]


def _figure(value: float | None, unit: str) -> str:
    return "n/a" if value is None else f"{value:.4g} {unit}"


def memory(by_stage: MemoryByStage) -> str:
    """Memory where each stage ended: of the process, of torch's allocator, of the driver, of weights."""
    rows = [("MiB", *(head for head, _ in COLUMNS))]
    for one in by_stage.boundaries:
        rows.append((one.stage, *(_mib(getattr(one, f"{name}_bytes")) for _, name in COLUMNS)))
    lines = (f"  {stage:<12}" + "".join(map("{:>{}}".format, cells, WIDTHS)) for stage, *cells in rows)
    source = wrapped(f"Peaks are those since the line above; that of RSS is {by_stage.rss_source}.", RULE)
    most = ", ".join(f"{name} {_mib(by_stage.most(f'{name}_bytes'))}" for name in AT_END)
    return "\n".join(
        ("MEMORY AT THE END OF EACH STAGE", "=" * RULE, *lines, *source, f"At most, in MiB: {most}.")
    )


def _mib(size: int | None) -> str:
    return "n/a" if size is None else f"{size / MIB:,.0f}"
