"""A branch with a known truth and asv's results of it: a slowdown, growing memory, a revert, documentation.

python tests/support/planted.py FOLDER      # the branch, its results, and the site that is made of them
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import zlib
from collections import defaultdict
from contextlib import chdir
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
COMMITS = 30
SLOWER, GROWN, REVERT = 18, 22, 25  # the DiT 25 % slower; 0.9 GB more memory; the slowdown is taken back
DOCS = (10, 20, 27)
RELEASED, LOADED, FAILED = 12, 13, 16  # a tag; beside other work; a task that fails, on the first machine
SUBJECTS = {
    SLOWER: "Attention in fp32", GROWN: "Keep the latents of every step",
    REVERT: 'Revert "Attention in fp32"', DOCS[0]: "README: what a tier is", DOCS[1]: "Say who this is for",
    DOCS[2]: "A picture of the fit matrix",
}  # fmt: skip
OTHERS = (
    "One cache for all layers", "Tiles of equal length", "Fewer copies between stages", "Name the seed",
    "A test of silence", "Captions are cut before metadata",
)  # fmt: skip
AUTHORS = ("Ada Okafor <ada@example.org>", "Jun Sato <jun@example.org>", "Lea Brandt <lea@example.org>")
MACHINES = {
    "amd-epyc-2-cores": {
        "cpu": "AMD EPYC", "num_cpu": "2", "arch": "x86_64", "os": "Linux", "ram": "24 GiB", "gpu": "none",
        "vram": "none", "driver": "none", "torch": "2.13.0", "cuda": "none",
    },
    "nvidia-geforce-rtx-4060": {
        "cpu": "Intel Core i5-13400", "num_cpu": "16", "arch": "x86_64", "os": "Linux", "ram": "31 GiB",
        "gpu": "NVIDIA GeForce RTX 4060", "vram": "8 GiB", "driver": "580.95", "torch": "2.13.0",
        "cuda": "12.8",
    },
}  # fmt: skip
SPEED = 6  # of the second, which has every third commit
START_S, APART_S = 1_790_000_000, 64_800
ADDRESS = "https://example.org/acestep-bench/commit/"
NOW_S = START_S + APART_S * (COMMITS - 1) + 86_400.0

NOISE = 0.01
SEEDS = 0, 400  # of the machines: among a thousand series noise is soon taken for a change; here it is not
NOISY = (
    "seconds", "µs", "ms", "ms/token", "tokens/s", "wall s per s of audio", "ms per s", "ms per s, or token",
    "log-log slope",
)  # fmt: skip
STAGES_S = {
    "load_audio": 0.004, "vae_encode": 0.03, "lm_prefill": 0.012, "lm_decode": 0.18, "text_encode": 0.011,
    "condition": 0.006, "diffuse": 0.14, "vae_decode": 0.095, "post": 0.003, "save": 0.005, "other": 0.002,
}  # fmt: skip
PLAIN = ("text_encode", "condition", "diffuse", "vae_decode", "post", "save", "other")
PLANNED, RECORDED = ("lm_prefill", "lm_decode"), ("load_audio", "vae_encode")
RAN = {
    "TimeGeneratePreset": PLANNED + PLAIN, "TimeTask": RECORDED + PLAIN, "TrackTaskStages": RECORDED + PLAIN,
    "TimeTextMode": (*PLANNED, "other"), "TrackTextStages": (*PLANNED, "other"), "TimeLMPlanning": PLANNED,
    "TimeDiT": ("diffuse",), "TimeCompiledDiT": ("diffuse",), "TimeSolver": ("diffuse",),
    "TimeVAEDecode": ("vae_decode",),
}  # fmt: skip
WORK = {  # FLOP and bytes of half a minute, as they are by their order
    "lm_prefill": (4e11, 2e9), "lm_decode": (3e11, 2e11), "text_encode": (3e11, 2e9),
    "condition": (3e11, 3e9), "diffuse": (2e13, 8e10), "vae_decode": (3e12, 5e10), "post": (1e6, 5e7),
}  # fmt: skip
RESIDENT_GB, QUANTIZED_GB, OFFLOADED_GB, GROWTH_GB = 7.3, 3.3, 5.2, 0.9
LM_GB = {8: 7.4, 12: 9.1, 16: 9.1, 20: 13.6, 24: 17.2}
XL_GB = {12: 9.8, 16: 13.1, 20: 14.6, 24: 19.2}
TIERS_GB = (4, 6, 8, 12, 16, 20, 24)


def plant(folder: Path) -> list[str]:
    """Make the branch in `folder`, with `.asv/results`; returns its commits, oldest first."""
    commits = _branch(folder)
    readings = _readings()
    for number, (machine, facts) in enumerate(MACHINES.items()):
        draw = np.random.default_rng(SEEDS[number])
        place = folder / ".asv/results" / machine
        place.mkdir(parents=True, exist_ok=True)
        (place / "machine.json").write_text(json.dumps({"version": 1, "machine": machine} | facts))
        for at, commit in enumerate(commits):
            if number and at % 3:
                continue
            content = _result(commit, at, readings, draw, facts | {"machine": machine})
            (place / f"{commit[:8]}-checkout.json").write_text(json.dumps(content))
    return commits


def site_of(folder: Path):
    """Make the branch in `folder`; the site of it as of NOW_S. Pages are made in the folder: git is asked."""
    from scripts.changes.history import read
    from scripts.site.page import Site

    plant(folder)
    (folder / "benchmarks").symlink_to(ROOT / "benchmarks")
    with chdir(folder):
        return Site(read(), NOW_S, ADDRESS)


def _branch(folder: Path) -> list[str]:
    subprocess.run(["git", "init", "-q", "-b", "main", folder], check=True)
    lines = []
    for at in range(COMMITS):
        path = "README.md" if at in DOCS else "acestep/engine.py"
        subject = SUBJECTS.get(at, OTHERS[at % len(OTHERS)])
        when = f"{START_S + APART_S * at} +0000"
        lines += [
            f"commit refs/heads/main\nauthor {AUTHORS[at % len(AUTHORS)]} {when}",
            f"committer {AUTHORS[0]} {when}\ndata {len(subject.encode())}\n{subject}",
            f"M 100644 inline {path}\ndata {len(str(at))}\n{at}\n",
        ]
        lines += ["reset refs/tags/v0.3\nfrom refs/heads/main\n"] if at == RELEASED else []
    subprocess.run(["git", "fast-import", "--quiet"], input="\n".join(lines).encode(), cwd=folder, check=True)
    log = subprocess.run(
        ["git", "log", "--reverse", "--format=%H"], cwd=folder, capture_output=True, text=True, check=True
    )
    return log.stdout.split()


def _readings() -> dict[str, list]:
    """All that is read of the tiny source, by benchmark; of each whether it is measured."""
    from benchmarks import _matrix
    from scripts.gate.suites import every

    planned = set(_matrix.every_cell(_matrix.TINY))
    readings = defaultdict(list)
    for one in every():
        measured = one.suite().is_measured(one.params, planned, (_matrix.TINY,))
        readings[one.benchmark].append((one, measured))
    return readings


def _result(commit, at, readings, draw, facts):
    """A result file of asv's."""
    on_card = facts["gpu"] != "none"
    loaded = at == LOADED and not on_card
    rows, cells = {}, set()
    for name, ones in readings.items():
        suite = ones[0][0].suite
        params = [[repr(value) for value in axis] for axis in suite.params]
        column = [_value(one, at, draw, on_card, loaded) if measured else math.nan for one, measured in ones]
        started = 1000 * (START_S + APART_S * at + 3600)
        noisy = ones[0][0].unit in NOISY
        cells |= {one.cell.name for one, measured in ones if measured and noisy}
        ends = [
            [value and value * (1 + way * NOISE) for value in column] if noisy else None for way in (-1, 1)
        ]
        rows[name] = [column, params, getattr(suite, "version", ""), started, *ends]
    cores = int(facts["num_cpu"])
    load = {"other_cores": 1.4 if loaded else 0.04, "cores": cores, "load_before": 2.6 if loaded else 1.1}
    conditions = load | {"load_after": load["load_before"], "throttle_events": 0, "cpu_temperature_c": 61.0}
    return {
        "version": 2, "commit_hash": commit, "env_name": "checkout", "date": 0, "params": facts,
        "python": "3.11", "requirements": {}, "env_vars": {}, "durations": {}, "results": rows,
        "result_columns": ["result", "params", "version", "started_at", "stats_ci_99_a", "stats_ci_99_b"],
        "conditions": dict.fromkeys(sorted(cells), conditions),
    }  # fmt: skip


def _value(one, at, draw, on_card, loaded):
    """A number of a commit: None where it failed, `nan` where it does not apply."""
    if at == FAILED and one.suite.__name__ == "TimeTask" and ("task", "complete") in one.named:
        return None
    if one.unit in NOISY:
        faster = SPEED if on_card else 1
        return true_time(one, at) * math.exp(draw.normal(0, NOISE)) * (1.3 if loaded else 1) / faster
    return amount(one, at, MACHINES["nvidia-geforce-rtx-4060"]["vram"] if on_card else "")


def _own(one) -> float:
    """A size of its own, from 1 to 2."""
    return 1 + zlib.crc32(one.name.encode()) % 1000 / 1000


def true_time(one, at) -> float:
    """The true time of a commit: of ACE-Step's stages, whose sum is the wall; of anything else its own."""
    named, suite = dict(one.named), one.suite.__name__
    ran = RAN.get(suite)
    if suite in ("TimeGenerate", "TrackStages"):
        ran = PLANNED + PLAIN if named["thinking"] == "True" else PLAIN
    if ran is None or one.unit != "seconds":
        return _own(one) * (0.05 if one.unit == "seconds" else 1)
    stages = [named["stage"]] if "stage" in named else ran
    if not set(stages) <= set(ran):
        return math.nan
    size = float(named.get("duration_s", 5)) / 5 * float(named.get("batch", 1))
    slow = {"diffuse": (1.25 if SLOWER <= at < REVERT else 1) * float(named.get("steps", 8)) / 8}
    return size * sum(STAGES_S[stage] * slow.get(stage, 1) for stage in stages)


def amount(one, at, vram: str = "") -> float:
    """What of a commit has no noise: on a machine whose card has `vram`, larger ones are not tried."""
    suite, named = one.suite.__name__, dict(one.named)
    tier_gb = int(named.get("tier_gb", 0))
    if tier_gb:
        if suite.startswith("PeakMem") and vram and tier_gb > int(vram.split()[0]):
            return math.nan
        need_gb = _needed_gb(suite, named, tier_gb, at)
        if one.method == "track_status":
            return math.nan if need_gb is None else 0 if need_gb <= tier_gb else 20
        return need_gb * 2**30 if need_gb is not None and need_gb <= tier_gb else math.nan
    if suite == "TrackTierBoundary":
        grown = GROWTH_GB if at >= GROWN else 0
        need_gb = RESIDENT_GB if named["variant"] == "no-offload" else OFFLOADED_GB
        need_gb += grown + (2.1 if named["lm"] == "True" else 0)
        return next(size for size in TIERS_GB if size >= need_gb)
    if one.unit == "dB":
        return -40 - _own(one)
    if one.unit in ("FLOP", "bytes"):
        in_fp32 = one.unit == "bytes" and suite == "TrackCost" and named["stage"] == "diffuse"
        work = WORK.get(named.get("stage", ""), (1e10, 1e9))[one.unit == "bytes"]
        length = float(named.get("duration_s", 30)) / 30
        return math.floor(_own(one) * work * length) * (1.06 if in_fp32 and SLOWER <= at < REVERT else 1)
    if one.unit == "underruns":
        return 0
    counted = one.unit in ("launches", "kernels", "syncs", "reads", "copies")
    return math.floor(100 * _own(one)) if counted else _own(one) * 1e-3


def _needed_gb(suite, named, tier_gb, at) -> float | None:
    """What a run takes of a card of a size by its tier's settings; None where the tier has no such run."""
    grown = GROWTH_GB if at >= GROWN else 0
    if suite in ("TrackPredictedPeakSpeech", "TrackPredictedPeakRVC"):
        return 1.6
    if suite == "TrackPredictedPeakXL" or named.get("lm") == "True":
        needed = (XL_GB if "XL" in suite else LM_GB).get(tier_gb)
        return None if needed is None else needed + grown
    if named.get("variant") == "no-offload" or tier_gb >= 20:
        return RESIDENT_GB + grown
    return (OFFLOADED_GB if named.get("variant") == "no-quant" or tier_gb >= 12 else QUANTIZED_GB) + grown / 3


def main(folder: Path) -> None:
    """Make the branch, and its site below it."""
    from scripts.site.whole import write

    html = folder / ".asv/html"
    site = site_of(folder)
    html.mkdir()
    with chdir(folder):
        write(site, html)
    print(html / "index.html")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("planted: one folder, which is not there yet; python tests/support/planted.py FOLDER")
    sys.path.insert(0, str(ROOT))
    main(Path(sys.argv[1]).absolute())
