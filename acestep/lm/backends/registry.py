"""Which backend runs the language model here, and why. Nothing is imported to find out.

pt     our own model in PyTorch           every device
vllm   vLLM                               CUDA cards; CPUs to compare with
mlx    mlx-lm                             Apple GPUs; CPUs to compare with
"""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING

from acestep.gpu_config import LM_MEMORY_GB, GPUConfig
from acestep.weights.layout import LM_PREFIX
from harness.accelerators import Accelerator
from harness.checks import one_of
from harness.errors import MissingPrerequisite, UsageError

if TYPE_CHECKING:
    from acestep.lm.backends.interface import Backend
    from acestep.weights.checkpoint import Source
    from acestep.weights.loading import Models
    from harness.compiling import Compiled

AUTO = "auto"
BACKENDS = ("pt", "vllm", "mlx")
PACKAGES = {"vllm": "vllm", "mlx": "mlx_lm"}

# What a generation needs besides a language model that stays on the card: 5.2 GB of weights in bf16, and
# activations at 240 s. vLLM takes its share once and keeps it, so the two have to fit together.
BESIDE_LM_GB = 8.0


def choose(
    choice: str,
    lm: str | None,
    accelerator: Accelerator,
    tier: GPUConfig,
    quantization: str | None = None,
    *,
    placed: bool = False,
) -> tuple[str, str]:
    """What runs the language model `lm`, and why, in a few words; both empty without one.

    `auto` is the tier's own backend where it is installed and has room, else pt, which alone runs a model
    in `quantization` and one that is `placed`. Raises UsageError for an unknown name and for another that is
    to run one, MissingPrerequisite for one that cannot run here.
    """
    one_of("lm_backend", choice, (AUTO, *BACKENDS))
    if placed and choice not in (AUTO, "pt"):
        raise UsageError(f"lm_backend: {choice} runs where it will, and lm has a device of its own; use pt")
    if choice != AUTO:
        if why := unavailable(choice, accelerator.device):
            raise MissingPrerequisite(f"lm_backend: {choice} {why}, or use pt")
        if quantization and choice != "pt":
            raise UsageError(f"lm_backend: {choice} does not run {quantization}; use pt, or leave one out")
        return (choice, "asked for") if lm else ("", "")
    if lm is None:
        return "", ""
    best = tier.lm_backend
    if placed:
        return "pt", "the one that can be placed"
    if best == "pt":
        return "pt", f"the one for {accelerator.device}"
    if quantization:
        return "pt", f"{best} does not run {quantization}"
    if why := unavailable(best, accelerator.device):
        return "pt", f"{best} {why}"
    needed_gb = LM_MEMORY_GB[lm.removeprefix(LM_PREFIX)] + BESIDE_LM_GB
    if best == "vllm" and accelerator.memory_gib < needed_gb:
        there_gb = accelerator.memory_gib
        return "pt", f"{best} needs {needed_gb:g} GB for {lm} beside the rest, {there_gb:.1f} are there"
    return best, "installed, and has room"


def unavailable(name: str, device: str) -> str | None:
    """Why the backend `name` cannot run on `device` (cuda, mps or cpu), or None. Imports nothing."""
    if name == "vllm" and device == "mps":
        return "does not run on mps"
    if name == "mlx" and device == "cuda":
        return "does not run on cuda"
    if name in PACKAGES and find_spec(PACKAGES[name]) is None:
        return f"is not installed; pip install '.[{name}]'"
    return None


def open_backend(
    name: str,
    models: Models,
    source: Source,
    lm: str,
    graphs: bool = False,
    compiled: Compiled | None = None,
) -> Backend:
    """The backend `name` of the language model `lm`; nothing is loaded yet.

    `graphs`: as `Setup` has them. `compiled`: by which steps of ours are, where the engine compiles.
    """
    if name == "vllm":
        from acestep.lm.backends.vllm_backend import VLLM

        return VLLM(source, lm, models.device, models.dtype, graphs)
    if name == "mlx":
        from acestep.lm.backends.mlx_backend import MLX

        return MLX(source, lm, models.device, models.dtype)
    from acestep.lm.backends.pt_backend import PT

    assert models.lm is not None, "the models were loaded without their language model"
    load, using = partial(models.need, "lm"), partial(models.residency.using, "lm")
    return PT(models.lm, models.place("lm"), load, using, graphs, compiled)
