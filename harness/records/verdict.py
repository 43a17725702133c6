"""The answer of a measurement in a sentence or two, composed from its record: what comes before any table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from harness.records.schema import Item

GIB = 2**30
PEAKS = {"driver": "the card", "reserved": "the card", "rss": "memory"}  # the first that is known
STATUSES = {"skip": "left out", "invalid": "wrong"}  # any other failed


def of_run(item: Item, what: str = "music") -> str:
    """How long its audio took and where, how that is to playing it, the longest stage, the peak of memory.

    The item has a typical run.
    """
    typical, audio_s = item.typical, float(item.counts["audio_s"])
    assert typical is not None
    items = item.audio.items if item.audio else 1
    many, them = (f"{items} x ", " them in turn") if items > 1 else ("", "")
    stage, stage_s = max(typical.stages_s.items(), key=lambda each: each[1])
    return (
        f"{many}{audio_s:g} s of {what} in {seconds(typical.wall_s)} on {where(item)}: "
        f"{speed(items * audio_s / typical.wall_s)} than playing{them}; "
        f"{stage_s / typical.wall_s:.0%} of it is {stage}.{_memory(item)}"
    )


def of_words(item: Item) -> str:
    """How long a text mode took and where, and how many tokens it wrote. The item has a typical run."""
    typical, tokens = item.typical, int(item.counts["lm_decode_tokens"])
    assert typical is not None
    decode_s = typical.stages_s.get("lm_decode", 0.0)
    rate = f", {tokens / decode_s:.3g} a second" if decode_s else ""
    took = f"{item.mode} in {seconds(typical.wall_s)} on {where(item)}"
    return f"{took}: {tokens} tokens{rate}.{_memory(item)}"


def of_rows(items: Sequence[Item], rows: str = "rows", what: str = "a song") -> str:
    """How many `rows` were measured and where, how fast `what` was made, and what became of the others."""
    ran = [item for item in items if item.typical and item.rtf]
    counts = Counter(STATUSES.get(item.status, "failed") for item in items if item.status != "ok")
    others = "".join(f"; {number} {word}" for word, number in counts.items())
    measured = sum(item.status == "ok" for item in items)
    if not ran:
        return f"{measured} of {len(items)} {rows} measured{others}."
    speeds = sorted(1 / item.rtf for item in ran if item.rtf)
    slowest, fastest = speed(speeds[0]), speed(speeds[-1])
    between = slowest if slowest == fastest else f"from {slowest} to {fastest}"
    place = where(ran[0])
    return f"{measured} of {len(items)} {rows} measured on {place}: {what} is {between} than playing{others}."


def where(item: Item) -> str:
    """What an item ran on, and with which weights."""
    of = item.effective
    facts = ", ".join(str(of[name]) for name in ("device", "dtype", "source") if of.get(name))
    name = of.get("device_name")
    return f"{name} ({facts})" if name else facts


def speed(ratio: float) -> str:
    """How a rate is to another."""
    return f"{_times(ratio)} times faster" if ratio >= 1 else f"{_times(1 / ratio)} times slower"


def seconds(value: float) -> str:
    """Three digits, or all that are before the point."""
    return f"{value:.3g} s" if value < 999.5 else f"{value:,.0f} s"


def _times(ratio: float) -> str:
    return f"{ratio:.2g}" if ratio < 99.5 else f"{ratio:,.0f}"


def _memory(item: Item) -> str:
    source = next((name for name in PEAKS if item.memory_bytes.get(name)), None)
    return f" At most {item.memory_bytes[source] / GIB:.2f} GiB of {PEAKS[source]}." if source else ""
