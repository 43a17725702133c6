"""Views of a record: forms that no run goes on from. Nothing heavy is imported: a `--help` pays for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from harness.records.schema import Profile


class View(NamedTuple):
    """The flag that names its file, what makes it of a record, and whether the bytes of a file are one."""

    flag: str
    encode: Callable[[Profile], bytes]
    is_one: Callable[[bytes], bool]
