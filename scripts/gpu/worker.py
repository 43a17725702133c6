"""The process of one part, in lines of JSON on standard output: the names of its rows, then each row.

    python -m scripts.gpu.worker '{"part": "stages", "device": "cuda", ...}'

A part has a process of its own: memory outside PyTorch's allocator is what a fresh process holds, and no
error of CUDA's is left behind for the next one.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module

import msgspec

from harness.records.schema import encode
from scripts.gpu import steps

END = "end"  # the last line


def main() -> int:
    """Measure what the task says that is not there yet."""
    lines = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever a library prints
    task = msgspec.json.decode(sys.argv[1], type=steps.Task)
    clock = steps.Clock(task.limit_s)
    part = import_module(f"scripts.gpu.parts.{task.part}")
    names = [step.name for step in part.steps(task) if step.name not in task.done]
    lines.write(encode(names) + b"\n")
    for row in steps.rows(part.steps(task), task, clock):
        lines.write(encode(row) + b"\n")
    lines.write(f'"{END}"\n'.encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
