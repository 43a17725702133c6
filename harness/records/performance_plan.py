"""A record under the names of a performance plan: commit, device, features, and results by input.

    profile_inference.py --example short --json-plan plan.json
    python -m harness.records.performance_plan results.json > plan.json         # of a record that is there

A view: nothing is measured for it, and what a record does not have is null, never zero. Times are those of
the typical sample, so that stages and `other_ms` add up to the wall clock.

`realtime_factor` is audio over wall, higher is better, as the plan has it: the inverse of a record's `rtf`.
`peak_memory_mb` counts 2^20 bytes, of the source that stands beside it. `tokens_per_second`: tokens, over the
time of the stage that generates them. Stages are the subject's own; the plan's are null unless the subject
has columns of these names: see `docs/performance-plan.md` for what stands in their place.
"""

from __future__ import annotations

if __name__ == "__main__":  # before anything else is imported
    from harness import interrupts

    interrupts.end_quietly()

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import console, registry
from harness.records.view import View

if TYPE_CHECKING:
    from harness.records.schema import Input, Item, Profile
    from harness.subject import Subject

NAMES = ("commit", "device", "features", "results")  # of the plan
STAGES = ("talker", "code_predictor", "decoder_12hz")  # the plan's
# Of what ran.
FEATURES = ("dtype", "quantization", "lm_quantization", "compile", "graphs", "lm_backend", "threads")
PEAKS = ("reserved", "allocated", "rss")  # sources of memory, the first that a record has
MIB = 2**20


def encode(profile: Profile) -> bytes:
    """The view of a record, as JSON."""
    import msgspec

    from harness.records import schema as record

    return msgspec.json.format(record.encode(view(profile))) + b"\n"


def is_one(data: bytes) -> bool:
    """Whether a file is such a view."""
    import msgspec

    try:
        content = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return isinstance(content, dict) and content.keys() >= {*NAMES}


VIEW = View("json_plan", encode, is_one)


def view(profile: Profile) -> dict[str, Any]:
    """A result for each item, failed ones among them. `features`: those that all that ran have in common."""
    run, subject = profile.run, registry.subject(profile.run.subject or registry.DEFAULT)
    results = [_result(item, subject) for item in profile.items]
    ran = [set(result["features"].split(",")) for result in results if result["features"]]
    common = set.intersection(*ran) if ran else set()
    devices = {item.effective["device"] for item in profile.items if "device" in item.effective}
    return {
        "commit": run.commit,
        "dirty": run.dirty,
        "device": devices.pop() if len(devices) == 1 else run.device,
        "features": ",".join(name for name in _ordered(common)) or None,
        "results": results,
    }


def _result(item: Item, subject: Subject) -> dict[str, Any]:
    source = next((name for name in PEAKS if name in item.memory_bytes), None)
    return {
        "input": named(item.input) if item.input else None,
        "input_sha256": item.input.sha256 if item.input else None,
        "status": item.status,
        "error": item.error or None,
        "wall_clock_ms": _ms(item.median_s),
        "time_to_first_chunk_ms": _first_chunk_ms(item),
        "peak_memory_mb": item.memory_bytes[source] / MIB if source else None,
        "peak_memory_source": source,
        "tokens_per_second": _tokens_per_s(item, subject.tokens),
        "realtime_factor": 1 / item.rtf if item.rtf else None,
        "features": _features(item.effective),
        "fallbacks": [str(fallback) for fallback in item.fallbacks],
        "stages": _stages_ms(item, subject),
    }


def named(source: Input) -> str:
    """The name of an input, and every field in which it is another than the file of that name."""
    return " ".join([source.name, *(f"{field}={_shown(value)}" for field, value in source.changed.items())])


def _stages_ms(item: Item, subject: Subject) -> dict[str, float | None]:
    """The subject's stages, and the plan's: of those that the subject sums up in a column of that name."""
    seconds = dict(item.typical.stages_s) if item.typical else {}
    for name in STAGES:
        parts = [seconds[stage] for stage in subject.columns.get(f"{name}_s", ()) if stage in seconds]
        if parts:
            seconds[name] = sum(parts)
    return {
        f"{name}_ms": _ms(seconds.get(name))
        for name in dict.fromkeys((*subject.stages, "other", *STAGES, *seconds))
    }


def _first_chunk_ms(item: Item) -> float | None:
    """Of the typical sample; None of one that was not streamed, and of records from before there were any."""
    return getattr(getattr(item.typical, "stream", None), "time_to_first_chunk_ms", None)


def _tokens_per_s(item: Item, tokens: tuple[str, str] | None) -> float | None:
    """Of all rows of a batch together."""
    if tokens is None or item.typical is None:
        return None
    count, seconds = item.counts.get(tokens[0]), item.typical.stages_s.get(tokens[1])
    return count / seconds if count and seconds else None


def _features(effective: Mapping[str, Any]) -> str | None:
    """What ran, read back from it; None where nothing did."""
    if "dtype" not in effective:
        return None
    return ",".join(f"{name}={_shown(effective[name])}" for name in FEATURES if name in effective)


def _ordered(features: set[str]) -> list[str]:
    return sorted(features, key=lambda feature: FEATURES.index(feature.partition("=")[0]))


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else 1e3 * seconds


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def main() -> int:
    """The command: print the view of a record; returns its exit code."""

    def command() -> int:
        description = "Print a record under the names of a performance plan."
        parser = console.Parser(prog="python -m harness.records.performance_plan", description=description)
        parser.add_argument("record", type=Path, help="as --benchmark-output wrote it, .json")
        path = parser.parse_args().record
        from harness.records.schema import Profile
        from harness.records.writer import load

        run, items = load(path)
        print(encode(Profile(run=run, items=tuple(items))).decode(), end="")
        return 0

    return console.run("performance_plan", command)


if __name__ == "__main__":
    sys.exit(main())
