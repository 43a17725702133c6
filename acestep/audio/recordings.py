"""What the recordings of a request hold, measured as far as they will be read and before anything is loaded.

Whatever is not heard as it stands in a file is an `Adjustment`: a length that is not the header's, samples
beyond full scale, silence, channels that nobody names. No torch import here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from acestep.audio import files
from acestep.audio.channels import Layout
from harness.adjustments import Adjustments

if TYPE_CHECKING:
    from acestep.request import GenerationParams

REFERENCE_S = 600.0  # of a longer reference only the beginning is read
INAUDIBLE = 1e-6
MP3_SLACK_S = 0.1  # encoders put a little before and behind the music, and not all count it


@dataclass(frozen=True, slots=True)
class Recording:
    """A file in figures.

    `length_s`: seconds that can be read, or the header's claim where enough was read before the end.
    `claimed_s`: the header's claim where it is another. `cut`: its last sample cannot be read.
    `peak`: of any channel, 1 at full scale. `over`: share of the samples beyond it. `swing`: from the
    lowest to the highest sample of the stereo mix. `muted_s`: seconds that are damaged, and silent instead.
    """

    path: str
    field: str
    layout: Layout
    length_s: float
    claimed_s: float | None
    cut: bool
    peak: float
    over: float
    swing: float
    muted_s: float

    @property
    def silent(self) -> bool:
        """Whether nothing is heard of it, be it zeros or another constant."""
        return self.swing < 2 * INAUDIBLE

    @property
    def downmix(self) -> str | None:
        """How more than two channels become two, where that is known."""
        speakers = self.layout.speakers
        if speakers is None or len(speakers) <= 2:
            return None
        named = f"{self.field}: {Path(self.path).name} has {len(speakers)} channels ({' '.join(speakers)})"
        return f"{named}, mixed down to stereo by ITU-R BS.775{', without LFE' if 'LFE' in speakers else ''}"

    def note(self, changes: Adjustments, when_silent: str | None) -> None:
        """Note what is not heard as it stands in the file.

        `when_silent`: what is used of one that is silent. Raises UsageError where `changes` are strict.
        """
        readable = f"the {self.length_s:.2f} s that can be read"
        if self.claimed_s is not None:
            self._change(changes, f"says that it lasts {self.claimed_s:.2f} s", readable, "give a whole file")
        elif self.cut:
            self._change(changes, "is cut off, or damaged", readable, "give a whole file")
        if self.muted_s:
            reason = f"is damaged in {self.muted_s:.2f} s of it, which would be noise far over full scale"
            self._change(changes, reason, "silence there", "give a whole file")
        if self.layout.speakers is None:
            reason = f"has {self.layout.channels} channels and does not say which is which"
            self._change(changes, reason, "their mean", "give it in stereo")
        if self.peak > 1:
            level = f"peaks {20 * math.log10(self.peak):.1f} dB over full scale"
            share = f"{100 * self.over:.3g}% of its samples are beyond it"
            self._change(changes, f"{level} ({share})", "it turned down to full scale", "turn it down")
        if self.silent:
            reason = "is silent" if self.peak < INAUDIBLE else "has nothing to hear"
            self._change(changes, reason, when_silent, "give another")

    def _change(self, changes: Adjustments, reason: str, applied: str | None, remedy: str) -> None:
        changes.note(self.field, self.path, applied, reason, remedy=remedy)


def measure(path: str, field: str, most_s: float) -> Recording:
    """The first `most_s` seconds of a file in figures. Raises as `files.read` does."""
    import numpy as np

    with files.opened(path, field) as sound:
        gains = np.array(sound.layout.gains, np.float32)
        frames, over, peak = 0, 0, 0.0
        low, high = np.full(gains.shape[1], np.inf), np.full(gains.shape[1], -np.inf)
        for block in sound.blocks(most_s):
            frames += len(block)
            level = np.abs(block)
            peak = max(peak, float(level.max()))
            over += np.count_nonzero(level > 1)
            mix = np.ascontiguousarray((block @ gains).T)  # numpy is slow across rows of two
            low, high = np.minimum(low, mix.min(axis=1)), np.maximum(high, mix.max(axis=1))
        cut = sound.cut
    length_s, claimed_s = frames / sound.rate, sound.claimed_s
    ended = length_s < most_s
    if not ended:
        length_s = max(length_s, claimed_s or 0.0)
    slack_s = MP3_SLACK_S if sound.format == "MP3" else 0.5 / sound.rate
    if claimed_s is not None and abs(claimed_s - length_s) <= slack_s:
        claimed_s = None
    return Recording(
        path=path,
        field=field,
        layout=sound.layout,
        length_s=length_s,
        claimed_s=claimed_s,
        cut=cut and ended,
        peak=peak,
        over=over / (frames * sound.layout.channels),
        swing=float((high - low).max()),
        muted_s=sound.muted / sound.rate,
    )


@dataclass(frozen=True, slots=True)
class Recordings:
    """The recordings of a request: seconds of the source, paths of the references that are heard, notes."""

    source_s: float | None
    references: tuple[str, ...]
    notes: tuple[str, ...]


def survey(params: GenerationParams, most_s: float, changes: Adjustments) -> Recordings:
    """Measure what `params` names, a source as far as `most_s` seconds.

    Raises MissingPrerequisite or UsageError for a recording that cannot be used.
    """
    source_s, references, notes = None, [], []
    if params.src_audio:
        source = measure(params.src_audio, "src_audio", most_s)
        source.note(changes, "it all the same")
        source_s, notes = source.length_s, [source.downmix]
    for path in params.reference_audio:
        clip = measure(path, "reference_audio", REFERENCE_S)
        clip.note(changes, None)
        notes.append(clip.downmix)
        if not clip.silent:
            references.append(path)
    return Recordings(source_s, tuple(references), tuple(filter(None, notes)))
