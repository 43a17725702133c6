"""What a conversion has to be: as many items as are asked for, of their length, finite and heard."""

from __future__ import annotations

import numpy as np

from subjects.rvc import conversion
from subjects.rvc.plan import Plan
from subjects.rvc.result import Result

CLIPPED = 0.01  # share of samples at full scale, from which on an item is


def problem_of(result: Result, plan: Plan) -> str | None:
    """What is wrong with what came of `plan`, or None."""
    if len(result.audios) != plan.request.batch_size:
        return f"{len(result.audios)} items came back, {plan.request.batch_size} were asked for"
    if not np.isfinite(result.waves).all():
        return "the generator's samples are not numbers"
    if result.counts.chunks == 1:  # where a longer recording is cut depends on what it holds
        rate = plan.setup.configs.synthesizer.sample_rate
        expected = conversion.output_samples(plan.samples, [], rate, plan.exact)
        if (samples := result.waves.shape[-1]) != expected:
            return f"the result has {samples:,} samples, {expected:,} were expected"
    for index, audio in enumerate(result.audios):
        if audio.silent:
            return f"item {index} is silent"
        full = np.abs(audio.samples.astype(np.int32)) >= 32_767
        if (share := float(full.mean())) > CLIPPED:
            return f"item {index} is clipped: {share:.0%} of its samples are at full scale"
    return None
