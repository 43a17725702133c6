"""The spans that begin while something runs."""

from collections.abc import Callable

from harness import spans


def begun(run: Callable[[], object]) -> list[str]:
    """Their paths, in order."""
    paths: list[str] = []
    spans.observe(paths.append)
    try:
        run()
    finally:
        spans.observe(None)
    return paths
