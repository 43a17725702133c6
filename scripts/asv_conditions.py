"""Conditions of a measurement, kept beside its value: load, throttling, temperature, cell by cell.

As a plugin of asv. The worker writes them into `.asv/records/`, which stays on the machine; asv's result
files travel, and forget what they do not know. So each gets one key more, CONDITIONS: those of the newest
record of every cell that this environment measured of its commit. asv itself reads past it.
"""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks._records import read

CONDITIONS = "conditions"
RECORDS = Path(".asv/records")


def setup() -> None:
    """Called by asv once it has imported its plugins; who only reads results does without asv."""
    from asv.results import Results
    from asv.util import write_json

    save = Results.save

    def save_with_conditions(results: Results, result_dir: str) -> None:
        path = Path(result_dir, results._filename)
        known = conditions(path)
        save(results, result_dir)
        if known := known | recorded(results.commit_hash, results.env_name):
            write_json(path, json.loads(path.read_bytes()) | {CONDITIONS: known}, compact=True)

    Results.save = save_with_conditions


def conditions(path: Path) -> dict[str, dict]:
    """What a result file has of each cell, by the cell's name; empty where there is none."""
    try:
        known = json.loads(path.read_bytes()).get(CONDITIONS)
    except (OSError, ValueError, AttributeError):
        return {}
    return known if isinstance(known, dict) else {}


def recorded(commit: str, environment: str) -> dict[str, dict]:
    """Conditions of every cell that an environment measured of a commit, the newest of each."""
    cells: dict[str, dict] = {}
    for path in sorted(RECORDS.glob(f"*-{commit[:12]}-*.jsonl")):
        header, records = read(path)
        if header.get("env") == environment:
            cells |= {name: one[CONDITIONS] for name, one in records.items() if CONDITIONS in one}
    return cells
