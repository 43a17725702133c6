"""Report of a run on the terminal: one record, as a table or as one JSON line."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

from harness import console
from harness.adjustments import Adjustment
from harness.text import MAX_PAGE_CHARS, columns, harmless, wrapped_below

if TYPE_CHECKING:
    from collections.abc import Mapping

    from acestep.effective_plan import EffectivePlan
    from acestep.result import Counts, DescriptionResult, GenerationResult

LABEL = 19  # columns
LAYOUT = "\n\t"  # of lyrics


def print_plan(plan: EffectivePlan, *, as_json: bool) -> None:
    """The effective plan, and what was changed on the way to it."""
    values = plan.as_dict()
    if as_json:
        print(json.dumps(values))
        return
    for name, value in values.items():
        if value not in (None, [], (), {}):
            print("\n".join(wrapped_below(f"{name:<{LABEL}}{_plain(value)}", columns(), LABEL)))


def _plain(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_plain, value))
    if isinstance(value, dict):
        if "applied" not in value:
            return ", ".join(f"{name}={_plain(each)[:60]}" for name, each in value.items())
        return str(Adjustment(**value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def print_generation(result: GenerationResult, load_s: float, *, as_json: bool) -> None:
    """Where the time went, what ran, what was saved; warnings on standard error."""
    if as_json:
        print(json.dumps(record(result, load_s)))
    else:
        _print_stages(result.stages_s, result.wall_s)
        counts, ran = result.counts, result.environment
        facts = {
            "load": f"{load_s:.2f} s (not in the wall)",
            "audio": f"{len(result.audios)} x {counts.audio_s:g} s, real-time factor {result.rtf:.3f}",
            "memory": _memory(result),
            "preset": result.plan["preset"],
            "ran": _what_ran(ran),
        }
        if result.telemetry and result.telemetry.joules_per_song is not None:
            facts["energy"] = f"{result.telemetry.joules_per_song:.4g} J a song"
        _print_facts(facts | _tokens(counts, result.stages_s, ran))
        for item in result.audios:
            if item.path:
                print(f"{'saved':<8}{harmless(str(item.path))}")
    console.warn("acestep", result.warnings)


def _memory(result: GenerationResult) -> str:
    """The peak of the device, or of each where parts are on several."""
    of, start = result.environment, "peak_bytes_"
    peaks = {name.removeprefix(start): of[name] for name in of if name.startswith(start)}
    each = [f"{peak / 2**30:.2f} GiB on {device}" for device, peak in peaks.items()]
    return f"peak {', '.join(each) or f'{result.peak_memory_bytes / 2**30:.2f} GiB'}"


def record(result: GenerationResult, load_s: float) -> dict[str, Any]:
    """A result as plain JSON values, without the waveforms."""
    left_out = ("tensor", "path", "metadata")
    audios = [
        {f.name: getattr(item, f.name) for f in dataclasses.fields(item) if f.name not in left_out}
        | {"path": str(item.path) if item.path else None, "metadata": dict(item.metadata)}
        for item in result.audios
    ]
    return {
        "wall_s": result.wall_s,
        "rtf": result.rtf,
        "load_s": load_s,
        "stages_s": dict(result.stages_s),
        "details_s": dict(result.details_s),
        "steps_s": list(result.steps_s),
        "counts": dataclasses.asdict(result.counts),
        "plan": dict(result.plan),
        "environment": dict(result.environment),
        "peak_memory_bytes": result.peak_memory_bytes,
        "telemetry": dataclasses.asdict(result.telemetry) if result.telemetry else None,
        "fallbacks": [dataclasses.asdict(fallback) for fallback in result.fallbacks],
        "warnings": list(result.warnings),
        "audios": audios,
    }


def print_description(result: DescriptionResult, load_s: float, *, as_json: bool) -> None:
    """The words, then what they cost."""
    values = dataclasses.asdict(result)
    if as_json:
        print(json.dumps(values | {"load_s": load_s}))
        return
    for name in ("bpm", "keyscale", "timesignature", "duration", "language", "genres", "caption"):
        if values[name] not in (None, ""):
            print(f"{name:<14}{harmless(str(values[name]), LAYOUT, MAX_PAGE_CHARS)}")
    print(f"\n{harmless(result.lyrics, LAYOUT, MAX_PAGE_CHARS)}\n")
    _print_stages(result.stages_s, result.wall_s)
    facts = {"lyrics": "end at the limit of tokens, which --max-tokens raises"} if result.truncated else {}
    facts |= {"load": f"{load_s:.2f} s (not in the wall)", "ran": _what_ran(result.environment)}
    _print_facts(facts | _tokens(result.counts, result.stages_s, result.environment))
    console.warn("acestep", result.warnings)


def _print_stages(stages_s: Mapping[str, float], wall_s: float) -> None:
    print(f"{'stage':<14}{'seconds':>10}{'share':>8}")
    for stage, seconds in (dict(stages_s) | {"wall": wall_s}).items():
        print(f"{stage:<14}{seconds:>10.3f}{seconds / wall_s:>8.1%}")


def _print_facts(facts: Mapping[str, str]) -> None:
    for name, fact in facts.items():
        print(f"{name:<8}{harmless(fact)}")


def _what_ran(ran: Mapping[str, Any]) -> str:
    variant = f", {ran['quantization']}" if ran["quantization"] else ""
    variant += ", compiled" if ran["compile"] else ""
    variant += ", steps as graphs" if ran["graphs"] else ""
    return (
        f"{ran['source']}, {ran['dit']}{variant} on {ran['device_name']} ({ran['device']}, {ran['dtype']}, "
        f"{ran['threads']} threads), torch {ran['torch']}"
    )


def _tokens(counts: Counts, stages_s: Mapping[str, float], ran: Mapping[str, Any]) -> dict[str, str]:
    if not counts.lm_decode_tokens:
        return {}
    prefill = counts.lm_prefill_tokens / stages_s["lm_prefill"]
    decode = counts.lm_decode_tokens / stages_s["lm_decode"]
    basis = f"{counts.lm_prefill_tokens} and {counts.lm_decode_tokens}, {ran['lm']}, {ran['lm_backend']}"
    basis += f", {ran['lm_quantization']}" if ran["lm_quantization"] else ""
    return {"tokens": f"prefill {prefill:.0f}/s, decode {decode:.0f}/s ({basis})"}
