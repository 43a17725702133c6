"""How codes are drawn: the published defaults, and the nucleus as the published package has it.

The first code of a frame is drawn by the talker's logits, which it shares with control tokens: of these only
the end may come, and not before some codes are there. The penalty is for all first codes so far, never for
the prompt. The other codes are the predictor's, each of a vocabulary of its own, where nothing is forbidden.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from harness.nn.sampling import Sampling


class Tempered(Sampling):
    """A sampler whose nucleus looks at the logits after temperature."""

    def pick(self, logits: Tensor, uniform: Tensor, seen: Tensor | None = None) -> Tensor:
        if self.temperature not in (0, 1) and 0 < self.top_p < 1:
            return replace(self, temperature=1.0).pick(logits / self.temperature, uniform, seen)
        return super().pick(logits, uniform, seen)


@dataclass(frozen=True)
class FrameSampling:
    """How the codes of a frame are drawn: `first` is of code 0, `others` of codes 1 to 15.

    `min_new_tokens`: first codes before the end may come.
    """

    first: Sampling
    others: Sampling
    min_new_tokens: int = 2


PUBLISHED = FrameSampling(Tempered(0.9, top_k=50, repetition_penalty=1.05), Tempered(0.9, top_k=50))
GREEDY = FrameSampling(Tempered(0.0, repetition_penalty=1.05), Tempered(0.0))


def most_frames(max_new_tokens: int) -> int:
    """Frames of at most so many first codes: the last of them has no other codes, so it is dropped."""
    return max_new_tokens - 1
