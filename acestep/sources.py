"""Where weights come from, decided in one place: argument, then ACESTEP_SOURCE, then what is there.

    synthetic-tiny, synthetic-full     made-up weights (acestep/synthetic.py)
    a path                             a checkpoint root in the published layout

With nothing asked for: `./checkpoints` when it holds the DiT, else synthetic weights, full ones where
an accelerator makes their cost bearable and tiny ones on a CPU.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from acestep.errors import MissingPrerequisite
from acestep.gpu_config import LM_MEMORY_GB, LM_PREFIX

if TYPE_CHECKING:
    from acestep.checkpoint import Source

ENVIRONMENT = "ACESTEP_SOURCE"
SYNTHETIC = ("synthetic-tiny", "synthetic-full")
DEFAULT_ROOT = Path("checkpoints")

# Folders of a checkpoint root.
DIT = "acestep-v15-turbo"
VAE = "vae"
TEXT_ENCODER = "Qwen3-Embedding-0.6B"
LMS = tuple(LM_PREFIX + size for size in LM_MEMORY_GB)  # smallest first


def choose_source(asked: str | Path | None, accelerator: bool) -> tuple[str, str]:
    """The source's name or path, and who chose it: `argument`, `environment` or `default`.

    Raises MissingPrerequisite when a path does not exist. Imports no torch.
    """
    value, origin = (str(asked), "argument") if asked else (os.environ.get(ENVIRONMENT, ""), "environment")
    if not value:
        if (DEFAULT_ROOT / DIT).is_dir():
            return str(DEFAULT_ROOT), "default"
        return SYNTHETIC[accelerator], "default"
    if value not in SYNTHETIC and not Path(value).is_dir():
        raise MissingPrerequisite(
            f"source ({origin}): no folder {value!r}; use {', '.join(SYNTHETIC)} or a checkpoint folder"
        )
    return value, origin


def open_source(value: str) -> Source:
    """The source `choose_source` named."""
    if value in SYNTHETIC:
        from acestep.synthetic import Synthetic

        return Synthetic(value)
    from acestep.checkpoint import Folder

    return Folder(Path(value))
