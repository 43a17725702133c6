"""Audio that can be heard while the rest of it is made, whoever makes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Chunk:
    """The next piece of every item of a batch: `samples` fp32 `[B, channels, n]` on the host.

    `t_s`: seconds from the start of the request's clock to when the piece was there.
    """

    samples: Tensor
    t_s: float
