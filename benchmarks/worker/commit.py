"""What is measured is the commit under test: its modules and nothing that is installed beside them."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from types import ModuleType

import _matrix as matrix

REPEATS = matrix.repeats()
OURS = ("harness", "acestep", "subjects", "tiersim")


class Unsupported(Exception):
    """The commit under test has no such feature: its cells are n/a."""


def only_the_commit() -> None:
    """Let nothing but the checkout under test provide our packages. An editable install answers for every
    module the commit lacks, and would have today's code measured under yesterday's name."""
    sys.meta_path[:] = [
        finder for finder in sys.meta_path if not finder.__module__.startswith("__editable__")
    ]


def commit_module(name: str) -> ModuleType:
    """Import a module of the commit under test. Raises Unsupported where the commit has none."""
    checkout = os.environ.get("ASV_ENV_DIR") and Path(os.environ["ASV_ENV_DIR"], "project").resolve()
    if checkout:
        only_the_commit()
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in OURS:
            raise
        raise Unsupported(f"this commit has no {error.name}") from None
    if checkout and not Path(module.__file__ or "").resolve().is_relative_to(checkout):
        raise Unsupported(f"this commit has no {name}")
    return module
