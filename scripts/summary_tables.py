"""The tables of a run of benchmarks, for a terminal: one of each thing that is read of its records."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from rich import box
from rich.markup import escape
from rich.table import Table

from benchmarks._matrix import STAGES, STEPS, THINKING, TIERS_GB, WITH_LM, cell
from harness.text import harmless


def tables(header: dict, records: dict, memory: dict, subjects: dict) -> Iterator[Table]:
    """Those that a run has something for, of what was timed, of memory, and of other subjects."""
    every = [stage_table(header, records, thinking) for thinking in THINKING]
    every += [throughput_table(records), stream_table(records), scaling_table(records)]
    every += [memory_table(memory)] if memory else []
    yield from (table for table in [*every, subject_table(subjects)] if table.row_count)


def stage_table(header: dict, records: dict[str, dict], thinking: bool) -> Table:
    """Where the time of one item goes, a column per duration."""
    generated = [name for name in header["planned"] if name.startswith("generate ")]
    durations = sorted({int(name.split("duration_s=")[1].split()[0]) for name in generated})
    size = {"batch": 1, "thinking": thinking, "steps": STEPS[0]}
    cells = {duration_s: cell("generate", duration_s=duration_s, **size).name for duration_s in durations}
    columns = [
        (duration_s, records[name])
        for duration_s, name in cells.items()
        if records.get(name, {}).get("status") == "ok"
    ]
    planner = "with" if thinking else "without"
    table = _table(
        f"One item, {STEPS[0]} steps, {planner} planning: median ms of {header['repeats']}", "stage"
    )
    for duration_s, _ in columns:
        table.add_column(f"{duration_s} s", justify="right")
    for stage in STAGES:
        times = [_ms(run["stages_s"].get(stage) for run in record["runs"]) for _, record in columns]
        if any(times):
            table.add_row(stage, *times)
    if not columns:
        return table
    table.add_section()
    table.add_row(
        "wall", *(_ms(run["wall_s"] for run in record["runs"]) for _, record in columns), style="bold"
    )
    rtf = [median(run["wall_s"] for run in record["runs"]) / duration_s for duration_s, record in columns]
    table.add_row("real-time factor", *(f"{value:.4f}" for value in rtf))
    return table


def throughput_table(records: dict[str, dict]) -> Table:
    """What the language model does per second, over both planning phases."""
    table = _table("Planning: tokens/s", "", "prefill", "decode")
    for name, record in records.items():
        if name.startswith("plan") and "thinking=True" in name and record["status"] == "ok":
            rates = (
                record["counts"][f"lm_{phase}_tokens"]
                / median(run["stages_s"][f"lm_{phase}"] for run in record["runs"])
                for phase in ("prefill", "decode")
            )
            table.add_row(
                name.split(" ", 1)[1].replace(" thinking=True", ""), *(f"{rate:,.0f}" for rate in rates)
            )
    return table


def stream_table(records: dict[str, dict]) -> Table:
    """What a player at 1x hears of a song while it is decoded."""
    headings = ("first code", "latents", "first audio", "worst gap", "underruns")
    table = _table("Streaming one item at 1x: median ms", "song, chunk", *headings)
    for name, record in records.items():
        if name.startswith("stream ") and record["status"] == "ok":
            seconds = ("first_code_s", "latents_s", "first_audio_s", "gap_worst_s")
            times = (_ms(run[what] for run in record["runs"]) for what in seconds)
            underruns = median(run["underruns"] for run in record["runs"])
            size = dict(word.split("=") for word in name.split()[1:])
            planned = ", LM" if size["thinking"] == "True" else ""
            table.add_row(f"{size['duration_s']} s, {size['chunk_s']} s{planned}", *times, f"{underruns:g}")
    return table


def subject_table(records: dict[str, dict]) -> Table:
    """How long requests of subjects take, and when those that are streamed are heard."""
    headings = ("wall", "first audio", "worst gap", "underruns")
    table = _table("Other subjects: median ms", "", *headings)
    for name, record in records.items():
        kind, *params = name.split()
        if kind in ("request", "streamed") and record["status"] == "ok":
            runs = record["runs"]
            times = (
                _ms(run.get(what) for run in runs) for what in ("wall_s", "first_audio_s", "gap_worst_s")
            )
            underruns = [run["underruns"] for run in runs if "underruns" in run]
            values = " ".join((kind, *(param.partition("=")[2] for param in params)))
            table.add_row(escape(harmless(values)), *times, f"{median(underruns):g}" if underruns else "")
    return table


def memory_table(records: dict[str, dict]) -> Table:
    """Peak of one generation per tier, or the word for why there is none."""
    table = _table("Peak memory of one capped process: MiB", "tier", "without LM", "with LM")
    for tier in TIERS_GB:
        cases = [records.get(cell("memory", tier_gb=tier, lm=lm).name, {"status": ""}) for lm in WITH_LM]
        shown = (
            f"{one['peak_bytes'] / 2**20:,.0f}" if one["status"] == "ok" else escape(harmless(one["status"]))
            for one in cases
        )
        table.add_row(f"{tier} GB", *shown)
    return table


def scaling_table(records: dict[str, dict]) -> Table:
    """How seconds grow with length: estimates, and their intervals by bootstrap over the samples."""
    table = _table(
        "Growth with length: exponent, ms per s (or token), ms", "", "exponent", "slope", "intercept"
    )
    for record in records.values():
        if "growth" in record:
            growth = record["growth"]
            shown = (_interval(growth[name], 1e3, digits=2) for name in ("slope", "intercept"))
            name = record["cell"].partition("component=")[2]
            table.add_row(escape(harmless(name)), _interval(growth["exponent"], 1, digits=3), *shown)
    return table


def _interval(estimate: list[float | None], scale: float, digits: int) -> str:
    """An estimate in its interval, in so many digits, or as many as are before the point."""
    bounds = [None if bound is None else scale * bound for bound in estimate]
    value, low, high = (
        "" if bound is None else f"{bound:.0f}" if abs(bound) >= 10**digits else f"{bound:.{digits}g}"
        for bound in bounds
    )
    return f"{value} [{low}, {high}]" if low else value


def _table(title: str, *headings: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE, min_width=len(title))
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number else "left")
    return table


def _ms(samples_s) -> str:
    """A median, in nine characters up to ten thousand seconds."""
    known = [value for value in samples_s if value is not None]
    if not known:
        return ""
    value = 1e3 * median(known)
    return f"{value:,.1f}" if value < 999_999.95 else f"{value:,.0f}"
