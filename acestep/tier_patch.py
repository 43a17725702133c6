"""Changes of the table of tiers as a unified diff of `gpu_config.py`. No torch import here."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from acestep import gpu_config
from acestep.gpu_config import GUIDE, INT8, PLAIN, UPSTREAM_2026, XL, GPUConfig
from harness.errors import BenchError
from harness.tiers import Supported

FILE = "acestep/gpu_config.py"  # from the root of the repository
TABLES = {GUIDE: "TIERS", UPSTREAM_2026: "TIERS_2026"}
LM_SIZES = {getattr(gpu_config, name): name for name in ("SMALL", "MEDIUM", "LARGE", "FOUR")} | {(): "()"}
XLS = {getattr(gpu_config, name): name for name in ("PLAIN", "PARKED", "SAVING")}


def patch(policy: str, changes: Sequence[tuple[Supported, bool]]) -> str:
    """The diff that makes the table of `policy` say what is supported; empty where it does.

    `changes`: of a tier, and whether it was found with an XL DiT. Raises BenchError for a row that is not
    written as `row` writes it.
    """
    before = Path(gpu_config.__file__).read_text("utf-8").splitlines()
    after = list(before)
    start = before.index(f"{TABLES[policy]} = (")
    tiers = {tier.tier: tier for tier in gpu_config.policy(policy).tiers}
    for supported, xl in changes:
        old = tiers[supported.tier]
        tiers[supported.tier] = changed_xl(old, supported) if xl else changed(old, supported)
        try:
            at = after.index(row(old), start)
        except ValueError:
            raise BenchError(f"{FILE}: no line is {row(old).strip()!r}; write the table as it was") from None
        after[at] = row(tiers[supported.tier])
    lines = list(difflib.unified_diff(before, after, f"a/{FILE}", f"b/{FILE}", lineterm=""))
    return "\n".join([*lines, ""]) if lines else ""


def changed(tier: GPUConfig, supported: Supported) -> GPUConfig:
    """`tier` with the least saving and the largest limits that are supported."""
    saving = {}
    if supported.variant in ("no-quant", "no-offload"):
        saving["quantization"] = None
    if supported.variant == "no-offload":
        saving |= {"offload_to_cpu": False, "offload_dit_to_cpu": False}
    alone = {"max_duration_s": supported.max_duration_s, "max_batch": supported.max_batch}
    with_lm = {
        "max_duration_with_lm_s": supported.max_duration_with_lm_s,
        "max_batch_with_lm": supported.max_batch_with_lm,
    }
    if not tier.lm_sizes:  # the columns go together
        with_lm = dict(zip(with_lm, alone.values(), strict=True))
    limits = {name: value for name, value in (alone | with_lm).items() if value is not None}
    return replace(tier, **saving, **limits)


def changed_xl(tier: GPUConfig, supported: Supported) -> GPUConfig:
    """`tier` with what is supported of XL; its limits are those of all DiTs, and stay."""
    own = tier.of_xl()
    cells = {
        None: None,
        "default": XL(own.offload_to_cpu, own.quantization),
        "no-quant": XL(own.offload_to_cpu, None),
        "no-offload": PLAIN,
    }
    return replace(tier, xl=cells[supported.variant])


def row(tier: GPUConfig) -> str:
    """The line of a tier in its table."""
    up_to = "math.inf" if math.isinf(tier.up_to_gb) else f"{tier.up_to_gb:g}"
    limits = (tier.max_duration_with_lm_s, tier.max_duration_s, tier.max_batch_with_lm, tier.max_batch)
    xl = "None"
    if tier.xl:
        xl = f"XL({_switch(tier.xl.offload_to_cpu)}, {_quantization(tier.xl.quantization)})"
    cells = [
        f'"{tier.tier}",'.ljust(13),
        f"{up_to},".ljust(10),
        f"{_switch(tier.up_to_included)},".ljust(5),
        *(f"{limit:g}, " for limit in limits),
        f"{LM_SIZES[tier.lm_sizes]},".ljust(8),
        (f'"{tier.default_lm}",' if tier.default_lm else "None,").ljust(8),
        *(f"{_switch(on)},".ljust(5) for on in (tier.load_lm, tier.offload_to_cpu, tier.offload_dit_to_cpu)),
        f"{_quantization(tier.quantization)}, {XLS.get(tier.xl, xl)}",
        f", {LM_SIZES[tier.lm_needs_offload]}" if tier.lm_needs_offload else "",
    ]
    return f"    GPUConfig({''.join(cells)}),"


def _switch(on: bool) -> str:
    return "YES" if on else "NO"


def _quantization(name: str | None) -> str:
    return "INT8" if name == INT8 else repr(name)
