"""What a conversion does around its networks, on samples and frames of one recording, in numpy.

    samples, 16 kHz ─▶ level, high-pass ─▶ cuts at quiet points ─▶ reflected edges ─▶ chunks ─▶ networks
    chunks of 32 to 48 kHz ─▶ edges cut off, joined ─▶ loudness of the input ─▶ another rate, if any

Lengths are samples at 16 kHz unless they say otherwise; a frame of pitch is 160 of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subjects.rvc.config import FRAME_RATE, HOP, HUBERT_FIELD, HUBERT_HOP, SAMPLE_RATE

Samples = NDArray[np.floating[Any]]

PEAK = 0.95  # beyond which a recording is made less loud
ORDER, CUTOFF_HZ = 5, 48.0  # of the high-pass
RING = 8_192  # samples, after which the high-pass rings below 1e-17
EDGE = 18  # samples reflected at its ends: three times as many as it has coefficients
LEAST_RMS = 1e-6
FULL_SCALE = 0.99  # of 16 bits


@dataclass(frozen=True, slots=True)
class Cutting:
    """How a long recording is cut, in seconds: every `center` at the quietest point within `query`, if it is
    longer than `most`; each piece with `pad` around it. As published for fp32."""

    pad: int = 1
    query: int = 6
    center: int = 38
    most: int = 41


CUTTING = Cutting()


@dataclass(frozen=True, slots=True)
class Chunk:
    """Samples `[start, end)` of the padded recording, and its first frame of pitch; `frames` to convert, None
    for as many as there are features; seconds that are cut off at either end are the cutting's pad."""

    start: int
    end: int
    frame: int
    frames: int | None


@dataclass(frozen=True, slots=True)
class Highpass:
    """A digital filter with all zeros at 1: H(z) = gain·(1 - 1/z)^n / Π(1 - pole/z)."""

    gain: float
    poles: tuple[complex, ...]

    def response(self, size: int) -> NDArray[np.complexfloating[Any, Any]]:
        """H on the unit circle, at the frequencies of a real Fourier transform of `size` samples."""
        delay = np.exp(-2j * np.pi * np.arange(size // 2 + 1) / size)
        zeros = self.gain * (1 - delay) ** len(self.poles)
        return zeros / np.prod([1 - pole * delay for pole in self.poles], axis=0)


@cache
def butterworth(order: int = ORDER, cutoff_hz: float = CUTOFF_HZ, rate: int = SAMPLE_RATE) -> Highpass:
    """The Butterworth high-pass, through the bilinear transform.

    Analog poles of the low-pass lie on the unit circle's left half, evenly; 1/s turns them into the
    high-pass's, and with the cut-off warped, w = tan(π·f/rate), z = (1 + s)/(1 - s).
    """
    angles = [math.pi * (2 * k + order + 1) / (2 * order) for k in range(order)]
    warped = math.tan(math.pi * cutoff_hz / rate)
    analog = [warped / complex(math.cos(angle), math.sin(angle)) for angle in angles]
    poles = tuple((1 + pole) / (1 - pole) for pole in analog)
    gain = math.prod(1 / abs(1 - pole) for pole in analog)
    return Highpass(gain, poles)


def levelled(samples: Samples) -> Samples:
    """Samples whose peak is 0.95 at most."""
    most = float(np.abs(samples).max(initial=0)) / PEAK
    return samples / most if most > 1 else samples


def highpassed(samples: Samples, highpass: Highpass | None = None) -> Samples:
    """Forwards and backwards through the high-pass, so that phases stay, in fp64.

    Either end is continued by its odd reflection, and each pass starts as if its first sample had been there
    for ever. A high-pass makes nothing of a constant, so that is the filter of what differs from it.
    """
    highpass = highpass or butterworth()
    edge = min(EDGE, len(samples) - 1)
    wide = np.pad(samples.astype(np.float64), edge, mode="reflect", reflect_type="odd")
    size = 1 << (len(wide) + RING - 1).bit_length()
    response = highpass.response(size)
    for _ in range(2):
        wide = np.fft.irfft(np.fft.rfft(wide - wide[0], size) * response, size)[: len(wide)][::-1]
    return wide[edge : len(wide) - edge]


def cut_around(length: int, cutting: Cutting = CUTTING) -> range:
    """The middles of where a recording of `length` samples is cut: every `center` seconds, nowhere if it is
    short enough."""
    center = cutting.center * SAMPLE_RATE
    return range(center, length if length + HOP > cutting.most * SAMPLE_RATE else center, center)


def quiet_points(samples: Samples, cutting: Cutting = CUTTING) -> list[int]:
    """Where to cut a recording, in multiples of 160.

    At the least sum of magnitudes of 160 samples within `query` seconds of each of `cut_around`.
    """
    middles = cut_around(len(samples), cutting)
    if not middles:
        return []
    padded = np.pad(np.abs(samples), HOP // 2, mode="reflect")
    query = cutting.query * SAMPLE_RATE
    points = []
    for middle in middles:
        first, last = middle - query, min(middle + query, len(samples))
        loudness = np.zeros(last - first)
        for offset in range(HOP):
            loudness += padded[first + offset : last + offset]
        points.append((first + int(loudness.argmin())) // HOP * HOP)
    return points


def padded(samples: Samples, exact: bool, cutting: Cutting = CUTTING) -> Samples:
    """The recording with its reflection at either end; `exact`: with as much more as HuBERT needs to make
    features of its last frame."""
    more = -len(samples) % HOP + 3 * HOP if exact else 0
    pad = cutting.pad * SAMPLE_RATE
    return np.pad(samples, (pad, pad + more), mode="reflect")


def chunks(length: int, points: list[int], exact: bool, cutting: Cutting = CUTTING) -> Iterator[Chunk]:
    """The pieces of a padded recording of `length` samples before that, cut at `points`.

    As published, features end before samples do: the last chunk is 10 to 20 ms short, others are where their
    frames are odd in number. `exact` chunks have features of all frames, and a little more.
    """
    both = 2 * cutting.pad * SAMPLE_RATE
    ends = [*points, length]
    for start, end in zip([0, *points], ends, strict=True):
        frames = -(-(end - start + both) // HOP)
        if exact:
            yield Chunk(start, start + frames * HOP + 3 * HOP, start // HOP, frames)
        else:
            behind = HOP if end < length else 0
            yield Chunk(start, end + both + behind, start // HOP, None)


def hubert_frames(samples: int) -> int:
    """Frames of features, of 20 ms: those whose 400 samples are whole."""
    return (samples - HUBERT_FIELD) // HUBERT_HOP + 1


def frames_of(chunk: Chunk) -> int:
    """Frames of 10 ms that a chunk is converted as: features are repeated, and pitch is cut to them."""
    samples = chunk.end - chunk.start
    there = min(samples // HOP, 2 * hubert_frames(samples))
    return there if chunk.frames is None else chunk.frames


def output_samples(length: int, points: list[int], rate: int, exact: bool, cutting: Cutting = CUTTING) -> int:
    """How many samples at `rate` come of a recording of `length`."""
    if exact:
        return round(length * rate / SAMPLE_RATE)
    hop = rate // FRAME_RATE
    cut = 2 * cutting.pad * rate
    return sum(frames_of(chunk) * hop - cut for chunk in chunks(length, points, exact, cutting))


def interpolated(f0: Samples) -> Samples:
    """Pitch with a line over each run of frames without a voice, and its ends held; all unvoiced stays."""
    voiced = np.flatnonzero(f0 > 0)
    if not len(voiced):
        return f0
    return np.interp(np.arange(len(f0)), voiced, f0[voiced]).astype(f0.dtype)


def protected(mixed: Samples, raw: Samples, f0: Samples, protect: float) -> Samples:
    """Features `[T, D]` as `raw` by 1 - `protect` where there is no voice, so that breath stays breath."""
    if protect >= 0.5:
        return mixed
    share = np.where(f0 < 1, protect, 1.0)[:, None]
    return mixed * share + raw * (1 - share)


def loudness(samples: Samples, rate: int) -> Samples:
    """RMS of windows of a second, two a second, the samples continued by zeros."""
    hop = rate // 2
    squares = np.pad(np.square(samples, dtype=np.float64), hop)
    sums = np.concatenate(([0.0], squares.cumsum()))
    starts = np.arange(0, len(samples) + 1, hop)
    return np.sqrt(np.maximum(sums[starts + 2 * hop] - sums[starts], 0) / (2 * hop))


def stretched(values: Samples, length: int) -> Samples:
    """`values` at `length` places, linearly between the middles of theirs (half-pixel centres)."""
    places = (np.arange(length) + 0.5) * (len(values) / length) - 0.5
    return np.interp(places, np.arange(len(values)), values)


def mixed_loudness(source: Samples, output: Samples, rate: int, share: float) -> Samples:
    """`output` at `rate`, as loud as itself by `share` and as `source` at 16 kHz by the rest."""
    if share == 1:
        return output
    wanted = stretched(loudness(source, SAMPLE_RATE), len(output))
    present = np.maximum(stretched(loudness(output, rate), len(output)), LEAST_RMS)
    return (output * wanted ** (1 - share) * present ** (share - 1)).astype(output.dtype)


def resampled(samples: Samples, rate: int, wanted: int | None) -> Samples:
    """At another rate, by soxr's high quality."""
    if wanted is None or wanted == rate:
        return samples
    import soxr

    return soxr.resample(samples, rate, wanted, "HQ")


def sixteen_bits(samples: Samples) -> NDArray[np.int16]:
    """Samples as 16-bit numbers, towards zero; less loud where their peak is beyond 0.99."""
    most = max(float(np.abs(samples).max(initial=0)) / FULL_SCALE, 1.0)
    with np.errstate(invalid="ignore"):  # what is not a number is told of once, by the check of the result
        return (samples * (32_768 / most)).astype(np.int16)
