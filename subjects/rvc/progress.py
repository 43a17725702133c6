"""How the work of a conversion is spread over its stages, in FLOP: for the time left.

No torch import here.
"""

from __future__ import annotations

from harness.progress import Part
from subjects.rvc.closed_form import flow_work, generator_work, hubert_work, rmvpe_work, text_encoder_work
from subjects.rvc.config import HOP, SAMPLE_RATE
from subjects.rvc.conversion import CUTTING, cut_around
from subjects.rvc.plan import Plan

BY_CHUNK = ("features", "text_encode", "flow", "generate")


def parts(plan: Plan) -> tuple[Part, ...]:
    """Pitch, then the stages of a chunk; of a recording that is cut these are one, done once a chunk."""
    configs, batch, chunks = plan.setup.configs, plan.request.batch_size, len(cut_around(plan.samples)) + 1
    edges = 2 * CUTTING.pad * SAMPLE_RATE
    samples = plan.samples // chunks + edges
    works = [hubert_work(configs.hubert, samples).flop]
    works += [
        batch * work(configs.synthesizer, samples // HOP).flop
        for work in (text_encoder_work, flow_work, generator_work)
    ]
    pitch = Part("pitch", rmvpe_work(configs.rmvpe, (plan.samples + edges) // HOP).flop)
    if chunks > 1:
        first, *others = BY_CHUNK
        return pitch, Part(first, chunks * sum(works), times=chunks, beside=tuple(others))
    return pitch, *(Part(stage, work) for stage, work in zip(BY_CHUNK, works, strict=True))
