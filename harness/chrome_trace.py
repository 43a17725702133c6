"""Traces of torch's profiler, for ui.perfetto.dev: operators on the host, kernels on a card."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.errors import MissingPrerequisite
from harness.files import replacing, unwritten


def is_one(head: bytes) -> bool:
    """Whether a file that begins with `head` is a trace."""
    return b'"schemaVersion"' in head


def kernels(work: Callable[[], object], path: Path) -> None:
    """Write a Chrome trace of `work` to `path`. Raises BenchError where it cannot be written."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    activities = [ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as watched:
        work()
    try:
        with replacing(path) as part:
            _export(watched, part)
    except OSError as error:
        raise unwritten(f"trace: {str(path)!r} cannot be written", error) from None
    except RuntimeError as error:
        raise MissingPrerequisite(f"trace: {str(path)!r} cannot be written: {error}") from None


def _export(watched: Any, part: Path) -> None:
    """Write what was watched to `part`.

    The profiler writes to a file beside it and renames that; where the disk is full it says so in a log of
    its own, and leaves both.
    """
    try:
        watched.export_chrome_trace(str(part))
    finally:
        Path(f"{part}.tmp").unlink(missing_ok=True)
    if not part.stat().st_size:
        raise OSError(errno.ENOSPC, "the profiler could not write all of it; is the disk full?")
