"""The table `make bench` ends with, read from the records of the newest run of HEAD.

python -m scripts.summary
"""

from __future__ import annotations

if __name__ == "__main__":  # before anything else is imported
    from harness import interrupts

    interrupts.end_quietly()

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks._matrix import STAGES, STEPS, THINKING, TIERS_GB, WITH_LM, cell
from benchmarks._records import read
from harness import console
from harness.errors import MissingPrerequisite
from harness.records import machine
from harness.text import harmless

DESCRIPTION = "The verdict and the tables of the newest run of HEAD, from its records."
RECORDS = Path(".asv/records")
SITE = Path(".asv/html/index.html")
TOLD = ("ok", "failed")  # statuses that the verdict names first


def newest(kind: str, commit: str) -> tuple[dict, dict[str, dict]]:
    """Header and records of the last `kind` run of `commit`; empty when there is none."""
    files = sorted(RECORDS.glob(f"*-{commit[:12]}-{kind}.jsonl"))
    return read(files[-1]) if files else ({}, {})


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


def of_subjects(commit: str) -> dict[str, dict]:
    """Records by cell of what was measured of subjects by their names, the last of each."""
    every: dict[str, dict] = {}
    for file in sorted(RECORDS.glob(f"*-{commit[:12]}-subject.jsonl")):
        header, records = read(file)
        every.pop("subject", None)
        every |= records or {"subject": {"cell": "subject"} | header}
    return every


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


def verdict(header: dict, records: dict[str, dict], every: Iterable[dict]) -> str:
    """What was measured, how many cells failed, and the slowest stage of the longest song; of `records` those
    that were timed, of `every` all."""
    counts = Counter(one["status"] for one in every)
    measured = f"{counts['ok']} cells measured on {harmless(header['environment']['device_name'])}"
    text = f"{measured}, {counts['failed'] or 'none'} failed"
    others = ", ".join(
        f"{n} {harmless(status)}" for status, n in sorted(counts.items()) if status not in TOLD
    )
    songs = [(_duration_s(name), name) for name in records if name.startswith("generate ")]
    songs = [song for song in songs if records[song[1]]["status"] == "ok"]
    if others:
        text += f", {others}"
    if not songs:
        return f"{text}."
    duration_s, name = max(songs)
    runs = records[name]["runs"]
    stage, stage_s = max(_medians(runs).items(), key=lambda each: each[1])
    share = stage_s / median(run["wall_s"] for run in runs)
    return f"{text}. A song of {duration_s:g} s: {share:.0%} of its time is {stage}."


def _duration_s(name: str) -> float:
    return float(name.partition("duration_s=")[2].split()[0])


def _medians(runs: list[dict]) -> dict[str, float]:
    """Seconds of each stage that all runs have."""
    stages = set.intersection(*(set(run["stages_s"]) for run in runs))
    return {stage: median(run["stages_s"][stage] for run in runs) for stage in sorted(stages)}


def _facts(header: dict) -> str:
    facts = header["environment"]
    weights = f"{facts['source']}, {facts['dtype']}, LM {facts['lm']} on {facts['lm_backend']}"
    device = f"{facts['device_name']} ({facts['device']}), {facts['threads']} threads, torch {facts['torch']}"
    return f"weights  {harmless(weights)}\ndevice   {harmless(device)}"


def _head() -> str:
    commit, _ = machine.revision(Path.cwd())
    if commit is None:
        raise MissingPrerequisite(
            "git: the commit of this folder is not known; run it in the root of the repository, where git is"
        )
    return commit


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 1 where nothing was measured, or a cell failed."""
    return console.run("summary", lambda: summary(argv))


def summary(argv: Sequence[str] | None) -> int:
    """Print the tables of HEAD."""
    console.Parser(prog="python -m scripts.summary", description=DESCRIPTION).parse_args(argv)
    commit = _head()
    terminal = Console()
    header, records = newest("timing", commit)
    if header.get("status") != "ok":
        reason = header.get("reason", "no records; run make bench")
        terminal.print(harmless(f"summary: nothing was measured for {commit[:12]}: {reason}"), markup=False)
        return 1
    memory, subjects = newest("memory", commit)[1], of_subjects(commit)
    every = (*records.values(), *memory.values(), *newest("cold", commit)[1].values(), *subjects.values())
    terminal.print(verdict(header, records, every), highlight=False, markup=False)
    terminal.print(f"\ncommit   {commit[:12]}\n{_facts(header)}\n", highlight=False, markup=False)
    for thinking in THINKING:
        terminal.print(stage_table(header, records, thinking))
    terminal.print(throughput_table(records))
    terminal.print(stream_table(records))
    if any("growth" in record for record in records.values()):
        terminal.print(scaling_table(records))
    if memory:
        terminal.print(memory_table(memory))
    if any(name.startswith("request ") for name in subjects):
        terminal.print(subject_table(subjects))
    failed = [one for one in every if one["status"] == "failed"]
    for one in failed:
        terminal.print(harmless(f"failed: {one['cell']}: {one['reason']}"), markup=False, soft_wrap=True)
    site = f"{SITE.resolve().as_uri()}  (its explorer: make preview)"
    terminal.print(f"\nsite     {site}", highlight=False, markup=False, soft_wrap=True)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
