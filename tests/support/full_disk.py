"""A disk without room, as far as a process sees: no file of its may grow beyond a size."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager

REASON = "File too large"  # what the kernel says of it


@contextmanager
def room(size_bytes: int) -> Iterator[None]:
    """Inside, so much of a file can be written, and no more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
