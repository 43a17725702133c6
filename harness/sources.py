"""Where weights come from: the argument, then an environment variable, then a default. No torch here."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from harness.errors import MissingPrerequisite


def choose(
    choice: str | Path | None,
    variable: str,
    synthetic: Sequence[str],
    default: str,
    folder: str = "the folder of a model",
) -> tuple[str, str]:
    """The source's name or path, and who chose it: `argument`, `environment` or `default`.

    `synthetic`: names of made-up weights; all else is the path of a `folder`. Raises MissingPrerequisite for
    one that is not there.
    """
    value, origin = (str(choice), "argument") if choice else (os.environ.get(variable, ""), "environment")
    if not value:
        return default, "default"
    if value not in synthetic and not os.path.isdir(value):  # noqa: PTH112 - a name no file can have is no folder
        raise MissingPrerequisite(
            f"source ({origin}): no folder {value!r}; use {', '.join(synthetic)} or {folder}"
        )
    return value, origin
