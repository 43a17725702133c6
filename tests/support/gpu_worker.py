"""A worker of `scripts.gpu` that measures nothing: rows are made up, and it goes wrong as GPU_WORKER says.

GPU_WORKER is lines of `PART=WAY`: fails, crashes, hangs, exaggerates. What it was asked for is added to
GPU_TASKS.
"""

import json
import os
import sys
import time
from pathlib import Path

VALUES = {
    "tests": {"pytest -m gpu": {"passed": 7, "failed": 0, "skipped": 1}},
    "calibration": {
        "memory": {
            "card": "NVIDIA GeForce RTX 4090",
            "capability": "8.9",
            "memory_gib": 23.52,
            "driver": "600.1",
            "torch": "2.13.0",
            "cudnn": "91900",
            "context_mib": 512.5,
            "blas_bytes": 8519680,
            "convolution_copies": 1.25,
        },
        "launches": {"launch_us": 3.5, "kernel_us": 1.25},
        "link": {"to_card_gb_per_s": 25.0, "to_host_gb_per_s": 26.0},
        "product 1 x 2 x 3": {
            "rows": 1, "inner": 2, "columns": 3, "dtype": "bfloat16", "tflop_per_s": 1.5, "gb_per_s": 900.0,
        },
        "copy 1024 MiB": {"bytes": 1 << 30, "gb_per_s": 950.0},
    },
    "stages": {
        "no LM, 240 s": {"wall_s": 2.5, "diffuse_s": 1.25, "diffuse_mfu": 0.41, "peaks": "data sheet"},
        "4B, 240 s": {"wall_s": 9.5, "lm_decode_s": 6.25, "lm_decode_mbu": 0.55, "diffuse_mfu": 0.42},
    },
}  # fmt: skip


def main() -> None:
    task = json.loads(sys.argv[1])
    ways = dict(line.split("=") for line in os.environ.get("GPU_WORKER", "").split())
    with Path(os.environ["GPU_TASKS"]).open("a") as tasks:
        print(json.dumps(task), file=tasks)
    way = ways.get(task["part"])
    print("a library's chatter, which is no row", flush=True)
    rows = VALUES.get(task["part"], {"row": {"songs": 3}})
    todo = [name for name in rows if name not in task["done"]]
    print(json.dumps(todo), flush=True)
    for name in todo:
        values = rows[name]
        row = {"name": name, "status": "ok", "values": values, "took_s": 1.0}
        if way == "fails":
            row |= {"status": "failed", "reason": "RuntimeError: *no* <b>luck</b>", "values": {}}
        if way == "exaggerates" and "tflop_per_s" in values:
            row["values"] = {**values, "tflop_per_s": 1e9}
        print(json.dumps(row), flush=True)
        if way == "crashes":
            sys.exit("an illegal memory access was encountered")
        if way == "hangs":
            time.sleep(60)
    print('"end"', flush=True)


if __name__ == "__main__":
    main()
