"""Peak rates of a device: the figures of its card (`harness/cards.toml`), or a measurement.

A name is matched whole: a "4070 Ti SUPER" is not a "4070 Ti", a laptop's 4090 is not a 4090, a MIG slice
is not its card. Where one name was sold with different chips the memory class decides. Whatever is not in
the table is unknown, and a share of an unknown peak is not shown.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from acestep.profiler.roofline import Ceilings
from harness.accelerators import snap
from harness.cards import Card, cards


def lookup(name: str, memory_gib: float | None = None, dtype: str = "bfloat16") -> Ceilings | None:
    """Peaks of the device that calls itself `name` and reports `memory_gib`; None where not known.

    `dtype` is the run's number format, under torch's name.
    """
    normal = _normal(name)
    named = [card for card in cards() if normal in map(_normal, (card.name, *card.aliases))]
    if len({_ceilings(card, dtype) for card in named}) > 1:
        named = [card for card in named if memory_gib and snap(memory_gib) == snap(card.memory_gib)]
    return _ceilings(named[0], dtype) if named else None


def _ceilings(card: Card, dtype: str) -> Ceilings:
    return Ceilings(card.rate(dtype) * 1e12, card.bytes_per_s, card.source)


def _normal(name: str) -> str:
    """Lower case, single spaces, without the vendor's name, which drivers write or leave out."""
    return re.sub(r"\s+", " ", name).strip().lower().removeprefix("nvidia ")


def measure(device: str, dtype: str = "bfloat16", *, edge: int = 0, copied_bytes: int = 0) -> Ceilings:
    """What `device` reaches here: one large matrix product, one large copy (bytes read and written).

    Takes about a second. Sizes default to what fills the device and none of its caches. Imports torch;
    raises UsageError or MissingPrerequisite for a device that is not there.
    """
    import torch

    from harness.device import resolve_device, synchroniser

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
