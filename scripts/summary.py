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

from benchmarks._records import read
from harness import console
from harness.errors import MissingPrerequisite
from harness.text import harmless

DESCRIPTION = "The verdict and the tables of the newest run of HEAD, from its records."
RECORDS = Path(".asv/records")
SITE = Path(".asv/html/index.html")
UNREAD = {"status": "failed", "reason": "its records hold no line; measure it again"}
UNCOMMITTED = ", without what is not committed: make gate measures that"
TOLD = ("ok", "failed")  # statuses that the verdict names first


def newest(kind: str, commit: str) -> tuple[dict, dict[str, dict]]:
    """Header and records of the last `kind` run of `commit`; empty when there is none."""
    files = sorted(RECORDS.glob(f"*-{commit[:12]}-{kind}.jsonl"))
    return read(files[-1]) if files else ({}, {})


def of_subjects(commit: str) -> dict[str, dict]:
    """Records by cell of what was measured of subjects by their names, the last of each."""
    every: dict[str, dict] = {}
    for file in sorted(RECORDS.glob(f"*-{commit[:12]}-subject.jsonl")):
        header, records = read(file)
        every.pop("subject", None)
        every |= records or {"subject": {"cell": "subject"} | (header or UNREAD)}
    return every


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


def _head() -> tuple[str, bool]:
    """The commit, and whether files differ from it, as they are measured by no benchmark."""
    from harness.records import machine

    commit, dirty = machine.revision(Path.cwd())
    if commit is None:
        raise MissingPrerequisite(
            "git: the commit of this folder is not known; run it in the root of the repository, where git is"
        )
    return commit, bool(dirty)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 1 where nothing was measured, or a cell failed."""
    return console.run("summary", lambda: summary(argv))


def summary(argv: Sequence[str] | None) -> int:
    """Print the tables of HEAD."""
    console.Parser(prog="python -m scripts.summary", description=DESCRIPTION).parse_args(argv)
    from rich.console import Console  # what is shown with, once it is known that it is

    from scripts.summary_tables import tables

    commit, dirty = _head()
    terminal = Console()
    header, records = newest("timing", commit)
    if header.get("status") != "ok":
        reason = header.get("reason", "no records; run make bench")
        terminal.print(harmless(f"summary: nothing was measured for {commit[:12]}: {reason}"), markup=False)
        return 1
    memory, subjects = newest("memory", commit)[1], of_subjects(commit)
    every = (*records.values(), *memory.values(), *newest("cold", commit)[1].values(), *subjects.values())
    terminal.print(verdict(header, records, every), highlight=False, markup=False)
    of = f"{commit[:12]}{UNCOMMITTED if dirty else ''}"
    terminal.print(f"\ncommit   {of}\n{_facts(header)}\n", highlight=False, markup=False)
    for table in tables(header, records, memory, subjects):
        terminal.print(table)
    failed = [one for one in every if one["status"] == "failed"]
    for one in failed:
        terminal.print(harmless(f"failed: {one['cell']}: {one['reason']}"), markup=False, soft_wrap=True)
    there = f"{SITE.resolve().as_uri()}  (its explorer: make preview)"
    site = there if SITE.exists() else "none; make site writes it"
    terminal.print(f"\nsite     {site}", highlight=False, markup=False, soft_wrap=True)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
