"""Flow-edit (arXiv 2412.08629): a recording led from the words that describe it to other words.

What the words change is the difference of two velocities, the DiT's under each of them at the same noise.
Followed from the recording, it leaves what both have in common where it is:

    x_s = t·noise + (1 - t)·recording
    x_t = edited + x_s - recording
    edited <- edited - (t - t')·(v(x_t | target words) - v(x_s | source words))

Both are means over fresh draws of the noise at each step. Steps behind those that edit are the target words'
alone: noised once more, the edited recording is denoised as ever. Each of the two has a guidance momentum and
a last velocity of its own. As upstream has it, but that upstream offers it with base models only.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor

from acestep.diffusion.sampler import Options, draw, path, streams
from acestep.diffusion.step import Passes
from acestep.models.dit import Conditions, DiT, Modulation
from harness.spans import span


def edit(
    dit: DiT | Passes,
    recording: Tensor,
    target: Conditions,
    source: Conditions,
    modulation: Modulation,
    times: Sequence[float],
    options: Options,
    *,
    edits: int,
    draws: int = 1,
    seeds: Sequence[int],
) -> tuple[Tensor, int]:
    """Latents `[B, T, 64]` from those of a recording `[1, T, 64]`, and how many passes of the DiT they took.

    `target`, `source`: conditions of the words to lead to and of those that describe the recording. `edits`:
    how many of the steps edit, the first; each takes two passes for each of its `draws`, the others one.
    `seeds`: one per item, for all of its noise. Of `options` the velocity's; the rest is as in
    `sampler.denoise`.
    """
    noises = streams(seeds, recording.device)
    frames, dtype = recording.shape[1], recording.dtype
    ahead, behind = fields = [options.field(dit, modulation, times, dtype) for _ in range(2)]
    edited = recording.expand(len(seeds), -1, -1)
    for step, (t, t_next) in enumerate(pairwise(ahead.held)):
        with span("step"):
            if step < edits:
                noised = [path(draw(noises, frames, dtype), recording, t) for _ in range(draws)]
                velocity = ahead.mean([edited + x - recording for x in noised], target, step)
                velocity = velocity - behind.mean(noised, source, step)
            else:
                if step == edits:
                    edited = edited + path(draw(noises, frames, dtype), recording, t) - recording
                velocity = ahead.velocity(edited, target, step)
            edited = edited - velocity * (t - t_next)
    return edited, sum(field.passes for field in fields)
