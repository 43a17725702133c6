"""Records to test with."""

from dataclasses import fields, replace
from typing import Any

from acestep.gpu_config import tier_for
from harness.accelerators import snap
from harness.memory import GIB
from tiersim import Case, Record
from tiersim.record import Cap

CASE_FIELDS = {field.name for field in fields(Case)} - {"cap"}  # a record has one, too
LM = "acestep-5Hz-lm-"


def record(tier_gb: float, status: str = "ok", peak_gb: float | None = None, **changes: Any) -> Record:
    """A record as the tier's own settings would make it; `changes` go to the case or to the record."""
    config = tier_for(snap(tier_gb))
    choices = {name: changes.pop(name) for name in CASE_FIELDS & changes.keys()}
    case = Case(tier_gb, **choices)
    lean = case.variant == "no-offload"
    record = Record(
        status=status,  # type: ignore[arg-type]
        reason="" if status == "ok" else f"it was {status}",
        requested=case,
        effective=case,
        tier=config.tier,
        class_gb=config.class_gb,
        device="cuda",
        adjustments=(),
        lm=LM + config.default_lm if case.lm and config.default_lm else None,
        cap=None if status == "skip" else Cap("cuda-fraction", int((tier_gb - 0.5) * GIB), verified=True),
        exit_code={"ok": 0, "oom": 20, "skip": None}.get(status, 70),
        phase_reached=None if status == "skip" else "check" if status == "ok" else "generate",
        peak_bytes=None if peak_gb is None else int(peak_gb * GIB),
        peak_source="reserved + 0.5 GiB context",
        wall_s=12.5 if status == "ok" else None,
        key=f"{case}",
        lm_backend="vllm" if case.lm else "",
        offload_to_cpu=config.offload_to_cpu and not lean,
        offload_dit_to_cpu=config.offload_dit_to_cpu and not lean,
        quantization=config.quantization if case.variant == "default" else None,
    )
    return replace(record, **changes)


def bare_record(case: Case, **fields: Any) -> Record:
    """A case that went well, and nothing more."""
    return Record("ok", "", case, case, "tier1", case.tier_gb, "cpu", (), None, **fields)
