"""Pieces cover the whole in order, on the grid, with their context; and a local function is exact by them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UsageError
from subjects.rvc.chunks import chunks

GRID, SIZE, RADIUS, CONTEXT = 32, 32_000, 48, (64, 64)
LENGTHS = [1, 31, 47, 1_000, 16_000, 31_999, 32_000, 32_001, 50_000, 64_000, 64_001, 100_000]


@given(length=st.integers(0, 300), size=st.integers(1, 40), left=st.integers(0, 60), right=st.integers(0, 60))
def test_pieces_cover_the_whole_in_order(length: int, size: int, left: int, right: int) -> None:
    grid = 4
    pieces = list(chunks(grid * length, grid * size, (grid * left, grid * right), grid))
    assert [piece.start for piece in pieces] == [0, *(piece.end for piece in pieces)][:-1]
    assert (pieces[-1].end if pieces else 0) == grid * length
    for piece in pieces:
        assert piece.first == max(piece.start - grid * left, 0)
        assert piece.last == min(piece.end + grid * right, grid * length)
        assert not any(place % grid for place in (piece.first, piece.start, piece.end, piece.last))
        kept = range(piece.first, piece.last)[piece.kept]
        assert (kept.start, kept.stop) == (piece.start, piece.end)


def moving_average(values: np.ndarray) -> np.ndarray:
    """Sums over `RADIUS` places to either side, of integers: exact in any order. The ends see zeros."""
    sums = np.concatenate(([0], np.pad(values, RADIUS).cumsum()))
    return sums[2 * RADIUS + 1 :] - sums[: -2 * RADIUS - 1]


def by_pieces(values: np.ndarray, context: tuple[int, int], size: int = SIZE) -> np.ndarray:
    pieces = chunks(len(values), size, context, GRID)
    return np.concatenate([moving_average(values[p.first : p.last])[p.kept] for p in pieces])


@pytest.mark.parametrize("frames", LENGTHS)
@pytest.mark.parametrize("size", [SIZE, 1_024])
def test_a_local_function_is_exact_by_pieces(frames: int, size: int) -> None:
    length = frames + -frames % GRID
    values = np.random.default_rng(frames).integers(-100, 100, length)
    whole = moving_average(values)
    assert np.array_equal(by_pieces(values, CONTEXT, size), whole)
    if length > size:  # the controls
        short_right = [(64, 32)] if length - size > 32 else []  # of a last piece of 32 frames that is enough
        for context in [(0, 0), (32, 64), *short_right]:
            assert not np.array_equal(by_pieces(values, context, size), whole)


@pytest.mark.parametrize("size", [0, -32, 33])
def test_a_size_off_the_grid_is_refused(size: int) -> None:
    with pytest.raises(UsageError, match=f"chunk: {size} frames; use a positive multiple of 32"):
        list(chunks(64, size, (0, 0), GRID))


@pytest.mark.parametrize(("length", "context"), [(63, (0, 0)), (64, (1, 0)), (64, (0, 31))])
def test_a_length_and_a_context_are_on_the_grid(length: int, context: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="multiples of 32"):
        list(chunks(length, 32, context, GRID))
