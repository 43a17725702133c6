"""A request: what is converted, to whose voice, and what is done around the networks. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

from harness.checks import path
from harness.declared import check, choice, number, switch, whole
from harness.subject import DEFAULT_DURATION_S, DEFAULT_SEED, MAX_SEED, item_seeds

MAX_BATCH = 64
LEAST_S, MOST_S = 0.1, 3_600.0  # of a recording
REFERENCE, EXACT = LENGTHS = ("reference", "exact")
ZERO, REFLECT = PADDINGS = ("zero", "reflect")


@dataclass(frozen=True, slots=True)
class Request:
    """One recording, converted `batch_size` times with the noise of seeds that follow one another.

    `audio`: a recording; None is a made-up voice. `duration_s`: of it from its start, None is all of it.
    `speaker`: of the voice. `transpose`: semitones. `interpolate_pitch`: over frames without a voice.
    `mel_padding`: of the log-mel's last frames. `length`: of the result; the published pipeline's is up to
    20 ms short. `index`: a file of the speaker's features, as training writes it or numpy, mixed in by
    `index_rate`, less by `protect` where there is no voice. `rms_mix_rate`: 1 leaves the result as loud as it
    comes, 0 makes it as loud as the recording. `resample_hz`: of the result, None is the voice's own rate.
    """

    audio: str | None = None
    duration_s: float | None = number(None, LEAST_S, MOST_S)
    batch_size: int = whole(1, 1, MAX_BATCH)
    seed: int = whole(DEFAULT_SEED, 0, MAX_SEED)
    speaker: int = whole(0, 0, 65_535)
    transpose: float = number(0.0, -48.0, 48.0)
    interpolate_pitch: bool = switch(False)
    mel_padding: str = choice(ZERO, PADDINGS)
    length: str = choice(REFERENCE, LENGTHS)
    index: str | None = None
    index_rate: float | None = number(None, 0.0, 1.0)
    protect: float | None = number(None, 0.0, 0.5)
    rms_mix_rate: float = number(0.25, 0.0, 1.0)
    resample_hz: int | None = whole(None, 8_000, 192_000)

    def __post_init__(self) -> None:
        check(self)
        for name in ("audio", "index"):
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, path(name, value))

    @property
    def seeds(self) -> tuple[int, ...]:
        """One for each item."""
        return item_seeds(self.seed, self.batch_size)


def request(duration_s: float | None = DEFAULT_DURATION_S, **fields: object) -> Request:
    """A request, of so much of a recording or of a made-up voice. Raises UsageError."""
    return Request(duration_s=duration_s, **fields)  # type: ignore[arg-type]
