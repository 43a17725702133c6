"""Seeds as requests write them: a number or its text, several between commas; -1, "" and null draw one.

Items of music whose seeds are to be drawn have them drawn when they are made (`GenerationConfig.seeds`). What
has one seed for all it does, words and a profile, has it drawn here.
"""

from __future__ import annotations

import re
from typing import Any

from acestep.request import drawn_seed

DRAWN = (None, "", -1)
ONE = re.compile(r" *-?[0-9]{1,20} *")
SEVERAL = re.compile(r" *[0-9]{1,20} *(, *[0-9]{1,20} *)+")


def seed_of(value: Any) -> Any:
    """The seed that `value` says, None where it is to be drawn; of a text of several a list.

    What is no seed stays, to be refused as it was given.
    """
    if isinstance(value, str) and ONE.fullmatch(value):
        value = int(value)
    elif isinstance(value, str) and SEVERAL.fullmatch(value):
        return [int(word) for word in value.split(",")]
    return None if value in DRAWN else value


def one_seed(value: Any, notes: list[str]) -> Any:
    """The seed that `value` says, drawn where it is to be, which `notes` are told."""
    seed = seed_of(value)
    if seed is None:
        seed = drawn_seed()
        notes.append(f"seed: {seed} is drawn, which repeats this")
    return value if isinstance(seed, list) else seed
