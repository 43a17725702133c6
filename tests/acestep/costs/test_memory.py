"""A card that is too small: where the edge is, what names it, and what the engine does about it."""

from __future__ import annotations

import re

import pytest
from allocations import MIB, cost, setup

from acestep.audio.tile_size import VAE_CHUNK
from harness.trace.cost import Cost

STEP = 2 * MIB  # what segments are rounded to


@pytest.fixture(autouse=True)
def one_tile(monkeypatch):
    """The tile does not follow from what is free, so a smaller card starts with the same plan."""
    monkeypatch.setenv(VAE_CHUNK, "512")


def within(cap_bytes: int) -> Cost:
    return cost(cap_bytes=cap_bytes)


@pytest.fixture(scope="module")
def roomy() -> Cost:
    """On a card on which the waveform goes to the host at once, as on any smaller one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VAE_CHUNK, "512")
        return within(cost().peak_reserved_bytes)


def test_what_was_reserved_is_enough(roomy):
    exact = within(roomy.peak_reserved_bytes)
    assert exact.fits
    assert (exact.refusals, exact.retries, exact.fallbacks) == ((), 0, ())
    assert exact.peak_reserved_bytes == roomy.peak_reserved_bytes
    assert exact.work == roomy.work


def test_a_segment_less_is_not(roomy):
    """What was only kept is flushed first; then something is refused, by name, and the engine steps down."""
    tight = within(roomy.peak_reserved_bytes - STEP)
    assert tight.retries > 0
    assert tight.peak_reserved_bytes <= roomy.peak_reserved_bytes - STEP
    assert len(tight.refusals) == len(tight.fallbacks) + (not tight.fits)


def test_there_is_a_smallest_card_that_fits(roomy):
    """Just below it a generation ends, at a stage, an operator and a place; from it on none does."""
    low, high = 0, roomy.peak_reserved_bytes // STEP
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if within(middle * STEP).fits else (middle, high)
    for more in range(2):
        assert within((high + more) * STEP).fits
    for less in range(1, 3):
        refused = within((high - less) * STEP).out_of_memory
        assert refused is not None
        assert refused.operator.startswith("aten::")
        assert re.fullmatch(r"[\w/]+\.py [\w.<>]+", refused.site)
        assert refused.stage in {stage.stage for stage in roomy.stages}
        assert f"{refused.wanted_bytes:,} bytes" in str(refused)
    assert high * STEP < roomy.peak_reserved_bytes


def test_the_operator_is_the_one_that_asked():
    """By hand: 2 MiB beside the workspace are no layer of the DiT."""
    small = within(22 * MIB)
    refused = small.out_of_memory
    assert refused is not None
    assert refused.stage == "load"
    assert (refused.operator, refused.wanted_bytes) == ("aten::_to_copy", 192 * 576 * 2)
    assert refused.site == "harness/checkpoint.py materialise"
    assert small.refusals == (refused,)


def test_a_card_too_small_for_anything_is_a_prediction_too():
    nothing = within(0)
    assert not nothing.fits
    assert nothing.out_of_memory is not None
    assert nothing.out_of_memory.site == "cuBLAS workspace"
    assert cost().fits  # and leaves nothing behind


def test_offloading_needs_less(roomy):
    """The control of all of it: a plan with less on the card fits where the other does not."""
    offloaded = cost(setup(4))
    assert offloaded.peak_reserved_bytes < roomy.peak_reserved_bytes
    cap = offloaded.peak_reserved_bytes
    assert cost(setup(4), cap_bytes=cap).fits
    assert not within(cap - 8 * MIB).fits


def test_sites_add_up_to_the_peak(roomy):
    """They are those of the moment with most allocated, which need not be quite that with most alive."""
    for stage in roomy.stages:
        missing = stage.peak_live_bytes - sum(stage.sites.values())
        assert 0 <= missing < 0.01 * stage.peak_live_bytes, stage.stage
