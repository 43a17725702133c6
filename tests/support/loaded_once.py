"""Engines that many tests ask for, who look at what is done with one and not at how it is loaded."""

from __future__ import annotations

from typing import Any

from acestep.engine import Engine
from acestep.setup import Setup

LOAD = Engine.from_setup
LOADED: list[tuple[Setup, dict[str, Any], Engine]] = []


def loaded_once(setup: Setup, **options: Any) -> Engine:
    """`Engine.from_setup`, which loads each kind of engine once in a process."""
    for known, known_options, engine in LOADED:
        if (known, known_options) == (setup, options):
            return engine
    engine = LOAD(setup, **options)
    LOADED.append((setup, options, engine))
    return engine
