"""Painting a region of a recording anew, so that the rest stays the recording's.

The DiT fills the whole canvas. After the first steps the frames outside the region are put back where the
recording's own path from the noise is at that time, so that what is painted is painted to fit; at the end the
painting fades into the recording. `acestep.repainting` says how much of either.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Repaint:
    """A recording of which one region is painted anew.

    `clean [1 or B, T, 64]`: its latents. `region`: frames `[a, b)`, `0 <= a < b <= T`. `ratio`: share of the
    steps after which the rest is put back. `crossfade_frames`: how far outside the region the painting fades
    into the recording. `spare_last`: nothing is put back after the last step, so the fade has the painting
    to fade from; upstream's turbo models do that, its others do not.
    """

    clean: Tensor
    region: tuple[int, int]
    ratio: float
    crossfade_frames: int
    spare_last: bool = False
    _inside: Tensor = field(init=False, repr=False)  # [T, 1]: whether a frame is in the region

    def __post_init__(self) -> None:
        frame = torch.arange(self.clean.shape[1], device=self.clean.device)[:, None]
        inside = (frame >= self.region[0]) & (frame < self.region[1])
        object.__setattr__(self, "_inside", inside)

    def put_backs(self, steps: int) -> int:
        """How many of so many steps are followed by putting the recording back."""
        return min(round(self.ratio * steps), steps - 1 if self.spare_last else steps)

    def put_back(self, x: Tensor, kept: Tensor) -> Tensor:
        """Latents `x [B, T, 64]` in the region, and `kept`, the recording at their time, outside."""
        return torch.where(self._inside, x, kept)

    def fade(self, x: Tensor) -> Tensor:
        """Final latents: `x` in the region, a line from it to `clean` on either side, `clean` beyond.

        The lines are as long as there is room: of n frames the i-th from outside has the share i / (n + 1) of
        `x`. With no frames to fade over, `x` as it is.
        """
        if self.crossfade_frames == 0:
            return x
        (first, end), frames = self.region, x.shape[1]
        rise, fall = min(self.crossfade_frames, first), min(self.crossfade_frames, frames - end)
        wide = torch.promote_types(x.dtype, torch.float32)
        frame = torch.arange(frames, dtype=wide, device=x.device)
        rising, falling = (frame - (first - rise - 1)) / (rise + 1), (end + fall - frame) / (fall + 1)
        share = torch.minimum(rising, falling).clamp(0, 1)[:, None]
        return (share * x + (1 - share) * self.clean).to(x.dtype)
