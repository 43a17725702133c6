"""Traces of torch's profiler, for ui.perfetto.dev: operators on the host, kernels on a card."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harness.errors import MissingPrerequisite
from harness.files import replacing, unwritten


def is_one(head: bytes) -> bool:
    """Whether a file that begins with `head` is a trace."""
    return b'"schemaVersion"' in head


def kernels(work: Callable[[], object], path: Path) -> None:
    """Write a Chrome trace of `work` to `path`."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    activities = [ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as watched:
        work()
    try:
        with replacing(path) as part:
            watched.export_chrome_trace(str(part))
    except OSError as error:
        raise unwritten(f"trace: {str(path)!r} cannot be written", error) from None
    except RuntimeError as error:
        raise MissingPrerequisite(f"trace: {str(path)!r} cannot be written: {error}") from None
