"""ACE-Step 1.5 inference, built to be measured.

    from acestep import Engine, GenerationParams, generate_music
    engine = Engine.load("synthetic-tiny")
    result = generate_music(engine, GenerationParams(caption="slow dub techno", duration=10))

Importing this package does not import torch; the names below load what they need on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from acestep.engine import Engine
    from acestep.functions import create_sample, format_sample, generate_music, understand_music
    from acestep.request import DescriptionParams, GenerationConfig, GenerationParams
    from acestep.result import DescriptionResult, GenerationResult

__all__ = [
    "DescriptionParams",
    "DescriptionResult",
    "Engine",
    "GenerationConfig",
    "GenerationParams",
    "GenerationResult",
    "create_sample",
    "format_sample",
    "generate_music",
    "understand_music",
]

_HOME = {
    "Engine": "acestep.engine",
    "create_sample": "acestep.functions",
    "format_sample": "acestep.functions",
    "generate_music": "acestep.functions",
    "understand_music": "acestep.functions",
    "DescriptionParams": "acestep.request",
    "GenerationConfig": "acestep.request",
    "GenerationParams": "acestep.request",
    "DescriptionResult": "acestep.result",
    "GenerationResult": "acestep.result",
}


def console_script() -> int:
    """What the console script `acestep` runs; returns the exit code."""
    from harness import interrupts

    interrupts.end_quietly()  # before anything else is imported

    from acestep.__main__ import main

    return main()


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'acestep' has no attribute {name!r}")
