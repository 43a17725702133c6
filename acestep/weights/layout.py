"""Published names: the folders of a checkpoint root, variants of the DiT, sizes of the language model.

    <root>/acestep-v15-*/         config.json, model.safetensors (or an index and shards), silence_latent.pt
    <root>/vae/                   config.json, diffusion_pytorch_model.safetensors
    <root>/Qwen3-Embedding-0.6B/  config.json, model.safetensors, tokenizer.json
    <root>/acestep-5Hz-lm-*/      likewise

No torch import here.
"""

from __future__ import annotations

from pathlib import Path

from harness.errors import CheckpointError

ENVIRONMENT = "ACESTEP_SOURCE"
SYNTHETIC = ("synthetic-tiny", "synthetic-full")
DEFAULT_ROOT = Path("checkpoints")

# Folders of a checkpoint root.
DIT_PREFIX = "acestep-v15-"
DITS = tuple(
    DIT_PREFIX + variant
    for variant in (
        "turbo turbo-shift1 turbo-shift3 turbo-continuous base sft xl-turbo xl-base xl-sft"
    ).split()
)
DEFAULT_DIT = DITS[0]
XL_INFIX = "xl-"  # of an XL variant's name, beside that of the 2B
VAE = "vae"
TEXT_ENCODER = "Qwen3-Embedding-0.6B"
LM_PREFIX = "acestep-5Hz-lm-"
LM_SIZES = ("0.6B", "1.7B", "4B")
LMS = tuple(LM_PREFIX + size for size in LM_SIZES)


def folders(root: Path) -> list[str]:
    """Names of the folders in a checkpoint root, in order. Raises CheckpointError where it is unreadable."""
    try:
        return sorted(path.name for path in root.iterdir() if path.is_dir())
    except OSError as error:
        raise CheckpointError(f"{root}: unreadable ({error.strerror}); is it a checkpoint folder?") from None


def weights_stem(folder: str) -> str:
    """Name of the safetensors file, or of its index, in the component `folder`."""
    return "diffusion_pytorch_model" if folder == VAE else "model"
