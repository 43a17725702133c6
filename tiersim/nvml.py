"""The NVIDIA cards of this machine through NVML: who they are, and what they hold. No torch, no context."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def _nvml() -> Iterator[Any]:
    import pynvml

    pynvml.nvmlInit()
    try:
        yield pynvml
    finally:
        pynvml.nvmlShutdown()


def visible_gpus() -> list[str]:
    """Cards as CUDA_VISIBLE_DEVICES names them; all of the machine's where it is not set."""
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is not None:
        return [name.strip() for name in listed.split(",") if name.strip() not in ("", "-1")]
    import pynvml

    try:
        with _nvml() as nvml:
            return [str(index) for index in range(nvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError:
        return []


def used_bytes(name: str) -> int | None:
    """Memory of a card in use by anybody, or None where the driver does not say."""
    import pynvml

    by_uuid = name.startswith(("GPU-", "MIG-"))
    if not by_uuid and not re.fullmatch("[0-9]{1,4}", name):
        return None
    try:
        with _nvml() as nvml:
            handle = nvml.nvmlDeviceGetHandleByUUID(name) if by_uuid else None
            handle = handle or nvml.nvmlDeviceGetHandleByIndex(int(name))
            return int(nvml.nvmlDeviceGetMemoryInfo(handle).used)
    except pynvml.NVMLError:
        return None
