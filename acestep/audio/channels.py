"""Downmix: the gains with which the channels of a recording add up to stereo.

Gains are those of ITU-R BS.775: centre and surround at -3 dB, a single surround at -6 dB to each side, LFE
left out. Which channel is which, a file says by a mask (WAVE), or its format does by their number: WAVE and
FLAC in one order, Vorbis and Opus in another. Where nobody says, both sides are the mean of all.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MINUS_3_DB = 2**-0.5
GAINS = {
    "FL": (1.0, 0.0),
    "FR": (0.0, 1.0),
    "FC": (MINUS_3_DB, MINUS_3_DB),
    "LFE": (0.0, 0.0),
    "BL": (MINUS_3_DB, 0.0),
    "BR": (0.0, MINUS_3_DB),
    "FLC": (1.0, 0.0),
    "FRC": (0.0, 1.0),
    "BC": (0.5, 0.5),
    "SL": (MINUS_3_DB, 0.0),
    "SR": (0.0, MINUS_3_DB),
}  # of left and right, by speaker, in the order of the bits of a WAVE mask
ORDERS = {
    3: "FL FR FC",
    4: "FL FR BL BR",
    5: "FL FR FC BL BR",
    6: "FL FR FC LFE BL BR",
    7: "FL FR FC LFE BC SL SR",
    8: "FL FR FC LFE BL BR SL SR",
}  # of WAVE and FLAC
VORBIS_ORDERS = {
    3: "FL FC FR",
    4: "FL FR BL BR",
    5: "FL FC FR BL BR",
    6: "FL FC FR BL BR LFE",
    7: "FL FC FR SL SR BC LFE",
    8: "FL FC FR SL SR BL BR LFE",
}
ORDERED = {
    "WAV": ORDERS,
    "WAVEX": ORDERS,
    "RF64": ORDERS,
    "W64": ORDERS,
    "FLAC": ORDERS,
    "OGG": VORBIS_ORDERS,
}
MASK = re.compile(r"Channel Mask +: 0x([0-9A-F]+)")  # as libsndfile writes it into its log


@dataclass(frozen=True, slots=True)
class Layout:
    """`speakers` of the channels in their order; None where nobody says."""

    channels: int
    speakers: tuple[str, ...] | None

    @property
    def gains(self) -> list[tuple[float, float]]:
        """Of left and right, one pair per channel."""
        if self.channels == 1:
            return [(1.0, 1.0)]
        if self.speakers is None:
            return [(1 / self.channels, 1 / self.channels)] * self.channels
        return [GAINS[speaker] for speaker in self.speakers]


def layout(channels: int, file_format: str, log: str) -> Layout:
    """The layout of a file, by libsndfile's name of its format and log of its header.

    A mask of 0, which writers leave who know of none, is no mask. One that names other speakers than BS.775
    folds down, or not as many as there are channels, leaves them unknown. Two channels are left and right.
    """
    if channels <= 2:
        return Layout(channels, ("FL", "FR")[:channels])
    mask = int(match[1], 16) if (match := MASK.search(log)) else 0
    if mask:
        named = tuple(speaker for bit, speaker in enumerate(GAINS) if mask >> bit & 1)
        known = len(named) == channels and mask < 1 << len(GAINS)
        return Layout(channels, named if known else None)
    order = ORDERED.get(file_format, {}).get(channels)
    return Layout(channels, tuple(order.split()) if order else None)
