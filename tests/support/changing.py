"""A made-up history of commits, and results of asv's for them."""

import json
import subprocess

import numpy as np

from benchmarks.costs import TrackCost
from benchmarks.dit import TimeDiT
from benchmarks.lm import TimeLMPlanning
from benchmarks.vae import TimeVAEDecode

COMMITS = 40
DOCS = (15, 30, 39)  # commits that change no code
HOSTILE = "@octocat <img src=x> | [a](b) \x1b[2J\u202egnp.exe `c`"
NOISE = 0.01
CELL = {"TimeDiT": (5, 1, 8, "none"), "TimeVAEDecode": (5, 1), "TimeLMPlanning": (5, 1, True, "pt"),
        "TrackCost": ("diffuse", 30, 1, "turbo", "eager")}  # fmt: skip
BATCH_2 = (5, 2, 8, "none")
METHODS = {
    "dit.TimeDiT.track_diffuse": TimeDiT,
    "vae.TimeVAEDecode.track_vae_decode": TimeVAEDecode,
    "lm.TimeLMPlanning.track_plan": TimeLMPlanning,
    "costs.TrackCost.track_flop": TrackCost,
}
FACTS = {"machine": "a-cpu", "cpu": "A", "num_cpu": "2", "arch": "x86_64", "os": "Linux", "ram": "8 GiB"}


def import_commits(folder):
    """COMMITS commits, one a day; the hashes, oldest first."""
    subprocess.run(["git", "init", "-q", "-b", "main", folder], check=True)
    lines = []
    for at in range(COMMITS):
        path = "README.md" if at in DOCS else "acestep/engine.py"
        subject = HOSTILE if at == 20 else f"Commit {at}"
        when = f"A <a@example.org> {1_780_000_000 + 86_400 * at} +0000"
        lines += [
            f"commit refs/heads/main\nauthor {when}\ncommitter {when}",
            f"data {len(subject.encode())}\n{subject}",
            f"M 100644 inline {path}\ndata {len(str(at))}\n{at}\n",
        ]
    subprocess.run(["git", "fast-import", "--quiet"], input="\n".join(lines).encode(), cwd=folder, check=True)
    log = ["git", "log", "--reverse", "--format=%H"]
    return subprocess.run(log, cwd=folder, capture_output=True, text=True, check=True).stdout.split()


def result(commit, at, values, conditions=None, facts=FACTS):
    """A result file of asv's, of the value or values that each benchmark has."""
    rows = {}
    for name, cells in values.items():
        suite = METHODS[name]
        params = [[repr(value) for value in axis] for axis in suite.params]
        column = np.full([len(axis) for axis in params], None, object)
        for cell, value in cells.items():
            column[tuple(axis.index(repr(one)) for axis, one in zip(params, cell, strict=True))] = value
        rows[name] = [list(column.flat), params, suite.version, 1_790_000_000_000 + at]
    return {
        "version": 2, "commit_hash": commit, "env_name": "checkout", "date": 0, "params": facts,
        "python": "3.11", "requirements": {}, "env_vars": {}, "durations": {}, "results": rows,
        "result_columns": ["result", "params", "version", "started_at"], "conditions": conditions or {},
    }  # fmt: skip


def write(folder, commit, content):
    place = folder / ".asv/results" / content["params"]["machine"] / f"{commit[:8]}-checkout.json"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps(content))
    (place.parent / "machine.json").write_text(json.dumps({"version": 1, "machine": place.parent.name}))
