"""A branch with a known truth and asv's results of it: a slowdown, growing memory, a revert, documentation.

python tests/support/planted.py FOLDER      # the branch with its results, to look at what is made of them
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import zlib
from collections import defaultdict
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
COMMITS = 30
SLOWER, GROWN, REVERT = 18, 22, 25  # the DiT 25 % slower; 12 % more memory; the slowdown is taken back
DOCS = (10, 20, 27)
NOISE = 0.01
SUBJECTS = {
    SLOWER: "Attention in fp32", GROWN: "Keep the latents of every step",
    REVERT: 'Revert "Attention in fp32"',
} | dict.fromkeys(DOCS, "Say it in the README")  # fmt: skip
MACHINES = {
    "a-cpu": {"cpu": "A", "num_cpu": "2", "arch": "x86_64", "os": "Linux", "ram": "8 GiB"},
    "b-cpu": {"cpu": "B", "num_cpu": "8", "arch": "arm64", "os": "Linux", "ram": "32 GiB"},
}
WORK = {  # FLOP and bytes of half a minute, as they are by their order
    "lm_prefill": (4e11, 2e9), "lm_decode": (3e11, 2e11), "text_encode": (3e11, 2e9),
    "condition": (3e11, 3e9), "diffuse": (2e13, 8e10), "vae_decode": (3e12, 5e10), "post": (1e6, 5e7),
}  # fmt: skip
SHARES = {"diffuse": 0.6, "vae_decode": 0.2, "lm_decode": 0.1}  # of a song; other stages have next to none
START_S = 1_790_000_000


def plant(folder: Path) -> list[str]:
    """Make the branch in `folder`, with `.asv/results`; returns its commits, oldest first."""
    commits = _branch(folder)
    readings = _readings()
    for number, (machine, facts) in enumerate(MACHINES.items()):
        draw = np.random.default_rng(number)
        for at, commit in enumerate(commits):
            if number and at % 3:
                continue
            content = _result(commit, at, readings, draw, facts | {"machine": machine}, 1 + number)
            place = folder / ".asv/results" / machine / f"{commit[:8]}-checkout.json"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(json.dumps(content))
            (place.parent / "machine.json").write_text(json.dumps({"version": 1, "machine": machine} | facts))
    return commits


def _branch(folder: Path) -> list[str]:
    subprocess.run(["git", "init", "-q", "-b", "main", folder], check=True)
    lines = []
    for at in range(COMMITS):
        path = "README.md" if at in DOCS else "acestep/engine.py"
        subject = SUBJECTS.get(at, f"Commit {at}")
        when = f"A <a@example.org> {START_S + 86_400 * at} +0000"
        lines += [
            f"commit refs/heads/main\nauthor {when}\ncommitter {when}",
            f"data {len(subject.encode())}\n{subject}",
            f"M 100644 inline {path}\ndata {len(str(at))}\n{at}\n",
        ]
    subprocess.run(["git", "fast-import", "--quiet"], input="\n".join(lines).encode(), cwd=folder, check=True)
    log = subprocess.run(
        ["git", "log", "--reverse", "--format=%H"], cwd=folder, capture_output=True, text=True, check=True
    )
    return log.stdout.split()


def _readings() -> dict[str, list]:
    """All that is read of the tiny source, by benchmark; of each whether it is measured."""
    from benchmarks import _matrix
    from scripts.asv_selection import measures
    from scripts.gate.suites import every

    wanted = set(_matrix.every_cell(_matrix.TINY))
    readings = defaultdict(list)
    for one in every():
        readings[one.benchmark].append((one, measures(one.suite(), one.params, wanted, (_matrix.TINY,))))
    return readings


def _result(commit, at, readings, draw, facts, speed):
    """A result file of asv's."""
    rows = {}
    for name, ones in readings.items():
        suite = ones[0][0].suite
        params = [[repr(value) for value in axis] for axis in suite.params]
        column = [_value(one, at, draw, speed) if measured else math.nan for one, measured in ones]
        started = 1000 * (START_S + 86_400 * at + 3600)
        rows[name] = [column, params, getattr(suite, "version", ""), started]
    return {
        "version": 2, "commit_hash": commit, "env_name": "checkout", "date": 0, "params": facts,
        "python": "3.11", "requirements": {}, "env_vars": {}, "durations": {}, "results": rows,
        "result_columns": ["result", "params", "version", "started_at"], "conditions": {},
    }  # fmt: skip


def _value(reading, at, draw, speed):
    """What is measured of a series: its own size, with the truth of the branch in it."""
    own = 1 + zlib.crc32(reading.name.encode()) % 1000 / 1000
    named = dict(reading.named)
    slow = 1.25 if SLOWER <= at < REVERT else 1.0
    grown = 1.12 if at >= GROWN else 1.0
    if reading.method == "track_status":
        tight = named.get("tier_gb") == "8" and grown > 1
        return 20 if tight else 0
    if work := WORK.get(named.get("stage", "")) if reading.unit in ("FLOP", "bytes") else None:
        length = float(named.get("duration_s", 30)) / 30
        return math.floor(length * own * work[reading.unit == "bytes"])
    if reading.unit == "bytes":
        tier = float(named.get("tier_gb", 8))
        return own * 0.45 * tier * 2**30 * grown
    if reading.unit == "dB":
        return -40 - own
    if reading.unit in (
        "exit code",
        "underruns",
        "launches",
        "kernels",
        "syncs",
        "reads",
        "copies",
        "FLOP",
        "GB",
    ):
        return math.floor(100 * own)
    noise = math.exp(draw.normal(0, NOISE))
    touched = "diffus" in reading.stage or reading.stage in ("wall", "generate")
    size = float(named.get("duration_s", 10)) * float(named.get("batch", 1)) / 10
    if reading.method == "track_stage":
        size *= SHARES.get(reading.stage, 0.02)
    return own * size * noise * (slow if touched else 1) / speed


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    plant(Path(sys.argv[1]))
