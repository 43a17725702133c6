"""Labels of records in a table: the status in one word, and notes beside it."""

from __future__ import annotations

from collections.abc import Iterable

from harness.chart import size
from harness.records.telemetry import warnings
from tiersim.case import Case, subject_of
from tiersim.record import Record

NONE = "—"


def predicted_on(records: Iterable[Record]) -> list[str]:
    """What the predictions among `records` rest on."""
    return sorted({basis(record) for record in records if record.requested.card and record.status != "skip"})


def basis(record: Record) -> str:
    """What a prediction rests on; the cap of anything else."""
    if not record.requested.card:
        return f"cap {record.cap.kind}" if record.cap else "no cap"
    environment = record.environment
    torch = f"torch {environment['torch']}" if "torch" in environment else ""
    known = filter(None, (environment.get("calibration"), torch))
    return ", ".join((f"predicted for {record.requested.card.name} of the tier's memory", *known))


def label(record: Record) -> str:
    """The status in capitals; `OK*` for a run that was not quite the one asked for."""
    return "OK*" if record.status == "ok" and departures(record) else record.status.upper()


def with_lm(name: str | None) -> str:
    """Whether there is a language model, and which."""
    return f"LM {lm_size(name)}" if name else "no LM"


def lm_size(name: str | None) -> str:
    """The size that a checkpoint's name ends with, as in `some-lm-0.6B`: what a table has room for."""
    return name.rpartition("-")[2] if name else NONE


def chosen(case: Case, *, but: str = "") -> str:
    """What a case chooses of its subject, `but` one value, in words; empty for one that chooses nothing."""
    choices = [(name, value) for name, value in case.choices if value != but]
    return ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in choices
    )


def size_of(case: Case) -> str:
    """What a case asks for, but for its card, its variant and its language model."""
    items = f"batch {case.batch_size}" if case.batch_size > 1 else ""
    return ", ".join(filter(None, (chosen(case), f"{case.duration_s:g} s", items)))


def departures(record: Record) -> tuple[str, ...]:
    """In what a run differed from what was asked for: adjusted, not to be had here, or fallen back from."""
    planned, real = record.lm_backend, record.environment.get("lm_backend")
    other = (f"{real} backend in place of {planned}",) if record.lm and real and real != planned else ()
    return (*map(str, record.adjustments), *record.notes, *other)


def notes(record: Record) -> tuple[str, ...]:
    """Everything worth saying of a record, the most urgent first: a table has room for one."""
    if record.status != "ok":
        return (record.reason or record.status, *departures(record))
    return (*departures(record), *throttled(record), *subject_of(record.requested).case_notes(record))


def throttled(record: Record) -> tuple[str, ...]:
    """That its card was slower than it can be: that says nothing of memory."""
    return warnings([record.telemetry]) if record.telemetry else ()


def of_process(record: Record) -> tuple[str, ...]:
    """The most that host and driver counted of a run's process, as far as they tell."""
    if record.process is None:
        return ()
    sizes = {
        "driver": record.process.driver_peak_bytes,
        "context": record.process.context_bytes,
        "spilled": record.process.spilled_bytes,
        "resident set": record.process.rss_peak_bytes,
        "swap": record.process.swap_bytes,
    }
    return tuple(f"{name} {size(known)}" for name, known in sizes.items() if known is not None)
