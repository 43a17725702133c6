"""Tiers of graphics cards: limits and defaults as one table for each policy, no torch.

A card is sold by a nominal size and reports a little less: an "8 GB" card shows 7.66 GiB, a T4 of
16 GB with ECC 14.56. Comparing reported bytes with round numbers therefore puts real cards one tier
too low. One rule for detection, for `MAX_CUDA_VRAM` and for simulated tiers cures that:

    reported GiB ──snap──▶ nominal class in GB ──▶ tier ──▶ limits and defaults (POLICIES)

    >>> describe(Accelerator("cuda", "RTX 4060", 7.66))
    'RTX 4060: 7.66 GiB → 8 GB (RTX 4060), tier4'

A policy is a table of tiers:

    guide            the benchmark guides' limits, and the default
    upstream-2026    upstream's own of 2026: longer songs, a language model from tier 3, cards up to 48 GB

Classes are snapped by either, where upstream compares what a card reports. A tier chooses limits and
defaults only. Whether something *fits* is asked of real bytes (`harness.memory`), never of the class; what
the predictions support is `python -m tiersim --suggest`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import NamedTuple

from acestep.weights.layout import LM_PREFIX
from harness import cards
from harness.accelerators import MAX_VRAM_VARIABLE, Accelerator, snap
from harness.checks import one_of
from harness.errors import UsageError

LM_MEMORY_GB = {"0.6B": 3.0, "1.7B": 8.0, "4B": 12.0}  # what a tier sets aside for each LM size


class XL(NamedTuple):
    """What a tier does with a DiT of the XL family, where that is not what it does with any."""

    offload_to_cpu: bool
    quantization: str | None


@dataclass(frozen=True, slots=True)
class GPUConfig:
    """Limits and defaults of one tier; its fields are the columns of a policy's table.

    LM sizes ascend; an empty tuple means the tier has no LM. `load_lm` is only the default: where
    `lm_sizes` is not empty the LM may always be asked for. `xl` None: the tier has no DiT of the XL family.
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
    xl: XL | None  # what differs for an XL DiT
    lm_needs_offload: tuple[str, ...] = ()  # sizes that fit only with offload_to_cpu
    compile: bool = True
    lm_backend: str = "vllm"
    class_gb: float = 0.0  # of the card at hand; set by tier_for

    @property
    def name(self) -> str:
        """The tier as a reader knows it: by the size of its cards, of which the card at hand is one."""
        return cards.of_size(self.class_gb) if self.class_gb else self.tier

    def of_xl(self) -> GPUConfig:
        """The tier as it holds for an XL DiT: as for any other where it has none."""
        return replace(self, **self.xl._asdict()) if self.xl else self

    @property
    def default_lm_name(self) -> str | None:
        """Checkpoint name of the default LM, as `Engine.load(lm=...)` takes it."""
        return LM_PREFIX + self.default_lm if self.default_lm else None


YES, NO = True, False
INT8 = "int8_weight_only"
SMALL, MEDIUM, LARGE, FOUR = ("0.6B",), ("0.6B", "1.7B"), ("0.6B", "1.7B", "4B"), ("4B",)
PLAIN, PARKED, SAVING = XL(NO, None), XL(YES, None), XL(YES, INT8)  # an XL DiT on cards that can have one

TIERS = (
    #          name         class GB       seconds   batch LM sizes          load offload   quant XL  LM that
    #                       up to     incl LM   none L  n  allowed default  LM   all  DiT  DiT   DiT parks
    GPUConfig("tier1",     4,        YES, 180, 180, 1, 1, (),     None,   NO,  YES, YES, INT8, None),
    GPUConfig("tier2",     6,        YES, 360, 360, 1, 1, (),     None,   NO,  YES, YES, INT8, None),
    GPUConfig("tier3",     8,        NO,  240, 360, 1, 2, SMALL,  "0.6B", NO,  YES, YES, INT8, None),
    GPUConfig("tier4",     12,       NO,  240, 360, 2, 4, SMALL,  "0.6B", NO,  YES, YES, INT8, None),
    GPUConfig("tier5",     16,       NO,  240, 360, 2, 4, MEDIUM, "1.7B", YES, YES, NO,  INT8, SAVING),
    GPUConfig("tier6a",    20,       NO,  480, 480, 4, 8, LARGE,  "1.7B", YES, YES, NO,  INT8, PARKED, FOUR),
    GPUConfig("tier6b",    24,       NO,  480, 480, 4, 8, LARGE,  "1.7B", YES, NO,  NO,  None, PLAIN),
    GPUConfig("unlimited", math.inf, YES, 600, 600, 8, 8, LARGE,  "4B",   YES, NO,  NO,  None, PLAIN),
)  # fmt: skip
TIERS_2026 = (
    GPUConfig("tier1",     4,        YES, 240, 360, 1, 1, (),     None,   NO,  YES, YES, INT8, None),
    GPUConfig("tier2",     6,        YES, 480, 600, 1, 1, (),     None,   NO,  YES, YES, INT8, None),
    GPUConfig("tier3",     8,        YES, 480, 600, 2, 2, SMALL,  "0.6B", YES, YES, YES, INT8, None),
    GPUConfig("tier4",     12,       YES, 480, 600, 2, 4, SMALL,  "0.6B", YES, YES, YES, INT8, None),
    GPUConfig("tier5",     16,       NO,  480, 600, 4, 4, MEDIUM, "1.7B", YES, YES, NO,  INT8, SAVING),
    GPUConfig("tier6a",    20,       NO,  480, 600, 4, 8, MEDIUM, "1.7B", YES, YES, NO,  INT8, PARKED),
    GPUConfig("tier6b",    24,       YES, 480, 480, 8, 8, LARGE,  "1.7B", YES, NO,  NO,  None, PLAIN, FOUR),
    GPUConfig("unlimited", math.inf, YES, 600, 600, 8, 8, LARGE,  "4B",   YES, NO,  NO,  None, PLAIN),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Policy:
    """A table of tiers, ascending, and the sizes of a tier test by it."""

    tiers: tuple[GPUConfig, ...]
    tested_gb: tuple[float, ...]


GUIDE, UPSTREAM_2026 = "guide", "upstream-2026"
POLICIES: Mapping[str, Policy] = MappingProxyType(
    {
        GUIDE: Policy(TIERS, (4.0, 6.0, 8.0, 12.0, 16.0, 20.0, 24.0)),
        UPSTREAM_2026: Policy(TIERS_2026, (4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 48.0)),
    }
)

# A device that is not a CUDA card keeps its tier's limits and loses what it cannot do.
NOT_CUDA = {"offload_to_cpu": False, "offload_dit_to_cpu": False, "quantization": None, "compile": False}
OVERRIDES = {
    "cuda": {},
    "mps": NOT_CUDA | {"lm_backend": "mlx"},  # memory is unified: nothing is gained by moving models
    "cpu": NOT_CUDA | {"lm_backend": "pt"},
}


def policy(name: str) -> Policy:
    """The policy `name`. Raises UsageError where there is none."""
    one_of("policy", name, [*POLICIES])
    return POLICIES[name]


def tier_for(class_gb: float, by: str = GUIDE) -> GPUConfig:
    """The tier of a memory class by a policy; zero and less get the limits of the lowest."""
    for config in policy(by).tiers:
        if class_gb < config.up_to_gb or (config.up_to_included and class_gb == config.up_to_gb):
            return replace(config, class_gb=class_gb)
    raise UsageError(f"memory class: {class_gb!r} GB is not a number")


def config_for(accelerator: Accelerator, by: str = GUIDE, *, xl: bool = False) -> GPUConfig:
    """Limits and defaults on `accelerator` by a policy, for an XL DiT or another.

    A CPU has tier1's limits unless a size is simulated.
    """
    counted_gib = 0.0 if accelerator.device == "cpu" and not accelerator.simulated else accelerator.memory_gib
    tier = tier_for(snap(counted_gib), by)
    return replace(tier.of_xl() if xl else tier, **OVERRIDES[accelerator.device])


def describe(accelerator: Accelerator, by: str = GUIDE) -> str:
    """One line for a report: what was found, its class, its tier, and a policy that is not the default."""
    config = config_for(accelerator, by)
    size = f"{accelerator.name}: {accelerator.memory_gib:.2f} GiB"
    if accelerator.simulated:
        size += f" ({MAX_VRAM_VARIABLE})"
    of_class = f"{config.name}, " if config.class_gb else ""
    by_policy = "" if by == GUIDE else f" of {by}"
    return f"{size} → {of_class}{config.tier}{by_policy}"
