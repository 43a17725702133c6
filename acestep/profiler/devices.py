"""What devices can do at most: vendors' figures for known cards, or a measurement.

Peaks are of dense matrices in bf16 with fp32 accumulation (fp16 on Volta and Turing, which have no bf16 in
their tensor cores), with the sparse figures of data sheets halved. They hold for these number formats only.
A name is matched whole: a "4070 Ti SUPER" is not a "4070 Ti", a laptop's 4090 is not a 4090, a MIG slice
is not its card. Where one name was sold with different chips the memory class decides. Whatever is
not in the table is unknown, and a share of an unknown peak is not shown.

Figures were written down from memory of the sources named; the ones marked `derived` follow from another
figure in them.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import NamedTuple

from acestep.gpu_config import snap
from acestep.profiler.roofline import Ceilings

TABLE_DTYPES = ("bfloat16", "float16")


class Card(NamedTuple):
    """Tensor TFLOP/s and memory GB/s (decimal) of the cards with these names."""

    tflop_per_s: float
    gb_per_s: float
    source: str
    names: tuple[str, ...]
    class_gb: float | None = None  # only the card of this memory class


HOPPER, AMPERE = "NVIDIA data sheet H100/H200", "NVIDIA data sheet A100"
VOLTA, SERVER = "NVIDIA data sheet V100, fp16", "NVIDIA data sheet"
ADA, GA102 = "NVIDIA Ada architecture paper", "NVIDIA GA102 architecture paper"
BLACKWELL, PRO = "NVIDIA RTX Blackwell architecture paper", "NVIDIA RTX PRO Blackwell architecture paper"

CARDS = (
    #    TFLOP/s GB/s  source      names without the vendor's
    Card(989.4, 4800, HOPPER, ("H200",)),
    Card(835.5, 4800, HOPPER, ("H200 NVL",)),
    Card(989.4, 3350, HOPPER, ("H100 80GB HBM3",)),
    Card(756.0, 2000, HOPPER, ("H100 PCIe",)),
    Card(312.0, 1555, AMPERE, ("A100-SXM4-40GB", "A100-PCIE-40GB")),
    Card(312.0, 2039, AMPERE, ("A100-SXM4-80GB",)),
    Card(312.0, 1935, AMPERE, ("A100 80GB PCIe",)),
    Card(362.0, 864, SERVER, ("L40S",)),
    Card(121.0, 300, SERVER, ("L4",)),
    Card(125.0, 600, SERVER, ("A10",)),
    Card(65.0, 320, SERVER + " T4, fp16", ("Tesla T4", "T4")),
    Card(125.0, 900, VOLTA, ("Tesla V100-SXM2-16GB", "Tesla V100-SXM2-32GB")),
    Card(112.0, 900, VOLTA, ("Tesla V100-PCIE-16GB", "Tesla V100-PCIE-32GB")),
    Card(503.8, 1792, PRO, ("RTX PRO 6000 Blackwell Workstation Edition",)),
    Card(209.5, 1792, BLACKWELL, ("GeForce RTX 5090",)),
    Card(112.6, 960, BLACKWELL, ("GeForce RTX 5080",)),
    Card(165.2, 1008, ADA, ("GeForce RTX 4090",)),
    Card(97.5, 717, ADA, ("GeForce RTX 4080",)),
    Card(80.2, 504, ADA + ", derived", ("GeForce RTX 4070 Ti",)),
    Card(44.1, 288, ADA + ", derived", ("GeForce RTX 4060 Ti",)),
    Card(30.2, 272, ADA + ", derived", ("GeForce RTX 4060",)),
    Card(71.0, 936, GA102, ("GeForce RTX 3090",)),
    Card(59.5, 760, GA102, ("GeForce RTX 3080",), 10),
    Card(25.5, 360, GA102 + ", derived", ("GeForce RTX 3060",), 12),
)


def lookup(name: str, memory_gib: float | None = None, dtype: str = "bfloat16") -> Ceilings | None:
    """Peaks of the device that calls itself `name` and reports `memory_gib`; None where not known.

    `dtype` is the run's number format, under torch's name; the table knows nothing of fp32.
    """
    if dtype not in TABLE_DTYPES:
        return None
    wanted = _normal(name)
    for card in CARDS:
        fits = card.class_gb is None or (memory_gib is not None and snap(memory_gib) == card.class_gb)
        if fits and wanted in map(_normal, card.names):
            return Ceilings(card.tflop_per_s * 1e12, card.gb_per_s * 1e9, card.source)
    return None


def _normal(name: str) -> str:
    """Lower case, single spaces, without the vendor's name, which drivers write or leave out."""
    return re.sub(r"\s+", " ", name).strip().lower().removeprefix("nvidia ")


def measure(device: str, dtype: str = "bfloat16", *, edge: int = 0, copied_bytes: int = 0) -> Ceilings:
    """What `device` reaches here: one large matrix product, one large copy (bytes read and written).

    Takes about a second. Sizes default to what fills the device and none of its caches. Imports torch;
    raises UsageError or MissingPrerequisite for a device that is not there.
    """
    import torch

    from acestep.device import resolve_device, synchroniser

    place = resolve_device(device)
    wait = synchroniser(place) or (lambda: None)
    on_cpu = place.type == "cpu"
    edge = edge or (1024 if on_cpu else 8192)
    copied_bytes = copied_bytes or (1 << 28 if on_cpu else 1 << 30)
    with torch.inference_mode():
        left, right = (torch.randn(edge, edge, device=place, dtype=getattr(torch, dtype)) for _ in range(2))
        product_s = best_s(lambda: torch.mm(left, right), wait)
        source = torch.zeros(copied_bytes, device=place, dtype=torch.uint8)
        target = torch.empty_like(source)
        copy_s = best_s(lambda: target.copy_(source), wait)
    return Ceilings(2 * edge**3 / product_s, 2 * copied_bytes / copy_s, f"measured here, {dtype}")


def best_s(
    work: Callable[[], object],
    wait: Callable[[], None],
    clock: Callable[[], float] = time.perf_counter,
    repeats: int = 5,
) -> float:
    """Seconds of the fastest of `repeats` calls after one unrecorded, the device idle around each."""
    times = []
    for _ in range(1 + repeats):
        wait()
        start = clock()
        work()
        wait()
        times.append(clock() - start)
    return min(times[1:])
