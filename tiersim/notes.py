"""What a record is called in a table: one word for how it ended, and what is worth knowing beside it."""

from __future__ import annotations

from collections.abc import Iterable

from acestep.gpu_config import LARGE
from acestep.weights.layout import LM_PREFIX
from tiersim.record import Record

NONE = "—"
WHOLE_TILE_FRAMES = 512  # the ladder's first tile: 20 s of audio
SHARED_FROM_GB, RESIDENT_FROM_GB, WHOLE_FROM_GB = 16, 20, 24  # where a tier's residency is its news


def predicted_on(records: Iterable[Record]) -> list[str]:
    """What the predictions among `records` rest on."""
    return sorted({basis(record) for record in records if record.requested.card and record.status != "skip"})


def basis(record: Record) -> str:
    """What a prediction rests on; the cap of anything else."""
    told = record.environment
    if not record.requested.card:
        return f"cap {record.cap.kind}" if record.cap else "no cap"
    known = filter(None, (told.get("calibration"), f"torch {told['torch']}" if "torch" in told else ""))
    return ", ".join((f"predicted for {record.requested.card.name} of the tier's memory", *known))


def label(record: Record) -> str:
    """The status in capitals; `OK*` for a run that was not quite the one asked for."""
    return "OK*" if record.status == "ok" and departures(record) else record.status.upper()


def with_lm(name: str | None) -> str:
    """Whether there is a language model, and which."""
    return f"LM {lm_size(name)}" if name else "no LM"


def lm_size(name: str | None) -> str:
    """Of a checkpoint's name, what a table has room for."""
    return name.removeprefix(LM_PREFIX) if name else NONE


def departures(record: Record) -> tuple[str, ...]:
    """In what a run differed from what was asked for: adjusted, not to be had here, or fallen back from."""
    ran = record.environment.get("lm_backend")
    fell = (f"{ran} backend in place of {record.lm_backend}",) if ran and ran != record.lm_backend else ()
    return (*map(str, record.adjustments), *record.notes, *(fell if record.lm else ()))


def notes(record: Record) -> tuple[str, ...]:
    """Everything worth saying of a record, the most urgent first: a table has room for one."""
    if record.status != "ok":
        return (record.reason or record.status, *departures(record))
    found = [*departures(record), *_decoding(record)]
    if record.lm and record.class_gb < SHARED_FROM_GB:
        found.append(f"{record.environment.get('lm_backend') or record.lm_backend} backend")
    return (*found, *_residency(record))


def _decoding(record: Record) -> list[str]:
    """How far down its ladder the VAE was."""
    frames, tiles = record.counts.get("vae_tile_frames", 0), record.counts.get("vae_tiles", 0)
    if record.counts.get("vae_level") == 3:
        return ["VAE decoded on CPU"]
    tiled = tiles > record.effective.batch_size
    return [f"Tiled VAE chunk={frames}"] if tiled and frames < WHOLE_TILE_FRAMES and not record.lm else []


def _residency(record: Record) -> list[str]:
    if record.offload_to_cpu or record.offload_dit_to_cpu:
        return ["offload enabled"] if record.class_gb >= SHARED_FROM_GB else []
    if record.class_gb >= WHOLE_FROM_GB and record.lm == LM_PREFIX + LARGE[-1]:
        return ["full models on GPU"]
    return ["no offload"] if record.class_gb >= RESIDENT_FROM_GB else []
