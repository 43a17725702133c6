"""One spelling of what is written in several: an open value, a key, a time signature, a language, times.

A field that can be left open takes None and "" for it. What has no other spelling is left as it is, to be
refused as it was given. No torch import here.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from harness.flags import NUMBER

KEYSCALE = re.compile(r"([A-G])([#b♯♭]?)(?: ?(major|minor|maj|min)|((?-i:m)))", re.IGNORECASE)
TIME_SIGNATURES = {2: "2", 3: "3", 4: "4", 6: "6", "2/4": "2", "3/4": "3", "4/4": "4", "6/8": "6"}
BY_NAME = {"duration": None, "vocal_language": "unknown"}  # open values that are not the field's default


def open_values(kind: type) -> Mapping[str, Any]:
    """The value that leaves it open, by the name of each field of the dataclass `kind` that can be."""
    defaults = {field.name: field.default for field in dataclasses.fields(kind)}
    return {name: value for name, value in defaults.items() if value in (None, "", ())} | BY_NAME


def settle(params: Any) -> None:
    """Give the fields of a new, frozen request their one spelling."""
    for name, open_value in open_values(type(params)).items():
        value = getattr(params, name)
        if value is None or (isinstance(value, str) and not value):
            object.__setattr__(params, name, open_value)
    for name, canonical in CANONICAL.items():
        if hasattr(params, name):
            object.__setattr__(params, name, canonical(getattr(params, name)))


def _keyscale(value: Any) -> Any:
    key = KEYSCALE.fullmatch(value) if isinstance(value, str) else None
    if key is None:
        return value
    mode = "major" if (key[3] or "").lower().startswith("maj") else "minor"
    return f"{key[1].upper()}{key[2].lower()} {mode}"


def _timesignature(value: Any) -> Any:
    return TIME_SIGNATURES.get(value, value) if isinstance(value, (int, float, str)) else value


def _language(value: Any) -> Any:
    return value.lower() if isinstance(value, str) and value.isascii() else value


def _timesteps(value: Any) -> Any:
    times = [word.strip(" ") for word in value.split(",")] if isinstance(value, str) else []
    return tuple(map(float, times)) if len(times) > 1 and all(map(NUMBER.fullmatch, times)) else value


CANONICAL = {
    "keyscale": _keyscale,
    "timesignature": _timesignature,
    "vocal_language": _language,
    "timesteps": _timesteps,
}
