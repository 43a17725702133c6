"""Measure on a CUDA card what predictions rest on, and keep it in harness/trace/calibration.json.

    python -m scripts.calibrate             # about a minute, 4 GiB of the card; then run the tests:
    python -m pytest -m gpu tests/tiersim/test_prediction_gpu.py     # predicted peaks against its own

Run it in a process of its own on a card nobody else uses: what it finds is what a fresh process holds.
"""

from __future__ import annotations

if __name__ == "__main__":  # before anything else is imported
    from harness import interrupts

    interrupts.end_quietly()

import argparse
import json
import os
import sys
from dataclasses import asdict
from datetime import UTC, datetime

from harness import console
from harness.accelerators import ask_card
from harness.errors import MissingPrerequisite
from harness.files import write_whole
from harness.trace.calibration import TABLE, Calibration

MIB = 2**20
CHANNELS, KERNEL, DILATIONS = (128, 256, 512, 1024), 7, (1, 3, 9)  # of the decoder's convolutions
PLACES = (4096, 65_536, 262_144)
EDGE = 1024


def measure() -> Calibration:
    """Everything, on the card that CUDA gives."""
    import torch

    cuda = torch.cuda
    left = torch.ones(EDGE, EDGE, device="cuda", dtype=torch.bfloat16)
    before_bytes = cuda.memory_allocated()
    product = left @ left
    blas_bytes = cuda.memory_allocated() - before_bytes - product.nbytes
    with torch.inference_mode():
        copies = max(_convolution_copies(c, d, n) for c in CHANNELS for d in DILATIONS for n in PLACES)
    cuda.empty_cache()
    used_bytes, driver = driver_reading()
    return Calibration(
        capability="{}.{}".format(*cuda.get_device_capability()),
        card=cuda.get_device_name(),
        date=datetime.now(UTC).date().isoformat(),
        driver=driver,
        torch=torch.__version__,
        cudnn=str(torch.backends.cudnn.version()),
        context_mib=round((used_bytes - cuda.memory_reserved()) / MIB, 1),
        blas_bytes=blas_bytes,
        convolution_copies=round(copies, 4),
    )


def driver_reading() -> tuple[int, str]:
    """Bytes of the card that are in use, and the driver's version. Raises MissingPrerequisite."""
    import pynvml

    def ask(card: object) -> tuple[int, str]:
        return int(pynvml.nvmlDeviceGetMemoryInfo(card).used), str(pynvml.nvmlSystemGetDriverVersion())

    answer = ask_card(0, os.environ.get("CUDA_VISIBLE_DEVICES"), ask)
    if answer is None:
        raise MissingPrerequisite("NVML, which says how large a context is, does not know this card")
    return answer


def _convolution_copies(channels: int, dilation: int, places: int) -> float:
    """What one convolution has allocated beside its input, weight and output, in copies of its input."""
    import torch
    import torch.nn.functional as F

    cuda = torch.cuda
    x = torch.ones(1, channels, places, device="cuda", dtype=torch.bfloat16)
    weight = torch.ones(channels, channels, KERNEL, device="cuda", dtype=torch.bfloat16)
    F.conv1d(x, weight, padding=3 * dilation, dilation=dilation)  # which looks for its algorithm
    cuda.synchronize()
    held_bytes = cuda.memory_allocated()
    cuda.reset_peak_memory_stats()
    output = F.conv1d(x, weight, padding=3 * dilation, dilation=dilation)
    cuda.synchronize()
    return (cuda.max_memory_allocated() - held_bytes - output.nbytes) / x.nbytes


def calibrate() -> int:
    """Measure, and put it in the place of what the table had for this capability."""
    raw = argparse.RawDescriptionHelpFormatter
    argparse.ArgumentParser(description=__doc__, formatter_class=raw).parse_args()
    import torch

    if not torch.cuda.is_available():
        raise MissingPrerequisite("there is no CUDA card here; run it where one is")
    measured = measure()
    rows = json.loads(TABLE.read_text(encoding="utf-8")) if TABLE.exists() else []
    kept = [row for row in rows if row["capability"] != measured.capability]
    write_whole(TABLE, f"{json.dumps([*kept, asdict(measured)], indent=2)}\n".encode())
    print(json.dumps(asdict(measured), indent=2))
    return 0


def main() -> int:
    """The command; returns its exit code."""
    return console.run("calibrate", calibrate)


if __name__ == "__main__":
    sys.exit(main())
