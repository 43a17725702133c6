"""Records in the profiler's format, so that one reader serves both: `harness.records.schema`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import UNSET

from harness.records import making
from harness.records.card import TierResult, Used
from harness.records.schema import Header, Item, Sample
from tiersim.case import Case, Plan, subject_of
from tiersim.notes import departures, notes, throttled
from tiersim.record import Record

TIER_TEST = "tier-test"  # the mode of these records


def header(plans: Sequence[Plan], argv: Sequence[str]) -> Header:
    """What a run is. Its cases differ in the language model, so none is named here; every DiT is."""
    plan, dits = plans[0], dict.fromkeys(plan.settings.dit for plan in plans)
    subject = subject_of(plan.requested)
    return making.header(
        subject, plan.engine_plan.setup, TIER_TEST, argv=argv, dit=", ".join(dits), device=plan.device
    )


def item(record: Record) -> Item:
    """One case. Its key names what ran, and not the code it ran: two commits' items have the same."""
    samples = () if record.wall_s is None else (_sample(record, record.wall_s),)
    audio_s = record.counts.get("audio_s")
    return Item(
        key=record.key,
        mode=TIER_TEST,
        requested=_requested(record.requested),
        effective=_effective(record),
        adjustments=record.adjustments,
        status=record.status,
        error=record.reason,
        samples=samples,
        counts=record.counts,
        memory_bytes=_memory(record),
        card=_card(record),
        rtf=record.wall_s / audio_s if record.wall_s is not None and audio_s else None,
        fallbacks=record.fallbacks,
        warnings=(*departures(record), *throttled(record)),
        exception=record.exception or UNSET,
    )


def _sample(record: Record, wall_s: float) -> Sample:
    return Sample(wall_s=wall_s, stages_s=record.stages_s, telemetry=record.telemetry or UNSET)


def _requested(case: Case) -> dict[str, Any]:
    return {
        "duration": case.duration_s,
        "batch_size": case.batch_size,
        "thinking": case.lm,
        "inference_steps": case.steps,
        "seed": case.seed,
        "device": case.device,
        "no_limits": case.no_limits,
        "repeat": case.repeat,
        "preset": case.preset,
        **({"choices": dict(case.choices)} if case.choices else {}),
    }


def _effective(record: Record) -> dict[str, Any]:
    return {
        "duration_s": record.effective.duration_s,
        "batch_size": record.effective.batch_size,
        "device": record.device,
        "lm": record.lm,
        "lm_backend": record.environment.get("lm_backend") or record.lm_backend or None,
        "offload_to_cpu": record.offload_to_cpu,
        "offload_dit_to_cpu": record.offload_dit_to_cpu,
        "quantization": record.quantization,
        "lm_quantization": record.lm_quantization,
        "compile": record.compile,
        "graphs": record.graphs,
        "environment": dict(record.environment),
    }


def _memory(record: Record) -> dict[str, int]:
    readings = {"load_peak": record.load_peak_bytes, "generation_peak": record.generation_peak_bytes}
    return {name: value for name, value in readings.items() if value is not None}


def _card(record: Record) -> TierResult:
    cap = record.cap
    return TierResult(
        tier_gb=record.requested.tier_gb,
        tier=record.tier,
        class_gb=record.class_gb,
        variant=record.requested.variant,
        cap=cap.kind if cap else None,
        cap_bytes=cap.bytes if cap else None,
        cap_verified=cap is not None and cap.verified,
        peak_bytes=record.peak_bytes,
        peak_source=record.peak_source,
        stage_peaks_bytes=record.stage_peaks_bytes,
        process=record.process or UNSET,
        stage_processes=record.stage_processes or UNSET,
        timeline=tuple(Used(t_s=s.t_s, phase=s.phase, used_bytes=s.used_bytes) for s in record.timeline),
        phase_reached=record.phase_reached,
        exit_code=record.exit_code,
        signal=record.signal,
        process_s=record.process_s,
        notes=notes(record),
        log=record.log,
    )
