"""Records of a subject's runs: the header of a file, and an item for what came of a plan."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from statistics import median_high
from typing import Any
from uuid import uuid4

import msgspec
from msgspec.structs import replace

from harness import registry
from harness.oom import Failure
from harness.records import machine, telemetry
from harness.records.schema import Header, Item, Sample, Status, Streamed, key_of
from harness.streaming import Arrivals
from harness.subject import Engine, Plan, Result, Setup, Subject

STATUS: Mapping[str, Status] = {"device": "oom", "host": "host-oom", "other": "error"}


def header(
    subject: Subject,
    setup: Setup,
    mode: str,
    *,
    argv: Sequence[str] = (),
    origins: Mapping[str, str] = {},
    dit: str = "",
    lm: str | None = None,
    lm_backend: str | None = None,
    device: str | None = None,
) -> Header:
    """What a run of `mode` on `setup` is: this code, on this machine, from now on.

    `device`: what it runs on, where that is not the setup's accelerator.
    """
    commit, dirty = machine.revision()
    return Header(
        id=uuid4().hex,
        started_utc=datetime.now(UTC),
        argv=tuple(argv),
        mode=mode,
        commit=commit,
        dirty=dirty,
        package_version=machine.package_version(),
        machine=machine.read(),
        source=setup.source,
        source_origin=setup.source_origin,
        dit=dit,
        lm=lm,
        lm_backend=lm_backend,
        device=device or setup.accelerator.device,
        origins=dict(origins),
        versions=machine.versions(),
        subject=msgspec.UNSET if subject.name == registry.DEFAULT else subject.name,
        changes=msgspec.UNSET if dirty is False else machine.code(),
    )


def item(
    mode: str,
    requested: Mapping[str, Any],
    engine: Engine,
    plan: Plan,
    outcome: Sequence[Result] | Failure,
    **measured: Any,
) -> Item:
    """One configuration: `outcome` is what each timed run of `plan` gave, or what kept them from it.

    `requested`: plain values, which the item's key follows from. `measured`: more fields of an item that ran.
    """
    configuration: dict[str, Any] = {
        "key": key_of(mode, requested),
        "mode": mode,
        "requested": requested,
        "effective": plan.as_dict() | dict(engine.environment),
        "adjustments": plan.adjustments,
        "warnings": plan.warnings,
    }
    if isinstance(outcome, Failure):
        return Item(**configuration, **failed(outcome))
    last = outcome[-1]
    measured = {"status": "ok"} | measured
    samples = tuple(map(sample, outcome))
    configuration["warnings"] = (*plan.warnings, *throttled(samples))
    return Item(
        **configuration,
        samples=samples,
        counts=asdict(last.counts),
        rtf=median_high(result.wall_s / result.counts.audio_s for result in outcome),
        fallbacks=last.fallbacks,
        **measured,
    )


def failed(failure: Failure) -> dict[str, Any]:
    """The fields of an item that failed. Memory that ran out is told in words; what was raised is kept."""
    raised = {} if failure.kind == "other" else {"exception": failure.exception}
    return {"status": STATUS[failure.kind], "error": failure.words, **raised}


def sample(result: Result) -> Sample:
    """One timed run that is not streamed: the first audio is heard with the last."""
    return Sample(
        wall_s=result.wall_s,
        stages_s=result.stages_s,
        details_s=result.details_s,
        steps_s=getattr(result, "steps_s", ()),
        first_audio_s=result.wall_s,
        telemetry=getattr(result, "telemetry", None) or msgspec.UNSET,
    )


def throttled(samples: Sequence[Sample]) -> tuple[str, ...]:
    """A warning where a card was held back in one of the runs."""
    return telemetry.warnings(one.telemetry for one in samples if one.telemetry)


def streamed(
    sample: Sample,
    arrivals: Arrivals,
    offline_error: float,
    *,
    first_code_s: float | None = None,
    latents_s: float | None = None,
    first_chunk_stages_s: Mapping[str, float] | None = None,
) -> Sample:
    """`sample` of a run that was streamed, and came as `arrivals` say; of a stream with a chunk at least."""
    first_s, silences_s = arrivals.times_s[0], arrivals.silences_s
    stream = Streamed(
        time_to_first_code_ms=None if first_code_s is None else 1e3 * first_code_s,
        time_to_latents_ms=None if latents_s is None else 1e3 * latents_s,
        time_to_first_chunk_ms=1e3 * first_s,
        chunk_latencies_ms=tuple(1e3 * gap_s for gap_s in arrivals.gaps_s),
        underruns=len(silences_s),
        silence_ms=1e3 * sum(silences_s),
        offline_error=offline_error if math.isfinite(offline_error) else None,
        first_chunk_stages_ms=msgspec.UNSET
        if first_chunk_stages_s is None
        else {stage: 1e3 * seconds for stage, seconds in first_chunk_stages_s.items()},
    )
    return replace(sample, first_audio_s=first_s, stream=stream)
