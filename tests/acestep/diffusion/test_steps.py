"""Every option of a sampler's step, alone and with others, against its formula written out in numpy."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import pywt
import torch
from velocities import CPU, DOUBLE, SEEDS, Field, draw

from acestep.diffusion.dcw import dcw, low_band
from acestep.diffusion.guidance import Guidance
from acestep.diffusion.sampler import FRESH, retake
from acestep.request import DCW_WAVELETS

FRAMES = 9  # odd
SCALE = 4.0
Array = np.ndarray
COND, NULL = (draw(*seeds, frames=FRAMES) for seeds in ((3, 4), (5, 6)))
TIMES = [1.0, 0.8, 0.45, 0.2]


def cond(x: Any, t: float) -> Any:
    """Bent, and not 0 at any time; in numpy as in torch."""
    return math.cos(3 * t) * x + (0.5 + t) * _like(COND, x)


def null(x: Any, t: float) -> Any:
    return math.sin(2 * t) * x + (1.5 - t) * _like(NULL, x)


def _like(values: torch.Tensor, x: Any) -> Any:
    return values.numpy()[: len(x)] if isinstance(x, Array) else values[: len(x)]


@dataclass(frozen=True)
class Reference:
    """A sampler of plain numpy. The names are those of `denoise`; `dcw`: mode, s, h, wavelet."""

    method: str = "ode"
    correct_last: bool = False
    guidance: Guidance | None = None
    norm_threshold: float = 0.0
    ema_factor: float = 0.0
    dcw: tuple[str, float, float, str] | None = None

    def run(self, x: Array) -> Array:
        fresh = [torch.Generator().manual_seed(seed ^ FRESH) for seed in SEEDS]
        before = None
        for t, t_next in pairwise([*TIMES, 0.0]):
            v = self.smooth(self.clamp(self.velocity(x, t, corrector=False), x), before)
            y = x - v * t
            if self.method == "sde":
                e = np.stack([torch.randn(FRAMES, 64, generator=g, dtype=DOUBLE).numpy() for g in fresh])
                x, before = t_next * e + (1 - t_next) * y, v
            elif self.method == "heun" and (t_next > 0 or self.correct_last):
                guess = x - v * (t - t_next)
                ahead = self.smooth(self.clamp(self.velocity(guess, t_next, corrector=True), guess), v)
                before = (v + ahead) / 2
                x = x - before * (t - t_next)
            else:
                x, before = x - v * (t - t_next), v
            x = self.correct(x, y, t)
        return x

    def velocity(self, x: Array, t: float, *, corrector: bool) -> Array:
        c, u, guidance = cond(x, t), null(x, t), self.guidance
        if guidance is None or not guidance.start <= t <= guidance.end:
            return c
        if guidance.mode == "adg" and not (corrector and t == 0):
            return angled(x, c, u, t)
        return u + SCALE * (c - u)

    def clamp(self, v: Array, x: Array) -> Array:
        if not self.norm_threshold:
            return v
        lengths = [np.sqrt((each**2).sum(axis=(1, 2), keepdims=True)) for each in (x, v)]
        return v * np.minimum(1, self.norm_threshold * lengths[0] / lengths[1])

    def smooth(self, v: Array, before: Array | None) -> Array:
        a = self.ema_factor
        return v if before is None else (1 - a) * v + a * before

    def correct(self, x: Array, y: Array, t: float) -> Array:
        if self.dcw is None:
            return x
        mode, s, h, wavelet = self.dcw
        if mode == "pix":
            return x + s * (x - y)
        even = [np.pad(each, ((0, 0), (0, FRAMES % 2), (0, 0))) for each in (x, y)]
        (x_low, x_high), (y_low, y_high) = (pywt.dwt(each, wavelet, mode="zero", axis=1) for each in even)
        if mode != "high":
            x_low = x_low + t * s * (x_low - y_low)
        if mode != "low":
            x_high = x_high + (1 - t) * (h if mode == "double" else s) * (x_high - y_high)
        return pywt.idwt(x_low, x_high, wavelet, mode="zero", axis=1)[:, :FRAMES]


def angled(x: Array, c: Array, u: Array, t: float) -> Array:
    """ADG: the clean latents that c implies, turned away from those of u."""
    c0, u0 = x - t * c, x - t * u
    cosine = (c0 * u0).sum(-1) / np.linalg.norm(c0, axis=-1) / np.linalg.norm(u0, axis=-1)
    angle = np.arccos(cosine)[..., None]
    turn = np.minimum((SCALE - 1 + 1e-3) * angle, 3.14 / 6)
    difference = c0 - u0
    part = (difference * u0).sum(-1, keepdims=True) / ((u0**2).sum(-1, keepdims=True) + 1e-8) * u0
    return (x - np.cos(turn) * c0 - np.sin(turn) / np.sin(angle) * (difference - part)) / t


def ours(reference: Reference, x: torch.Tensor) -> torch.Tensor:
    """What our sampler makes of the same."""
    options = {**vars(reference), "dcw": None}
    if reference.dcw:
        options["dcw"] = dcw(*reference.dcw, x.dtype, CPU)
    return Field(TIMES, cond, null).denoise(x, **options)


DOUBLE_BAND = ("double", 0.3, 0.7, "db4")
ADG, CFG = Guidance(SCALE, "adg"), Guidance(SCALE, "cfg")
CASES = {
    "norm": Reference(norm_threshold=0.7),
    "ema": Reference(ema_factor=0.3),
    "norm, ema": Reference(norm_threshold=0.7, ema_factor=0.3),
    "sde, norm, ema": Reference("sde", norm_threshold=0.7, ema_factor=0.3),
    "heun, norm": Reference("heun", norm_threshold=0.7),
    "heun, ema": Reference("heun", ema_factor=0.3),
    "heun of a base model": Reference("heun", correct_last=True),
    "heun, adg": Reference("heun", True, ADG),
    "heun, cfg": Reference("heun", True, CFG),
    "heun, adg at the end alone": Reference("heun", True, replace(ADG, end=0.1)),
    "heun, adg to a corrector's time": Reference("heun", True, replace(ADG, start=0.45, end=0.9)),
    "adg, norm, ema": Reference("ode", False, ADG, 0.7, 0.3),
    "dcw": Reference(dcw=("double", 0.05, 0.02, "haar")),
    "dcw low": Reference(dcw=("low", 0.3, 0.7, "haar")),
    "dcw high": Reference(dcw=("high", 0.3, 0.7, "haar")),
    "dcw pix": Reference(dcw=("pix", 0.3, 0.7, "haar")),
    "dcw, sde": Reference("sde", dcw=DOUBLE_BAND),
    "dcw, heun": Reference("heun", True, dcw=DOUBLE_BAND),
    "all": Reference("heun", True, ADG, 0.7, 0.3, DOUBLE_BAND),
    **{f"dcw {wavelet}": Reference(dcw=("double", 0.3, 0.7, wavelet)) for wavelet in DCW_WAVELETS},
}
X = draw(*SEEDS, frames=FRAMES)


@pytest.mark.parametrize("case", CASES)
def test_a_step_is_its_formula(case: str):
    reference = CASES[case]
    expected = torch.from_numpy(reference.run(X.numpy()))
    assert torch.allclose(ours(reference, X), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("case", CASES)
def test_each_of_its_options_is_heard(case: str):
    """The controls: without any one of them, and at other values, the result is another."""
    reference, plain = CASES[case], Reference()
    expected = torch.from_numpy(reference.run(X.numpy()))
    changed = [name for name, value in vars(reference).items() if value != getattr(plain, name)]
    for name in changed:
        other = replace(reference, **{name: getattr(plain, name)})
        if other.correct_last and other.method != "heun":
            continue  # which correct_last is about
        assert not torch.allclose(ours(other, X), expected, rtol=0, atol=1e-3), name
    if reference.dcw and reference.dcw[0] == "double":
        mode, s, h, wavelet = reference.dcw
        for other in ((mode, h, s, wavelet), (mode, s, h, "sym4" if wavelet == "haar" else "haar")):
            assert not torch.allclose(ours(replace(reference, dcw=other), X), expected, rtol=0, atol=1e-4)


def test_the_ends_are_zeros_and_no_mirror():
    """The control of the boundary: another mode of PyWavelets is another latent near the ends alone."""
    difference, low = draw(1, frames=40).numpy(), {}
    for mode in ("zero", "symmetric"):
        coefficients = pywt.dwt(difference, "db4", mode=mode, axis=1)[0]
        low[mode] = pywt.idwt(coefficients, None, "db4", mode=mode, axis=1)
    correction = dcw("low", 1.0, 0.0, "db4", DOUBLE, CPU)
    corrected = correction.correct(
        torch.from_numpy(difference), torch.zeros(1, 40, 64, dtype=DOUBLE), 1.0
    ).numpy()
    assert np.allclose(corrected, difference + low["zero"], rtol=0, atol=1e-12)
    off = np.abs(corrected - difference - low["symmetric"]).max(axis=(0, 2))
    assert off[[0, -1]].min() > 0.01 and off[8:-8].max() < 1e-12


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_bands_are_moved_in_single_precision(dtype: torch.dtype):
    x, data = (draw(seed, frames=FRAMES, dtype=dtype) for seed in (1, 2))
    corrected = dcw("double", 0.05, 0.02, "haar", dtype, CPU).correct(x, data, 0.4)
    exact = Reference(dcw=("double", 0.05, 0.02, "haar")).correct(
        x.double().numpy(), data.double().numpy(), 0.4
    )
    assert corrected.dtype == dtype
    assert torch.allclose(corrected.double(), torch.from_numpy(exact), rtol=torch.finfo(dtype).eps, atol=1e-6)


def test_a_velocity_of_nothing_is_not_divided_by():
    for x in (X, 0 * X):
        still = Field(TIMES, lambda x, t: 0 * x)
        assert torch.equal(still.denoise(x, norm_threshold=0.5), x)


def test_the_end_of_a_base_models_heun_is_asked_at_zero():
    field = Field(TIMES, cond)
    field.denoise(X, method="heun", correct_last=True)
    assert field.steps == [0, 1, 1, 2, 2, 3, 3, 4]
    field = Field(TIMES, cond)
    field.denoise(X, method="heun")
    assert field.steps == [0, 1, 1, 2, 2, 3, 3]


def test_a_retake_turns_the_noise_by_its_share_of_a_quarter():
    first, other = draw(7, frames=4000), draw(9, frames=4000)
    for variance, cosine, sine in (
        (1 / 3, math.sqrt(3) / 2, 0.5),
        (0.5, math.sqrt(0.5), math.sqrt(0.5)),
        (1, 0, 1),
    ):
        turned = retake(first, other, variance)
        assert torch.allclose(turned, cosine * first + sine * other, rtol=0, atol=1e-12)
        assert turned.std() == pytest.approx(1, abs=0.01)  # as a straight line between them is not
    assert (first / 2 + other / 2).std() < 0.75


def test_options_do_not_mix_the_items_of_a_batch():
    reference = CASES["all"]
    together = ours(reference, X)
    alone = Field(TIMES, cond, null)
    options = {**vars(reference), "dcw": dcw(*DOUBLE_BAND, DOUBLE, CPU)}
    assert torch.equal(alone.denoise(X[:1], **options), together[:1])


@pytest.mark.parametrize("wavelet", ["haar", "coif2"])
def test_a_band_of_an_item_is_the_same_bits_in_any_batch(wavelet: str):
    """In single precision and as short as this, a CPU convolves a batch by another kernel than one item."""
    lowpass = dcw("low", 0.05, 0.0, wavelet, torch.float32, CPU).lowpass
    items = draw(*range(8), frames=132).float()
    alone = torch.cat([low_band(item, lowpass) for item in items.split(1)])
    assert torch.equal(low_band(items, lowpass), alone)
