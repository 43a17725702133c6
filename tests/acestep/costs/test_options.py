"""What the sampler's options cost, to the launch and the byte; a request without them pays nothing."""

from __future__ import annotations

import pytest
from allocations import LAYERS, TURBO, cost, song

from acestep.tracing.closed_form import dit_weights
from acestep.weights.sources import dit_config
from harness.trace.cost import Cost
from harness.trace.stage_costs import Work

SECONDS, STEPS = 30, 4
NUMBERS = 25 * SECONDS * 64  # of a latent
BF16, FP32, TAP = 2, 4, 4

# Launches of a step, and bytes it reads and writes, by hand; the low band has half of the numbers.
BELIEVED = (2, 3 * BF16, 2 * BF16)  # x - v·t
MOVED = (4, 2 * BF16 + 4 * FP32, 3 * FP32 + BF16)  # widened; difference; x + μ·difference; narrowed
BAND = (3, FP32 * 3.5, FP32 * 2.5)  # there and back; added
CASES = {
    "haar": ({}, BELIEVED, MOVED, BAND),
    "pix": ({"dcw_mode": "pix"}, BELIEVED, MOVED),
}


def diffuse(found: Cost) -> Work:
    (work,) = (stage.work for stage in found.stages if stage.stage == "diffuse")
    return work


@pytest.fixture(scope="module")
def plain() -> Work:
    return diffuse(cost(params=song(SECONDS, STEPS)))


@pytest.mark.parametrize("case", CASES)
def test_a_correction_costs_what_it_runs(plain: Work, case: str):
    fields, *parts = CASES[case]
    work = diffuse(cost(params=song(SECONDS, STEPS, dcw_enabled=True, **fields)))
    launches, read, written = (sum(column) for column in zip(*parts, strict=True))
    taps = 2 * 2 * TAP if "haar" in case else 0  # two of haar's, there and back
    assert work.launches - plain.launches == STEPS * launches
    assert work.read_bytes - plain.read_bytes == STEPS * (NUMBERS * read + taps)
    assert work.written_bytes - plain.written_bytes == STEPS * NUMBERS * written
    assert (work.syncs, work.to_card_bytes, work.to_host_bytes) == (
        plain.syncs,
        plain.to_card_bytes,
        plain.to_host_bytes,
    )


def test_a_correction_is_a_fiftieth_of_a_step_at_the_most(plain: Work):
    """Of a step of the published model: its layers are as these, but more and wider."""
    launches, read, written = (sum(column) for column in zip(BELIEVED, MOVED, BAND, strict=True))
    published = dit_config("synthetic-full", TURBO)
    step = plain.launches / STEPS * published.num_hidden_layers / LAYERS
    assert launches < 0.02 * step and launches > 0.002 * step
    assert NUMBERS * (read + written) < 0.02 * BF16 * dit_weights(published)
