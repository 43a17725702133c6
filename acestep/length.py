"""How long the result of a request is, and which region of a recording is painted anew. No torch import."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from acestep.defaults import DEFAULT_DURATION_S
from acestep.models.rates import FRAMES_PER_SECOND, MIN_FRAMES, latent_frames
from acestep.presets import PRESETS
from acestep.request import DURATION_RANGE_S, GenerationConfig, GenerationParams
from acestep.setup import Setup
from acestep.tasks import TASKS
from acestep.text import audio_codes
from acestep.text.audio_codes import CODES_PER_SECOND
from harness.adjustments import Adjustments
from harness.errors import UsageError


def unsaid_s(config: GenerationConfig, setup: Setup) -> float:
    """Seconds of a song whose length nobody says: the preset's, within the limit."""
    return min(PRESETS[config.preset].duration_s, setup.max_duration_s)


def resolved(
    params: GenerationParams,
    source_s: float | None,
    setup: Setup,
    changes: Adjustments,
    otherwise_s: float,
) -> GenerationParams:
    """`params` with the length of the result: the recording's, the codes', the request's, or `otherwise_s`.

    Codes over the limit are cut here, a recording when it is read. It stays open where the language model
    decides it. Raises UsageError for a region beyond its recording, and where `changes` are strict.
    """
    limit, region = setup.max_duration_s, (params.repainting_start, params.repainting_end)
    duration_s = params.duration
    if source_s is not None:
        duration_s = source_s
        if TASKS[params.task_type].region:
            duration_s = painted_s(params, source_s)
            params = _region(params, source_s, limit)
    elif codes := audio_codes.parse(params.audio_codes):
        duration_s = len(codes) / CODES_PER_SECOND
        params = replace(params, audio_codes=audio_codes.join(codes[: int(limit * CODES_PER_SECOND)]))
    elif duration_s is None and not (setup.lm and params.plans_metadata):
        duration_s = otherwise_s
    if duration_s is not None and duration_s > limit:
        changes.note("duration", duration_s, limit, f"is over the limit of {setup.whose()}")
        duration_s = limit
        for name, wanted_s in zip(("repainting_start", "repainting_end"), region, strict=True):
            if getattr(params, name) != wanted_s:
                changes.note(
                    name, wanted_s, getattr(params, name), f"does not fit within {limit:g} s of audio"
                )
    if duration_s is not None:
        duration_s = max(duration_s, DURATION_RANGE_S[0])
        if source_s is None and duration_s > (music_s := _music_s(duration_s, params.plans_codes)):
            changes.note("duration", duration_s, music_s, _cut(duration_s, params.plans_codes))
            duration_s = music_s
    return replace(params, duration=duration_s)


def text_s(params: GenerationParams, requested_s: float | None, setup: Setup) -> float | None:
    """Seconds that the text is told the song has; None where the language model decides them.

    `params`: `resolved`; `requested_s`: the duration before. It is the result's, also of a recording that is
    painted on, where upstream tells the recording's own. Beside audio codes it is the request's, as upstream
    has it: their number is their length, whatever the text says. Where the request says none, upstream's text
    says half a minute, and so does ours, with every preset.
    """
    if not params.audio_codes:
        return params.duration
    if requested_s is None and setup.lm and params.plans_metadata:
        return None
    return min(DEFAULT_DURATION_S if requested_s is None else requested_s, setup.max_duration_s)


def faded(params: GenerationParams, changes: Adjustments) -> GenerationParams:
    """`params` with no fade longer than the result, where its length is known."""
    if params.duration is None:
        return params
    for name, seconds in _long_fades(params, params.duration).items():
        changes.note(name, seconds, params.duration, "is longer than the audio")
        params = replace(params, **{name: params.duration})
    return params


def cut_fades(params: GenerationParams, shortest_s: float) -> Iterator[str]:
    """A line for each fade that is longer than an item whose length the language model chose."""
    if params.duration is None:  # else it is known, and told, since the request was resolved
        for name, seconds in _long_fades(params, shortest_s).items():
            yield f"{name}: {seconds:g} is longer than the audio; using {shortest_s:g}"


def _long_fades(params: GenerationParams, duration_s: float) -> dict[str, float]:
    """The fades that are longer than `duration_s`, and their seconds."""
    fades = {name: getattr(params, name) for name in ("fade_in_duration", "fade_out_duration")}
    return {name: seconds for name, seconds in fades.items() if seconds > duration_s}


def _music_s(duration_s: float, planned: bool) -> float:
    """Seconds of music that are made of a request: of planned codes, else of whole frames."""
    if not planned:
        return latent_frames(duration_s) / FRAMES_PER_SECOND
    return max(int(CODES_PER_SECOND * duration_s) / CODES_PER_SECOND, MIN_FRAMES / FRAMES_PER_SECOND)


def _cut(duration_s: float, planned: bool) -> str:
    """Why less music is made than is asked for."""
    if planned:
        return "is no whole number of audio codes"
    whole = (duration_s * FRAMES_PER_SECOND).is_integer()
    return f"is {'read to a tenth of a second, in whole' if whole else 'no whole number of'} latent frames"


def painted_s(params: GenerationParams, source_s: float) -> float:
    """How long the recording is with what is painted before and after it, without a limit."""
    return max(source_s, params.repainting_end) - min(params.repainting_start, 0.0)


def _region(params: GenerationParams, source_s: float, limit: float) -> GenerationParams:
    """The region within `limit` seconds."""
    start, end = params.repainting_start, params.repainting_end
    kept_s = min(source_s, limit)
    if start >= kept_s:
        raise UsageError(f"repainting_start: {start:g} is past the end of the source, {kept_s:g} s")
    start = max(start, kept_s - limit)  # what is painted before the source begins must fit beside it
    end = min(end, limit + min(start, 0.0))
    return replace(params, repainting_start=start, repainting_end=end)
