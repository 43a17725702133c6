"""Forms of a record: JSON to be read back, upstream's bare list, a row per item, and a table to paste."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from harness import cards, registry
from harness.errors import UsageError
from harness.records import schema as record
from harness.records.card import TierResult
from harness.records.schema import Header, Item, Profile, Sample
from harness.records.telemetry import Telemetry, shares
from harness.text import harmless

FORMULA = ("=", "+", "-", "@")  # what a spreadsheet would compute
BEFORE_LOADED = ("", "start", "import", "cap", "load")  # phases of a tier test until its models are there
LENGTH = ("component", "length", "unit")  # of what was measured at several
MARKUP = re.compile(r"([\\`*\[\]<>|&~])")


def form_of(path: Path, json_compat: bool) -> Callable[[Profile], bytes]:
    """What writes a record as the suffix of `path` says. Raises UsageError for one of no form."""
    forms = {".json": _upstream if json_compat else _json, ".csv": _csv, ".md": markdown}
    suffix = path.suffix.lower()
    if suffix not in forms:
        raise UsageError(f"benchmark_output: {str(path)!r} must end in one of {', '.join(forms)}")
    if json_compat and suffix != ".json":
        raise UsageError(f"json_compat: {str(path)!r} must end in .json")
    return forms[suffix]


def only_shown(path: Path, data: bytes) -> bool:
    """Whether `data` in `path` is a form that is not read back: a table of ours, or a bare list."""
    suffix = path.suffix.lower()
    if suffix != ".json":
        return data.startswith(b"key,mode," if suffix == ".csv" else registry.FORMAT.encode())
    try:
        entries = msgspec.json.decode(data, type=list[dict[str, Any]])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return all("wall_time" in entry for entry in entries)


def _json(profile: Profile) -> bytes:
    return msgspec.json.format(record.encode(profile)) + b"\n"


def _columns(run: Header) -> Mapping[str, Sequence[str]]:
    """The subject's columns of seconds, and the stages that each sums up."""
    return registry.subject(run.subject or registry.DEFAULT).columns


def _upstream(profile: Profile) -> bytes:
    """The bare list under upstream's names; seconds are 0 where nothing was timed, as there."""
    columns = _columns(profile.run)
    entries = [
        _upstream_case(item, item.card, columns) if item.card else _upstream_run(item, columns)
        for item in profile.items
    ]
    return msgspec.json.format(record.encode(entries)) + b"\n"


def _upstream_run(item: Item, columns: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    names = ("duration", "batch_size", "thinking", "inference_steps")
    return {
        "config": {name: item.requested.get(name) for name in names},
        **_upstream_times(item, columns),
        "success": item.status == "ok",
        "n_audios": item.audio.items if item.audio else 0,
    }


def _upstream_case(item: Item, card: TierResult, columns: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    ran = item.effective
    return {
        "tier_gb": card.tier_gb,
        "tier": card.tier,
        "test_variant": card.variant,
        "use_lm": ran.get("lm") is not None,
        "lm_model": ran.get("lm"),
        "lm_backend": ran.get("lm_backend"),
        "offload": ran.get("offload_to_cpu"),
        "offload_dit": ran.get("offload_dit_to_cpu"),
        "quantization": ran.get("quantization"),
        "duration": ran.get("duration_s"),
        "batch_size": ran.get("batch_size"),
        "init_success": (card.phase_reached or "").partition("/")[0] not in BEFORE_LOADED,
        "gen_success": item.status == "ok",
        **_upstream_times(item, columns),
        "peak_vram_gb": None if card.peak_bytes is None else card.peak_bytes / 2**30,
        **({"predicted": True} if card.cap == "predicted" else {}),
    }


def _upstream_times(item: Item, columns: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    sample = item.typical or Sample(wall_s=0.0)
    times = {f"{name[:-2]}_time": sample.seconds(stages) for name, stages in columns.items()}
    return {"wall_time": sample.wall_s, "error": item.error or None, **times}


def _rows(items: Sequence[Item], columns: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    """A row per item, with what its card did where a driver told that of any."""
    telling = any(item.typical and item.typical.telemetry for item in items)
    return [_row(item, columns) | (_telemetry_cells(item) if telling else {}) for item in items]


def _telemetry_cells(item: Item) -> dict[str, Any]:
    """Of the typical sample."""
    of = (item.typical and item.typical.telemetry) or Telemetry(seconds=0.0)
    return {
        "joules_per_song": of.joules_per_song,
        "joules_per_audio_s": of.joules_per_audio_s,
        "mean_w": of.mean_w,
        "power_limit_w": of.power_limit_w,
        "throttling": None if of.throttling is None else shares(of.throttling),
    }


def _row(item: Item, columns: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """What a table says of an item. Seconds of stages are those of the typical sample."""
    sample = item.typical
    return {
        "mode": item.mode,
        **(_card_cells(item, item.card) if item.card else {}),
        **{name: item.requested[name] for name in LENGTH if "component" in item.requested},
        "duration_s": item.requested.get("duration"),
        "batch_size": item.requested.get("batch_size"),
        "thinking": item.requested.get("thinking"),
        "inference_steps": item.requested.get("inference_steps"),
        "preset": item.requested.get("preset"),
        "wall_s": item.median_s,
        "spread": item.spread,
        **{name: sample and sample.seconds(stages) for name, stages in columns.items()},
        "rtf": item.rtf,
        "status": item.status,
        "error": item.error,
        "adjusted": "; ".join(map(str, item.adjustments)),
    }


def _card_cells(item: Item, card: TierResult) -> dict[str, Any]:
    """What a table says of a tier test: all items of one are."""
    names = ("lm_backend", "offload_to_cpu", "offload_dit_to_cpu", "quantization", "lm_quantization")
    return {
        "card": cards.of_size(card.tier_gb),
        "tier_gb": card.tier_gb,
        "tier": card.tier,
        "variant": card.variant,
        "tier_lm": item.effective.get("lm"),
        **{name: item.effective.get(name) for name in names},
        "cap": card.cap,
        "peak_bytes": card.peak_bytes,
        "notes": "; ".join(card.notes),
    }


def _csv(profile: Profile) -> bytes:
    """A row per item, each with its provenance, so that files can be put together."""
    run = profile.run
    provenance = {"commit": run.commit, "dirty": run.dirty, "source": run.source, "dit": run.dit}
    provenance |= {"lm": run.lm, "device": run.device, "cpu": run.machine.cpu}
    columns = _columns(run)
    sources = sorted({source for item in profile.items for source in item.memory_bytes})
    rows = [
        {"key": item.key}
        | row
        | {"min_s": item.min_s, "max_s": item.max_s, "samples": len(item.samples)}
        | {"first_audio_s": item.typical and item.typical.first_audio_s}
        | {f"{source}_bytes": item.memory_bytes.get(source) for source in sources}
        | provenance
        for item, row in zip(profile.items, _rows(profile.items, columns), strict=True)
    ]
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerows(map(_cell, row) for row in _table(rows))
    return text.getvalue().encode(errors="backslashreplace")


def _cell(value: Any) -> Any:
    """Text that a spreadsheet takes for text, too."""
    if not isinstance(value, str):
        return value
    text = harmless(value, keep="\n")
    return f"'{text}" if text.startswith(FORMULA) else text


def _table(rows: list[dict[str, Any]]) -> list[list[Any]]:
    """The names of the columns, then the rows."""
    return [list(rows[0]), *(list(row.values()) for row in rows)] if rows else []


def markdown(profile: Profile) -> bytes:
    """A line of provenance and a table, to paste."""
    run = profile.run
    facts = (record.SCHEMA, run.commit, run.source, run.dit, run.lm, run.device, run.machine.cpu)
    lines = [", ".join(escaped(fact) for fact in facts if fact) + (" (dirty)" if run.dirty else ""), ""]
    columns = _columns(run)
    for number, row in enumerate(_table(_rows(profile.items, columns))):
        lines.append(f"| {' | '.join(map(escaped, row))} |")
        if number == 0:
            lines.append("|---" * len(row) + "|")
    return "\n".join([*lines, ""]).encode(errors="backslashreplace")


def fenced(text: str) -> str:
    """`text` as a block of Markdown that nothing in it ends."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"\n{fence}text\n{text}\n{fence}\n"


def escaped(value: Any) -> str:
    """A cell that stays one cell and is nothing but text."""
    if value is None:
        return ""
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return MARKUP.sub(r"\\\1", harmless(text.replace("\n", " ")))
