"""The calibration of a run: its rows, as the file that predictions read and a contributor sends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from harness import cards
from harness.errors import BenchError
from harness.files import write_whole
from harness.records.schema import encode
from harness.trace.calibration import FOLDER, Calibration, Copy, Product, file_name, read
from scripts.gpu.record import Record

SINGLE = ("memory", "launches", "link")
MEASURED_HERE = "the most that was measured here; no data sheet"


def write(record: Record, folder: Path | None = None) -> Path | None:
    """Write the card's file; None where not all of it was measured.

    Raises BenchError where that cannot be, or predictions would leave it out.
    """
    try:
        measured = of(record)
    except msgspec.ValidationError as error:
        raise BenchError(f"calibrations: {error}") from None
    if measured is None:
        return None
    path = (folder or FOLDER) / file_name(measured.card, measured.memory_gib)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, msgspec.json.format(encode(measured)) + b"\n")
    except OSError as error:
        raise BenchError(f"calibrations: {str(path)!r} cannot be written: {error.strerror}") from None
    read(path)
    return path


def of(record: Record) -> Calibration | None:
    """The calibration that the rows of a run make up, None where one is missing."""
    outcome = record.parts.get("calibration")
    rows = {name: row.values for name, row in (outcome.rows if outcome else {}).items() if row.status == "ok"}
    products = list(_each(rows, "product "))
    copies = list(_each(rows, "copy "))
    if not (products and copies and all(name in rows for name in SINGLE)):
        return None
    values: dict[str, Any] = {}
    for name in SINGLE:
        values |= rows[name]
    known = cards.known(values["card"], values["memory_gib"])
    measured = values | {
        "format": Calibration.__struct_config__.tag,
        "date": datetime.now(UTC).date().isoformat(),
        "dtype": products[0]["dtype"],
        "products": [_only(Product, product) for product in products],
        "copies": [_only(Copy, copy) for copy in copies],
        "described": None if known else _peaks(products, copies),
    }
    return msgspec.convert(measured, Calibration)


def _each(rows: Mapping[str, Mapping[str, Any]], prefix: str) -> Iterable[Mapping[str, Any]]:
    return (values for name, values in rows.items() if name.startswith(prefix))


def _only(kind: type[msgspec.Struct], values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: values[name] for name in kind.__struct_fields__}


def _peaks(products: list[Mapping[str, Any]], copies: list[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "tflop_per_s": max(product["tflop_per_s"] for product in products),
        "gb_per_s": max(copy["gb_per_s"] for copy in copies),
        "source": MEASURED_HERE,
    }
