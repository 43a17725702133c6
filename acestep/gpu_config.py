"""Which limits and defaults a graphics card gets: policy as one table, no torch.

A card is sold by a nominal size and reports a little less: an "8 GB" card shows 7.66 GiB, a T4 of
16 GB with ECC 14.56. Comparing reported bytes with round numbers therefore puts real cards one tier
too low. One rule for detection, for `MAX_CUDA_VRAM` and for simulated tiers cures that:

    reported GiB ──snap──▶ nominal class in GB ──▶ tier ──▶ limits and defaults (TIERS)

    >>> describe(Accelerator("cuda", "RTX 4060", 7.66))
    'RTX 4060: 7.66 GiB → 8 GB class → tier4'

A tier chooses limits and defaults only. Whether something *fits* is asked of real bytes
(`acestep.memory`), never of the class.
"""

from __future__ import annotations

import math
import os
import platform
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from acestep.errors import MissingPrerequisite, UsageError
from acestep.memory import GIB

Answer = TypeVar("Answer")

MAX_VRAM_VARIABLE = "MAX_CUDA_VRAM"

NOMINAL_GB = (4, 5, 6, 8, 10, 11, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 128, 141, 192)
# ECC and firmware take up to 9.2 % of a nominal size (T4: 14.56 of 16); 10 and 11 are in the list so
# that a 3080 (9.65) and a 1080 Ti (10.91) are not rounded up to 12.
SNAP_LOWEST_SHARE = 0.908
SNAP_HIGHEST_SHARE = 1.005

LM_PREFIX = "acestep-5Hz-lm-"
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
TIER_ALIASES = {"tier6": "tier6b"}

# A device that is not a CUDA card keeps its tier's limits and loses what it cannot do.
NOT_CUDA = {"offload_to_cpu": False, "offload_dit_to_cpu": False, "quantization": None, "compile": False}
OVERRIDES = {
    "cuda": {},
    "mps": NOT_CUDA | {"lm_backend": "mlx"},  # memory is unified: nothing is gained by moving models
    "cpu": NOT_CUDA | {"lm_backend": "pt"},
}


def snap(reported_gib: float) -> float:
    """The nominal size in GB of a card that reports `reported_gib`, or that figure if it is none."""
    for nominal in NOMINAL_GB:
        if SNAP_LOWEST_SHARE * nominal <= reported_gib <= SNAP_HIGHEST_SHARE * nominal:
            return float(nominal)
    return reported_gib


def tier_for(class_gb: float) -> GPUConfig:
    """The tier of a memory class; zero and less get the limits of the lowest."""
    for config in TIERS:
        if class_gb < config.up_to_gb or (config.up_to_included and class_gb == config.up_to_gb):
            return replace(config, class_gb=class_gb)
    raise UsageError(f"memory class: {class_gb!r} GB is not a number")


def tier_named(name: str) -> GPUConfig:
    """The table's row for a tier name. Raises UsageError with the names there are."""
    rows = {config.tier: config for config in TIERS}
    try:
        return rows[TIER_ALIASES.get(name, name)]
    except KeyError:
        raise UsageError(f"tier: {name!r} is not known; use one of {', '.join(rows)}") from None


@dataclass(frozen=True, slots=True)
class Accelerator:
    """What generation would run on. `memory_gib` is as reported, or as simulated by MAX_CUDA_VRAM."""

    device: str  # cuda, mps or cpu
    name: str
    memory_gib: float
    simulated: bool = False
    capability: tuple[int, int] | None = None  # of CUDA, of a card that is not here; None: ask the driver


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


def detect(device: str = "auto", environ: Mapping[str, str] = os.environ) -> Accelerator:
    """Find the device without importing torch; `auto` is cuda, then mps, then cpu.

    `MAX_CUDA_VRAM` (GB) replaces the reported size, on any device. Raises UsageError for an unknown
    device or a bad MAX_CUDA_VRAM, MissingPrerequisite for a device that was named and is not there.
    """
    named = re.fullmatch(r"auto|mps|cpu|cuda(?::(\d+))?", device)
    if named is None:
        raise UsageError(f"device: {device!r} is not known; use auto, cuda, cuda:N, mps or cpu")
    found = None
    if device == "auto" or device.startswith("cuda"):
        found = _cuda(int(named[1] or 0), environ.get("CUDA_VISIBLE_DEVICES"))
    if device == "mps" or (device == "auto" and found is None):
        found = _mps()
    if device == "cpu" or (device == "auto" and found is None):
        found = Accelerator("cpu", "CPU", _ram_gib())
    if found is None:
        raise MissingPrerequisite(f"device: {device} is not available here; use --device auto or cpu")
    simulated_gib = max_vram_gb(environ)
    return found if simulated_gib is None else replace(found, memory_gib=simulated_gib, simulated=True)


def max_vram_gb(environ: Mapping[str, str] = os.environ) -> float | None:
    """`MAX_CUDA_VRAM` in GB, or None where it is not set. Raises UsageError unless it is above 0."""
    text = environ.get(MAX_VRAM_VARIABLE)
    if text is None:
        return None
    try:
        size_gb = float(text)
    except ValueError:
        size_gb = math.nan
    if not 0 < size_gb < math.inf:
        raise UsageError(f"{MAX_VRAM_VARIABLE}: {text!r} is not allowed; use GB above 0, e.g. 8")
    return size_gb


def _cuda(index: int, visible: str | None) -> Accelerator | None:
    import pynvml

    def describe(card: Any) -> Accelerator:
        memory_bytes = float(pynvml.nvmlDeviceGetMemoryInfo(card).total)
        return Accelerator("cuda", str(pynvml.nvmlDeviceGetName(card)), memory_bytes / GIB)

    return ask_card(index, visible, describe)


def ask_card(index: int, visible: str | None, question: Callable[[Any], Answer]) -> Answer | None:
    """`question(handle)` of CUDA device `index` among the `visible` (CUDA_VISIBLE_DEVICES); None without it.

    NVML answers: the driver's own figures, and no CUDA context is made.
    """
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        return question(_nvml_handle(index, visible))
    except (pynvml.NVMLError, IndexError):
        return None
    finally:
        pynvml.nvmlShutdown()


def _nvml_handle(index: int, visible: str | None):
    """NVML's handle of CUDA device `index`, through CUDA_VISIBLE_DEVICES (numbers or UUIDs)."""
    import pynvml

    entry = str(index) if visible is None else [v.strip() for v in visible.split(",")][index]
    if entry.startswith(("GPU-", "MIG-")):
        return pynvml.nvmlDeviceGetHandleByUUID(entry)
    if not entry.isdigit():  # "" and "-1" hide every card
        raise IndexError(entry)
    return pynvml.nvmlDeviceGetHandleByIndex(int(entry))


def _mps() -> Accelerator | None:
    """Apple silicon. Metal recommends about 75 % of unified memory to the GPU; asking it needs torch."""
    if platform.system() != "Darwin" or platform.machine() != "arm64":
        return None
    return Accelerator("mps", "Apple silicon", 0.75 * _ram_gib())


def _ram_gib() -> float:
    import psutil

    return psutil.virtual_memory().total / GIB
