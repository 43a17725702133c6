"""Mel filters and magnitudes against their formulas in fp64."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from harness.mel import HTK, SLANEY, Scale, filters, magnitudes

RATE, SIZE, BANDS = 24_000, 256, 12


def slaney(hz: float) -> float:
    return 3 * hz / 200 if hz < 1000 else 15 + 27 * math.log(hz / 1000) / math.log(6.4)


def htk(hz: float) -> float:
    return 2595 * math.log10(1 + hz / 700)


def hertz(mel: Callable[[float], float], value: float) -> float:
    """The inverse of `mel`, by halving."""
    low, high = 0.0, 1e5
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if mel(middle) < value else (low, middle)
    return low


def expected(mel: Callable[[float], float], low_hz: float, high_hz: float) -> np.ndarray:
    """Triangles of area 1 over frequencies that are evenly spaced in mel."""
    first, last = mel(low_hz), mel(high_hz)
    corners = [hertz(mel, first + (last - first) * i / (BANDS + 1)) for i in range(BANDS + 2)]
    rows = np.zeros((BANDS, SIZE // 2 + 1))
    for band in range(BANDS):
        low, peak, high = corners[band : band + 3]
        for place in range(SIZE // 2 + 1):
            hz = place * RATE / SIZE
            share = (hz - low) / (peak - low) if hz < peak else (high - hz) / (high - peak)
            rows[band, place] = max(0.0, share) * 2 / (high - low)
    return rows


@pytest.mark.parametrize(("low_hz", "high_hz"), [(0.0, 12_000.0), (300.0, 4_000.0)])
@pytest.mark.parametrize(("scale", "mel", "other"), [(SLANEY, slaney, htk), (HTK, htk, slaney)])
def test_filters_are_those_of_the_scale(
    scale: Scale,
    mel: Callable[[float], float],
    other: Callable[[float], float],
    low_hz: float,
    high_hz: float,
) -> None:
    rows = filters(scale, BANDS, SIZE, RATE, low_hz, high_hz).numpy()
    assert np.abs(rows - expected(mel, low_hz, high_hz)).max() < 1e-12
    assert np.abs(rows - expected(mel, low_hz, high_hz + 100)).max() > 1e-6  # the controls
    assert np.abs(rows - expected(other, low_hz, high_hz)).max() > 1e-6


def test_magnitudes_are_those_of_each_window() -> None:
    size, hop, floor = 16, 5, 1e-3
    samples = torch.randn(2, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    window = torch.linspace(0.1, 1, size, dtype=torch.float64)  # no side like the other
    spectra = magnitudes(samples, window, hop, floor)
    assert spectra.shape == (2, 5, 9)
    for frame in range(5):
        part = samples[:, frame * hop : frame * hop + size] * window
        for place in range(9):
            turn = 2 * math.pi * place * torch.arange(size, dtype=torch.float64) / size
            power = (part * turn.cos()).sum(-1) ** 2 + (part * turn.sin()).sum(-1) ** 2
            assert (spectra[:, frame, place] - (power + floor).sqrt()).abs().max() < 1e-12
