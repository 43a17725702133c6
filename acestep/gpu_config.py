"""Tiers of graphics cards: limits and defaults as one table, no torch.

A card is sold by a nominal size and reports a little less: an "8 GB" card shows 7.66 GiB, a T4 of
16 GB with ECC 14.56. Comparing reported bytes with round numbers therefore puts real cards one tier
too low. One rule for detection, for `MAX_CUDA_VRAM` and for simulated tiers cures that:

    reported GiB ──snap──▶ nominal class in GB ──▶ tier ──▶ limits and defaults (TIERS)

    >>> describe(Accelerator("cuda", "RTX 4060", 7.66))
    'RTX 4060: 7.66 GiB → 8 GB class → tier4'

A tier chooses limits and defaults only. Whether something *fits* is asked of real bytes
(`harness.memory`), never of the class.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from acestep.weights.layout import LM_PREFIX
from harness.accelerators import MAX_VRAM_VARIABLE, Accelerator, snap
from harness.errors import UsageError

LM_MEMORY_GB = {"0.6B": 3.0, "1.7B": 8.0, "4B": 12.0}  # what a tier sets aside for each LM size


@dataclass(frozen=True, slots=True)
class GPUConfig:
    """Limits and defaults of one tier; its fields are the columns of TIERS.

    LM sizes ascend; an empty tuple means the tier has no LM. `load_lm` is only the default: where
    `lm_sizes` is not empty the LM may always be asked for.
    """

    tier: str
    up_to_gb: float  # the largest class of the tier ...
    up_to_included: bool  # ... or the first that is too large
    max_duration_with_lm_s: float
    max_duration_s: float
    max_batch_with_lm: int
    max_batch: int
    lm_sizes: tuple[str, ...]
    default_lm: str | None
    load_lm: bool
    offload_to_cpu: bool
    offload_dit_to_cpu: bool
    quantization: str | None
    lm_needs_offload: tuple[str, ...] = ()  # sizes that fit only with offload_to_cpu
    compile: bool = True
    lm_backend: str = "vllm"
    class_gb: float = 0.0  # of the card at hand; set by tier_for

    @property
    def default_lm_name(self) -> str | None:
        """Checkpoint name of the default LM, as `Engine.load(lm=...)` takes it."""
        return LM_PREFIX + self.default_lm if self.default_lm else None


YES, NO = True, False
INT8 = "int8_weight_only"
SMALL, MEDIUM, LARGE = ("0.6B",), ("0.6B", "1.7B"), ("0.6B", "1.7B", "4B")

TIERS = (
    #          name         class GB       seconds   batch LM sizes          load offload   quantization
    #                       up to     incl LM   none L  n  allowed default  LM   all  DiT  of the DiT
    GPUConfig("tier1",     4,        YES, 180, 180, 1, 1, (),     None,   NO,  YES, YES, INT8),
    GPUConfig("tier2",     6,        YES, 360, 360, 1, 1, (),     None,   NO,  YES, YES, INT8),
    GPUConfig("tier3",     8,        NO,  240, 360, 1, 2, SMALL,  "0.6B", NO,  YES, YES, INT8),
    GPUConfig("tier4",     12,       NO,  240, 360, 2, 4, SMALL,  "0.6B", NO,  YES, YES, INT8),
    GPUConfig("tier5",     16,       NO,  240, 360, 2, 4, MEDIUM, "1.7B", YES, YES, NO,  INT8),
    GPUConfig("tier6a",    20,       NO,  480, 480, 4, 8, LARGE,  "1.7B", YES, YES, NO,  INT8, ("4B",)),
    GPUConfig("tier6b",    24,       NO,  480, 480, 4, 8, LARGE,  "1.7B", YES, NO,  NO,  None),
    GPUConfig("unlimited", math.inf, YES, 600, 600, 8, 8, LARGE,  "4B",   YES, NO,  NO,  None),
)  # fmt: skip
TESTED_GB = (4.0, 6.0, 8.0, 12.0, 16.0, 20.0, 24.0)  # the sizes of a tier test

# A device that is not a CUDA card keeps its tier's limits and loses what it cannot do.
NOT_CUDA = {"offload_to_cpu": False, "offload_dit_to_cpu": False, "quantization": None, "compile": False}
OVERRIDES = {
    "cuda": {},
    "mps": NOT_CUDA | {"lm_backend": "mlx"},  # memory is unified: nothing is gained by moving models
    "cpu": NOT_CUDA | {"lm_backend": "pt"},
}


def tier_for(class_gb: float) -> GPUConfig:
    """The tier of a memory class; zero and less get the limits of the lowest."""
    for config in TIERS:
        if class_gb < config.up_to_gb or (config.up_to_included and class_gb == config.up_to_gb):
            return replace(config, class_gb=class_gb)
    raise UsageError(f"memory class: {class_gb!r} GB is not a number")


def config_for(accelerator: Accelerator) -> GPUConfig:
    """Limits and defaults on `accelerator`. A CPU has tier1's limits unless a size is simulated."""
    counted_gib = 0.0 if accelerator.device == "cpu" and not accelerator.simulated else accelerator.memory_gib
    return replace(tier_for(snap(counted_gib)), **OVERRIDES[accelerator.device])


def describe(accelerator: Accelerator) -> str:
    """One line for a report: what was found, its class, its tier."""
    config = config_for(accelerator)
    size = f"{accelerator.name}: {accelerator.memory_gib:.2f} GiB"
    if accelerator.simulated:
        size += f" ({MAX_VRAM_VARIABLE})"
    of_class = f" → {config.class_gb:g} GB class" if config.class_gb else ""
    return f"{size}{of_class} → {config.tier}"
