"""Differential correction in the wavelet domain (DCW, arXiv 2604.16044), of the result of a sampler's step.

A step from time t believes the data to be y = x - t·v. Its result x is moved away from y, by one amount in
its low frequencies and by another in its high ones:

    x <- x + λ·P(x - y) + μ·(1 - P)(x - y)

    double   λ = t·s     μ = (1 - t)·h      what is coarse takes shape first, what is fine last
    low      λ = t·s     μ = 0
    high     λ = 0       μ = (1 - t)·s
    pix      λ = s       μ = s              at any time, and without a transform

P keeps the low band of a one-level wavelet transform along time. Of an orthogonal wavelet, as all here are,
it is the lowpass filter at every second frame, and then its adjoint: two strided convolutions. Transforming x
and y, moving the bands and transforming back is the same, for the transform is linear and its inverse exact.

At the ends a latent goes on in zeros, an odd one with one of them counted as its own: mode `zero` of
PyWavelets, and of upstream's transform. Haar's pairs of frames reach over no end.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class DCW:
    """Mode, scalers s and h, and `lowpass [1, 1, taps, 1]`, the scaling filter; None without a transform."""

    mode: str
    scaler: float
    high_scaler: float
    lowpass: Tensor | None

    def correct(self, x: Tensor, data: Tensor, t: float) -> Tensor:
        """The result `x [B, T, C]` of a step from time `t` that believed in `data`, corrected; in its dtype.

        Computed in fp32, or in fp64 where `x` is.
        """
        low, high = self._strengths(t)
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        difference = wide - data
        corrected = torch.add(wide, difference, alpha=high)
        if self.lowpass is not None:
            corrected = torch.add(corrected, low_band(difference, self.lowpass), alpha=low - high)
        return corrected.to(x.dtype)

    def _strengths(self, t: float) -> tuple[float, float]:
        """λ and μ."""
        scaler = self.scaler
        return {
            "double": (t * scaler, (1 - t) * self.high_scaler),
            "low": (t * scaler, 0.0),
            "high": (0.0, (1 - t) * scaler),
            "pix": (scaler, scaler),
        }[self.mode]


def dcw(
    mode: str, scaler: float, high_scaler: float, wavelet: str, dtype: torch.dtype, device: torch.device
) -> DCW:
    """The correction of a request, its filter on the device. `wavelet`: the name of an orthogonal one.

    `dtype`: of the latents; the filter is at least in single precision.
    """
    if mode == "pix":
        return DCW(mode, scaler, high_scaler, None)
    import pywt  # for the filters alone, which are all that is used of it

    taps = pywt.Wavelet(wavelet).rec_lo  # pyright: ignore[reportAttributeAccessIssue]  # of its C extension
    wide = torch.promote_types(dtype, torch.float32)
    return DCW(mode, scaler, high_scaler, torch.tensor(taps, dtype=wide, device=device)[None, None, :, None])


def low_band(x: Tensor, lowpass: Tensor) -> Tensor:
    """P of `x [B, T, C]`: its coefficients in the low band, and the inverse transform of these alone.

    Item by item: which kernel convolves is chosen by the size of all it is given, and another one rounds
    otherwise, so that a short item would depend on its batch.
    """
    frames, reach = x.shape[1], lowpass.shape[2] - 2
    whole = F.pad(x, (0, 0, 0, frames % 2)) if frames % 2 else x
    filtered = []
    for item in whole.split(1):
        band = F.conv2d(item[:, None], lowpass, stride=(2, 1), padding=(reach, 0))
        filtered.append(F.conv_transpose2d(band, lowpass, stride=(2, 1), padding=(reach, 0))[:, 0, :frames])
    return torch.cat(filtered) if len(x) > 1 else filtered[0]
