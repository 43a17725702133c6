"""Peaks of the tiers, measured in a process that is held to the tier's size, and predicted by a trace."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from harness import cards
from harness.accelerators import detect
from harness.cards import Card
from harness.errors import BenchError, MissingPrerequisite
from scripts.gpu.steps import Measured, Step, Task
from tiersim import Case, run_case
from tiersim.prediction import predict_case
from tiersim.record import Record

LOADING = "load"  # in parts, whose order the two name differently


def steps(task: Task) -> Iterator[Step]:
    for tier_gb in task.sizes.tiers_gb:
        yield Step(f"{tier_gb:g} GB", partial(_peaks, task, tier_gb), work=1)


def this_card(device: str) -> Card:
    """The card that is here, as the table has it, else by its own account: its speed is none of memory's.

    Where there is none, the card that predictions are for by default.
    """
    here = detect(device, {})
    if here.device != "cuda":
        return cards.find(cards.DEFAULT)
    if known := cards.known(here.name, here.memory_gib):
        return known
    import torch

    major, minor = torch.cuda.get_device_capability(device)
    row = {"name": here.name, "capability": f"{major}.{minor}", "memory_gib": here.memory_gib}
    return cards.described(row | {"tflop_per_s": 100, "gb_per_s": 1000, "source": "this machine"}, here.name)


def compare(
    tier_gb: float, lm: bool, source: str, device: str, duration_s: float = 30
) -> tuple[Record, Record]:
    """Records of a tier's case: run, and predicted for the card that is here."""
    case = {"tier_gb": tier_gb, "lm": lm, "source": source, "skip_compile": True, "duration_s": duration_s}
    real = run_case(Case(**case, device=device))
    return real, predict_case(Case(**case, card=this_card(device)))


def off_by_stage(real: Record, predicted: Record) -> dict[str, float]:
    """How far each stage's peak was predicted from the real one, as a share of that."""
    measured = real.stage_peaks_bytes
    shared = sorted((measured.keys() & predicted.stage_peaks_bytes.keys()) - {LOADING})
    return {
        stage: predicted.stage_peaks_bytes[stage] / measured[stage] - 1 for stage in shared if measured[stage]
    }


def _peaks(task: Task, tier_gb: float) -> Measured:
    real, predicted = compare(tier_gb, False, task.source, task.device, task.sizes.tier_duration_s)
    if real.status == "skip":
        raise MissingPrerequisite(str(real.reason))
    if "error" in (real.status, predicted.status):
        raise BenchError(
            f"run: {real.status} {real.reason}; predicted: {predicted.status} {predicted.reason}"
        )
    # Tensors are counted on a simulated card, blocks of the allocator on a real one.
    stages = off_by_stage(real, predicted) if task.on_cuda else {}
    worst = max(stages, key=lambda stage: abs(stages[stage]), default=None)
    values = {
        "run_bytes": real.peak_bytes,
        "predicted_bytes": predicted.peak_bytes,
        "cap": real.cap.kind if real.cap else None,
        "off": predicted.peak_bytes / real.peak_bytes - 1
        if real.peak_bytes and predicted.peak_bytes
        else None,
        "worst_stage": worst,
        "worst_off": stages[worst] if worst else None,
        "calibration": predicted.environment.get("calibration"),
    }
    alike = real.status == predicted.status
    return Measured(values, error="" if alike else f"ran: {real.status}; predicted: {predicted.status}")
