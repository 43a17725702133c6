"""Presets: the values of a request's fields where nobody has said any.

    fixed      all work is fixed by the request: what was measured over history, and the default
    upstream   what upstream's Python API does in 2026-06 where it is given a caption and nothing else
    guide      the benchmark guide's: as fixed, but the language model has work where a flag says so, only

    flag  >  environment  >  file  >  preset

A record names its preset, and what was asked for besides (`requested`); together they are the whole
request. Seeds are ours in each, and named: upstream draws them. What upstream's API has of another value for
one kind of weights only is the variant's own here: its 8 steps are turbo's, and base weights take their own
50. DCW is on for turbo alone, as in upstream's releases since 0.1.7 and in its interface; the API of 2026-06
has it on for all, which distorts base weights. No torch import here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from acestep.defaults import DEFAULT_DURATION_S
from acestep.request import GenerationConfig, GenerationParams
from harness.checks import one_of

FIXED, UPSTREAM, GUIDE = "fixed", "upstream", "guide"
UPSTREAM_DURATION_S = 120.0


@dataclass(frozen=True, slots=True)
class Preset:
    """Values to start from.

    `duration_s`: where neither the request nor a recording, codes or the language model say the length.
    `file_duration_s`: of a request file that does not; None leaves it open. `over_files`: fields that only a
    flag changes, whatever a file says.
    """

    params: GenerationParams = field(default_factory=GenerationParams)
    config: GenerationConfig = field(default_factory=GenerationConfig)
    duration_s: float = DEFAULT_DURATION_S
    file_duration_s: float | None = DEFAULT_DURATION_S
    over_files: tuple[str, ...] = ()

    def of_variant(self, *, turbo: bool) -> GenerationParams:
        """`params` with what is left to the variant of the DiT."""
        return settled(self.params, turbo=turbo)

    def values(self, *, turbo: bool) -> dict[str, Any]:
        """The fields that are not those of `fixed`."""
        of_music = requested(self.of_variant(turbo=turbo), GenerationParams())
        return of_music | requested(self.config, GenerationConfig())


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        FIXED: Preset(),
        UPSTREAM: Preset(
            GenerationParams(
                lyrics="",
                thinking=True,
                use_cot_caption=True,
                use_cot_language=True,
                dcw_enabled=None,
                enable_normalization=True,
            ),
            GenerationConfig(batch_size=2, audio_format="flac", preset=UPSTREAM),
            duration_s=UPSTREAM_DURATION_S,
            file_duration_s=None,
        ),
        GUIDE: Preset(
            GenerationParams(use_cot_metas=False),
            GenerationConfig(preset=GUIDE),
            over_files=(
                *("thinking", "use_cot_metas", "use_cot_caption", "use_cot_language"),
                "use_constrained_decoding",
            ),
        ),
    }
)


def named(name: str) -> Preset:
    """The preset `name`. Raises UsageError where there is none."""
    one_of("preset", name, [*PRESETS])
    return PRESETS[name]


def requested(
    record: GenerationParams | GenerationConfig, start: GenerationParams | GenerationConfig
) -> dict[str, Any]:
    """The fields of `record` that are not those of `start`."""
    names = (known.name for known in dataclasses.fields(record) if known.name != "preset")
    values = {name: getattr(record, name) for name in names}
    return {name: value for name, value in values.items() if value != getattr(start, name)}


def settled(params: GenerationParams, *, turbo: bool) -> GenerationParams:
    """`params` with the switches that are the variant's own where they are left open."""
    return params if params.dcw_enabled is not None else dataclasses.replace(params, dcw_enabled=turbo)
