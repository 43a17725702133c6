"""The sampler: a token from logits by penalty, top-k, nucleus, temperature, one uniform draw.

Everything runs on the device without a host sync and without sorting: a full sort of 64,000 codes
costs more than the model's own head. The nucleus is found by two histograms, over the upper and then the
lower half of the probabilities' bits (for positive floats, bit order is value order), which is exact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

# `Sampling.pick`, or what was compiled of it.
Pick = Callable[[Tensor, Tensor, Tensor | None], Tensor]

_HALF_BITS = 15  # of the 30 that differ between floats in [0, 1]
_BUCKETS = 1 << _HALF_BITS


@dataclass(frozen=True)
class Sampling:
    """`top_k` 0 and `top_p` 0 or 1 are off; `temperature` 0 takes the most likely token."""

    temperature: float
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0

    def pick(self, logits: Tensor, uniform: Tensor, seen: Tensor | None = None) -> Tensor:
        """Indices `[B]` drawn from fp32 `logits [B, V]` with `uniform [B]` in [0, 1).

        `seen [B, V]` marks tokens the repetition penalty applies to. Top-k and top-p look at the
        logits before temperature, as the upstream sampler does.
        """
        if seen is not None and self.repetition_penalty != 1.0:
            scaled = torch.where(
                logits > 0, logits / self.repetition_penalty, logits * self.repetition_penalty
            )
            logits = torch.where(seen, scaled, logits)
        if self.temperature == 0:
            return logits.argmax(-1)
        if 0 < self.top_k < logits.shape[-1]:
            lowest = logits.topk(self.top_k, dim=-1).values[:, -1:]
            logits = logits.masked_fill(logits < lowest, -torch.inf)
        if 0 < self.top_p < 1:
            probabilities = logits.softmax(-1)
            floor = nucleus_floor(probabilities, self.top_p)
            logits = torch.where(probabilities < floor, -torch.inf, logits)
        return draw((logits / self.temperature).softmax(-1), uniform)


def draw(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """Inverse-CDF sampling: `[B]` indices of `probabilities [B, V]` at fp32 `uniform [B]` in [0, 1).

    The first cumulative value above a target that is below the total, so never past the last index of a
    probability above zero; on a card, whose sums of zeros may differ by rounding, `last` sees to that.
    """
    cumulative = probabilities.cumsum(-1)
    index = torch.searchsorted(cumulative, uniform[:, None] * cumulative[:, -1:], right=True)[:, 0]
    places = torch.arange(probabilities.shape[-1], dtype=torch.int32, device=uniform.device)
    last = torch.where(probabilities > 0, places, 0).amax(-1)
    return torch.minimum(index, last)


def nucleus_floor(probabilities: Tensor, mass: float) -> Tensor:
    """Smallest probability `[B, 1]` of the smallest set of likeliest tokens that holds `mass`.

    Ties with the last member are members.
    """
    bits = probabilities.view(torch.int32)
    outside = probabilities.sum(-1, keepdim=True) - mass
    upper, below = _crossing(bits >> _HALF_BITS, probabilities, outside)
    upper = upper << _HALF_BITS
    # Lower halves, of the floats with that upper half. The others go anywhere beyond: to one place is slow.
    lower = torch.minimum(bits ^ upper, (bits & (_BUCKETS - 1)) + _BUCKETS)
    lower, _ = _crossing(lower, probabilities, outside - below)
    floor = (upper | lower).view(torch.float32)
    return floor.minimum(probabilities.amax(-1, keepdim=True))  # a tiny mass is lost in `outside`


def _crossing(bucket: Tensor, weight: Tensor, most: Tensor) -> tuple[Tensor, Tensor]:
    """The highest bucket, int32 `[B, 1]`, below which at most `most [B, 1]` of `weight` lies, and what does.

    `bucket [B, V]`: under `_BUCKETS`, or under twice that for what does not count.
    """
    histogram = weight.new_zeros(len(weight), 2 * _BUCKETS + 1)
    histogram[:, 1:].scatter_add_(-1, bucket.long(), weight)
    below = histogram[:, :_BUCKETS].cumsum(-1)
    index = torch.searchsorted(below, most, right=True).clamp(min=1) - 1
    return index.int(), below.gather(-1, index)
