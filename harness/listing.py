"""The devices of this machine as a table, and which of them auto takes, as the driver says. No torch here."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from harness import accelerators, dtypes
from harness.accelerators import MAX_VRAM_VARIABLE, Accelerator
from harness.text import harmless

NAME_CHARS = 34
COLUMNS = f"{{:<9}}{{:<{NAME_CHARS + 1}}}{{:>8}}  {{:<12}}{{:<9}}{{:<5}}"
HEADS = ("device", "name", "GiB", "capability", "dtype", "auto")


def table(environ: Mapping[str, str] = os.environ) -> str:
    """A line for each device; below, what else decides about them. 79 columns."""
    devices = list(accelerators.every(environ))
    lines = [HEADS, *(_row(*device, auto=place == 0) for place, device in enumerate(devices))]
    return "\n".join([*(COLUMNS.format(*line).rstrip() for line in lines), *_notes(devices, environ)])


def _row(device: str, card: Accelerator, *, auto: bool) -> tuple[str, ...]:
    name = harmless(card.name)
    capability = "{}.{}".format(*card.capability) if card.capability else "-"
    dtype = dtypes.chosen(dtypes.AUTO, card.device, card.capability)
    shown = name if len(name) <= NAME_CHARS else f"{name[: NAME_CHARS - 3]}..."
    format_of = "torch's" if dtype == dtypes.AUTO else dtype
    return device, shown, f"{card.memory_gib:.2f}", capability, format_of, "yes" if auto else ""


def _notes(devices: list[tuple[str, Accelerator]], environ: Mapping[str, str]) -> Iterator[str]:
    size_gb, build = accelerators.max_vram_gb(environ), accelerators.torch_build()
    if size_gb is not None:
        yield f"{MAX_VRAM_VARIABLE}: each is taken for a card of {size_gb:g} GB"
    if build and build.cuda is None and devices[0][1].device == "cuda":
        yield f"torch {build.version} is not built for CUDA, and runs on none of these cards"
