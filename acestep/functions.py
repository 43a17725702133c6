"""The engine under the names of the upstream API.

result = generate_music(engine, GenerationParams(caption="slow dub techno", duration=10))
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from acestep.engine import Engine
from acestep.request import DescriptionParams, GenerationConfig, GenerationParams
from acestep.result import DescriptionResult, GenerationResult


def generate_music(
    engine: Engine,
    params: GenerationParams,
    config: GenerationConfig | None = None,
    save_dir: Path | None = None,
) -> GenerationResult:
    """Text to music: `engine.generate` under the name of the upstream API."""
    return engine.generate(params, config, save_dir)


def understand_music(engine: Engine, audio_codes: str, **sampling: Any) -> DescriptionResult:
    """`engine.understand` under the name of the upstream API; `sampling` are fields of DescriptionParams."""
    return engine.understand(DescriptionParams(audio_codes=audio_codes, **sampling))


def create_sample(engine: Engine, query: str, instrumental: bool = False, **more: Any) -> DescriptionResult:
    """`engine.create` under the name of the upstream API."""
    return engine.create(DescriptionParams(query=query, instrumental=instrumental, **more))


def format_sample(engine: Engine, caption: str, lyrics: str, **more: Any) -> DescriptionResult:
    """`engine.format` under the name of the upstream API; metadata given in `more` is kept."""
    return engine.format(DescriptionParams(caption=caption, lyrics=lyrics, **more))
