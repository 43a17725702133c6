"""Calibration: memory measured below PyTorch on real cards, in `calibration.json` (`scripts.calibrate`).

A prediction rests on three figures that no rule of PyTorch's gives: what a process holds outside its
allocator, the workspace of cuBLAS, and that of cuDNN's convolutions, in copies of their input. They hold for
cards of one compute capability. Where nobody has measured them, rules stand in, and predictions say so.
No torch import here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

TABLE = Path(__file__).with_name("calibration.json")


@dataclass(frozen=True, slots=True)
class Calibration:
    """Measured on one card of `capability` ("9.0"), under a driver and versions of torch and cuDNN."""

    capability: str
    card: str
    date: str
    driver: str
    torch: str
    cudnn: str
    context_mib: float
    blas_bytes: int
    convolution_copies: float

    def __str__(self) -> str:
        return f"calibrated on {self.card}, driver {self.driver}, torch {self.torch}, {self.date}"


def find(capability: tuple[int, int], table: Path = TABLE) -> Calibration | None:
    """What was measured for `capability`, or None."""
    rows = json.loads(table.read_text(encoding="utf-8")) if table.exists() else []
    wanted = "{}.{}".format(*capability)
    return next((Calibration(**row) for row in rows if row["capability"] == wanted), None)
