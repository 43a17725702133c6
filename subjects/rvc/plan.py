"""A request as it will run on a setup, and what is not done as asked. Needs no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from harness.adjustments import Adjustment, Adjustments, Warned
from harness.checks import within
from harness.subject import DEFAULT_DURATION_S
from subjects.loading import heard_s
from subjects.rvc.config import SAMPLE_RATE
from subjects.rvc.request import LEAST_S, MOST_S, Request
from subjects.rvc.setup import Setup

INDEX_RATE, PROTECT = 0.75, 0.33  # where nobody says any, and there is an index


@dataclass(frozen=True, slots=True)
class Plan(Warned):
    """What will run: effective values in `request`. `samples`: of the input, at 16 kHz."""

    setup: Setup
    request: Request
    samples: int
    adjustments: tuple[Adjustment, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def exact(self) -> bool:
        """Whether the result is as long as the input."""
        return self.request.length == "exact"

    @property
    def sample_rate(self) -> int:
        """Of the result."""
        return self.request.resample_hz or self.setup.configs.synthesizer.sample_rate

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values, for the record of a run."""
        setup = self.setup
        return {
            "source": setup.source,
            "model": setup.model,
            "voice": setup.voice,
            "device": setup.accelerator.device,
            "card": setup.accelerator.name,
            "dtype": setup.dtype,
            "sample_rate": self.sample_rate,
            **asdict(self.request),
            "duration_s": self.samples / SAMPLE_RATE,
            "adjustments": [asdict(adjustment) for adjustment in self.adjustments],
            "notes": list(self.notes),
        }


def resolve(request: Request, setup: Setup) -> Plan:
    """The plan of `request` on `setup`.

    Raises UsageError for a speaker that the voice has not and, when strict, for what is not done as it was
    asked; MissingPrerequisite for a recording or an index that cannot be read.
    """
    changes = Adjustments(setup.strict)
    config = setup.configs.synthesizer
    within("speaker", request.speaker, 0, config.speakers - 1, kind=int)
    request = _indexed(request, config.phone, changes)
    duration_s = request.duration_s
    if request.audio is None:
        duration_s = DEFAULT_DURATION_S if duration_s is None else duration_s
    else:
        duration_s = _heard(request.audio, duration_s, changes)
    request = replace(request, duration_s=duration_s)
    made_up = ("audio: no recording is named; it is a made-up voice",) if request.audio is None else ()
    samples = round(duration_s * SAMPLE_RATE)
    return Plan(setup, request, samples, tuple(changes), (*setup.notes, *made_up))


def _heard(audio: str, wanted_s: float | None, changes: Adjustments) -> float:
    """Seconds of a recording that are converted."""
    there_s = heard_s("audio", audio, LEAST_S, MOST_S if wanted_s is None else wanted_s, changes)
    if wanted_s is None:
        if there_s > MOST_S:
            changes.note("duration_s", there_s, MOST_S, "is more than is converted at once")
        return min(there_s, MOST_S)
    if wanted_s > there_s:
        changes.note("duration_s", wanted_s, there_s, "is more than the recording has")
    return min(wanted_s, there_s)


def _indexed(request: Request, width: int, changes: Adjustments) -> Request:
    """The request with what an index, of features of `width`, needs; or without what has no use when there is
    none."""
    if request.index is not None:
        from subjects.rvc.index import open_index

        open_index(request.index, width)
    for name, default in (("index_rate", INDEX_RATE), ("protect", PROTECT)):
        value = getattr(request, name)
        if request.index is None and value is not None:
            changes.note(name, value, None, "has no use without an index")
        settled = None if request.index is None else default if value is None else value
        request = replace(request, **{name: settled})
    return request
