"""Defaults of flags from the environment and from the `.env` file of the working directory.

    flag  >  environment  >  .env  >  example  >  preset  >  default

A line of `.env` is `KEY=VALUE`, in quotes or not, or a comment. Nothing is expanded or run. Keys that
belong to other programs are left alone; a line that cannot be read is refused, because a default that
silently does not hold is worse than none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from acestep.weights.layout import ENVIRONMENT as SOURCE_VARIABLE
from harness.accelerators import MAX_VRAM_VARIABLE
from harness.checks import shown, text
from harness.errors import BenchError, UsageError
from harness.reading import read_text

VARIABLES = {
    "config_path": "ACESTEP_CONFIG_PATH",
    "lm_model": "ACESTEP_LM_MODEL_PATH",
    "device": "ACESTEP_DEVICE",
    "lm_backend": "ACESTEP_LM_BACKEND",
    "source": SOURCE_VARIABLE,
    "max_vram": MAX_VRAM_VARIABLE,
}
FILE = ".env"
KEY = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)")
COMMENT = re.compile(r"(?:^|\s)#")
MAX_VALUE_CHARS = 4_096


class Default(NamedTuple):
    """A flag's default and where it was found: `env` or `.env`."""

    value: str
    origin: str


def load(environ: Mapping[str, str], folder: Path) -> dict[str, Default]:
    """Defaults by the flag's name. An empty value is none.

    Raises UsageError for a line of `.env` that cannot be read, and for control characters in a value;
    MissingPrerequisite for a file that cannot be.
    """
    lines = read_env_file(folder / FILE)
    ambient = {}
    for flag, variable in VARIABLES.items():
        for origin, values in (("env", environ), (FILE, lines)):
            if value := values.get(variable, ""):
                ambient[flag] = Default(text(variable, value, MAX_VALUE_CHARS), origin)
                break
    return ambient


def read_env_file(path: Path) -> dict[str, str]:
    """Keys and values of a `.env` file; none where there is no such file. Raises as `load` does."""
    if not path.is_file():  # a folder of this name is somebody's virtual environment
        return {}
    values: dict[str, str] = {}
    try:
        lines = read_text(path).splitlines()
    except BenchError as error:
        raise type(error)(f"{path}: {error}") from None
    for number, line in enumerate(map(str.strip, lines), 1):
        if line and not line.startswith("#"):
            where = f"{path}, line {number}"
            key, value = _pair(line, where)
            if key in values:
                raise UsageError(f"{where}: {key} is given twice; keep one of them")
            values[key] = value
    return values


def _pair(line: str, where: str) -> tuple[str, str]:
    name, equals, rest = line.partition("=")
    key = KEY.fullmatch(name.rstrip())
    if not equals or key is None:
        raise UsageError(f"{where}: {shown(line)} is not KEY=VALUE; write that, or # before a comment")
    value = rest.strip()
    if value[:1] not in ("'", '"'):
        return key[1], COMMENT.split(value, maxsplit=1)[0].rstrip()
    inside, closed, after = value[1:].partition(value[0])
    if not closed or COMMENT.split(after, maxsplit=1)[0].strip():
        raise UsageError(f"{where}: the value of {key[1]} does not end with its quote {value[0]}")
    return key[1], inside
