"""Micro-batches on their way through the stages of diffusion: before, with their conditions, and after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from acestep.diffusion.canvas import Canvas
from acestep.models.dit import Conditions, Modulation
from acestep.text.metadata import Metadata


@dataclass(frozen=True)
class MicroBatch:
    """Items of the same metadata and length, which the DiT runs as one batch.

    `frames`: what is diffused, of which the first `samples` of audio are asked for. `items`: their places in
    the request. `codes`: audio codes int64 `[n]` per item, or none at all.
    """

    metadata: Metadata
    frames: int
    samples: int
    items: tuple[int, ...]
    codes: tuple[Tensor, ...]


class TextTokens(NamedTuple):
    """How long a prompt's two texts are."""

    caption: int
    lyrics: int


@dataclass(frozen=True)
class Conditioned:
    """A micro-batch and what all its diffusion steps share.

    `conditions`: those of the task, and those of text to music where the later steps leave the source, or of
    the source's own words where it is edited. They are taken out when they have been used: they hold views
    of weights, which are to leave the device. `texts`: of the prompts that they are of.
    """

    batch: MicroBatch
    canvas: Canvas
    modulation: Modulation
    conditions: list[Conditions]
    encoder_tokens: int
    texts: Sequence[TextTokens]


@dataclass(frozen=True)
class Diffused:
    """`latents [items, T, 64]` of a micro-batch, and how many forward passes of the DiT they took."""

    latents: Tensor
    passes: int
