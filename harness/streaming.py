"""Audio that can be heard while the rest of it is made, whoever makes it: its chunks, and how they are heard.

A player at 1x begins with the first chunk, plays what is there, and is silent where the next one is not:

    e_0 = t_0 + d_0                 chunk i is there at t_i, plays for d_i, and has been played at e_i
    s_i = max(0, t_i - e_{i-1})     silence before chunk i: an underrun, where there is any
    e_i = e_{i-1} + s_i + d_i

No torch import before audio is compared.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

# How far a stream may be from what is made at once, as a share of the peak, by what computes it: the same
# sums in another order, where tiles have another length. In fp32 tiny weights on a CPU have 1e-6 to 1.3e-5,
# and 1.8e-4 where a tile's halo is a frame short; 16 bits were not measured.
TOLERANCES = {"float64": 1e-12, "float32": 5e-5}
TOLERANCE_16 = 0.05


@dataclass(frozen=True, slots=True)
class Chunk:
    """The next piece of every item of a batch: `samples` fp32 `[B, channels, n]` on the host.

    `t_s`: seconds from the start of the request's clock to when the piece was there.
    """

    samples: Tensor
    t_s: float


@dataclass(frozen=True, slots=True)
class Arrivals:
    """When the chunks of a stream were there and how long each of them plays, both in seconds."""

    times_s: tuple[float, ...]
    lengths_s: tuple[float, ...]

    @classmethod
    def of(cls, chunks: Iterable[Chunk], sample_rate: int) -> Arrivals:
        """Those of `chunks`, of `sample_rate` samples a second."""
        pairs = [(chunk.t_s, chunk.samples.shape[-1] / sample_rate) for chunk in chunks]
        return cls(tuple(t_s for t_s, _ in pairs), tuple(length_s for _, length_s in pairs))

    @property
    def first_s(self) -> float | None:
        """Seconds to the first chunk; None of a stream without any."""
        return self.times_s[0] if self.times_s else None

    @property
    def gaps_s(self) -> tuple[float, ...]:
        """Seconds from each chunk to the next."""
        return tuple(later - earlier for earlier, later in pairwise(self.times_s))

    @property
    def silences_s(self) -> tuple[float, ...]:
        """Seconds of silence at each underrun of a player at 1x."""
        silences_s, played_s = [], 0.0
        for place, (t_s, length_s) in enumerate(zip(self.times_s, self.lengths_s, strict=True)):
            if place and t_s > played_s:
                silences_s.append(t_s - played_s)
            played_s = max(t_s, played_s) + length_s
        return tuple(silences_s)


def quantile(values: Sequence[float], share: float) -> float | None:
    """The value below which `share` (0 to 1) of `values` lie, linear between neighbours; None of no values.

    Definition 7 of Hyndman and Fan (1996): of n values the place (n - 1)·share in their order.
    """
    if not values:
        return None
    ordered, place = sorted(values), (len(values) - 1) * share
    below, above = ordered[math.floor(place)], ordered[math.ceil(place)]
    return below + (above - below) * (place - math.floor(place))


def tolerance(dtype: str) -> float:
    """The `largest_error` that rounding explains where audio is computed in `dtype`, by torch's name."""
    return TOLERANCES.get(dtype, TOLERANCE_16)


def unequal(error: float, dtype: str) -> str:
    """Why a stream of that `largest_error` is not what is made at once; empty where rounding explains it."""
    if error <= tolerance(dtype):
        return ""
    return f"the stream is {error:.2g} of the peak from what is made at once, over {tolerance(dtype):g}"


def largest_error(chunks: Sequence[Chunk], offline: Sequence[Tensor]) -> float:
    """The largest difference of a sample of a stream from that of the same items made at once.

    `offline`: of each item `[channels, n]`; behind an item that is shorter than the longest a stream is
    silent. Both sides are brought to a peak of 1, item by item: no stream knows a peak that is still to come.
    Infinite where one of them is longer, or anything is not finite.
    """
    import torch
    from torch.nn.functional import pad

    streamed = torch.cat([chunk.samples for chunk in chunks], -1).double() if chunks else torch.empty(0)
    longest = max(item.shape[-1] for item in offline)
    expected = torch.stack([pad(item.double().cpu(), (0, longest - item.shape[-1])) for item in offline])
    if streamed.shape != expected.shape:
        return math.inf
    error = (_full_scale(streamed) - _full_scale(expected)).abs().max().item()
    return error if math.isfinite(error) else math.inf


def _full_scale(audio: Tensor) -> Tensor:
    """`[B, channels, n]` with the peak of each item at 1; silence stays."""
    return audio / audio.abs().amax((1, 2), keepdim=True).clamp(min=1e-30)
