"""Choosing a token from logits: penalty, top-k, nucleus, temperature, one uniform draw.

Everything runs on the device without a host sync and without sorting: a full sort of 64,000 codes
costs more than the model's own head. The nucleus is found by two histograms over the bits of the
probabilities (for positive floats, bit order is value order), which is exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_HIGH = 0x3F80 + 1  # upper halves of the bit patterns of floats in [0, 1]
_LOW = 1 << 16


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
            logits = logits.masked_fill(probabilities < floor, -torch.inf)
        return draw((logits / self.temperature).softmax(-1), uniform)


def draw(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """Inverse-CDF sampling: `[B]` indices of `probabilities [B, V]` at `uniform [B]`.

    Never an index of probability zero: the target is below the total and the search is for the first
    cumulative value above it.
    """
    cumulative = probabilities.cumsum(-1)
    target = uniform[:, None].to(cumulative.dtype) * cumulative[:, -1:]
    last = (probabilities > 0).to(torch.int64) * torch.arange(probabilities.shape[-1], device=uniform.device)
    index = torch.searchsorted(cumulative, target, right=True)
    return torch.minimum(index[:, 0], last.amax(-1))  # rounding may put the target at the very end


def nucleus_floor(probabilities: Tensor, mass: float) -> Tensor:
    """Smallest probability `[B, 1]` of the smallest set of likeliest tokens that holds `mass`.

    Ties with the last member are members.
    """
    bits = probabilities.view(torch.int32)
    high, low = (bits >> 16).long(), (bits & (_LOW - 1)).long()
    coarse, above = _crossing(high, probabilities, _HIGH, torch.full_like(probabilities[:, :1], mass))
    inside = probabilities * (high == coarse)
    fine, _ = _crossing(low, inside, _LOW, mass - above)
    return ((coarse << 16) | fine).to(torch.int32).view(torch.float32)


def _crossing(bucket: Tensor, weight: Tensor, buckets: int, mass: Tensor) -> tuple[Tensor, Tensor]:
    """Highest bucket at or above which `mass [B, 1]` lies, and the mass strictly above it."""
    histogram = torch.zeros(*weight.shape[:-1], buckets + 1, device=weight.device).scatter_add_(
        -1, bucket, weight
    )
    tail = histogram.flip(-1).cumsum(-1).flip(-1)  # mass at or above each bucket
    index = ((tail >= mass).sum(-1, keepdim=True) - 1).clamp(0, buckets - 1)
    return index, tail.gather(-1, index + 1)
