"""`silence_latent.pt`: what the VAE encodes silence to, a tensor as torch pickles it.

torch's own reader of weights calls nothing it does not know, but knows calls that take any amount of memory,
and unpacks whatever is packed. So the archive is looked through first: its size unpacked, and every name that
its pickle calls. What it says it is, is known without torch.
"""

from __future__ import annotations

import io
import pickletools
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from harness.checkpoint_files import read_whole
from harness.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

SILENCE_FRAMES = 15_000  # 600 s at 25 Hz
STORED_SHAPE = (1, 64, SILENCE_FRAMES)
MAX_BYTES = 2**24  # published: 3,841,215
CALLS = {"torch._utils _rebuild_tensor_v2", "collections OrderedDict"} | {
    f"torch {kind}Storage" for kind in ("Float", "Half", "BFloat16", "Double")
}
PROTOCOL = 2  # of the pickle; torch warns of others
OTHER_CALLS = {"STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4"}  # opcodes; torch writes none


def read_silence(path: Path) -> Tensor:
    """The latents `[1, 15000, 64]` in fp32. Raises CheckpointError."""
    import torch

    data = read_archive(path)
    try:
        latent = torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
    except Exception:  # the unpickler lets a dozen kinds escape, and gives advice that is none here
        raise CheckpointError(
            f"{path}: unreadable (torch finds no tensor in it); download it again"
        ) from None
    if not isinstance(latent, torch.Tensor) or tuple(latent.shape) != STORED_SHAPE:
        contents = tuple(latent.shape) if isinstance(latent, torch.Tensor) else type(latent).__name__
        raise CheckpointError(f"{path}: holds {contents}, expected a tensor {STORED_SHAPE}")
    if not latent.isfinite().all():
        raise CheckpointError(f"{path}: holds values that are no numbers; download it again")
    return latent.float().transpose(1, 2)


def read_archive(path: Path) -> bytes:
    """The bytes of the file, once it is a whole archive that calls for a tensor and nothing else.

    Raises CheckpointError. Imports no torch.
    """
    data = read_whole(path, MAX_BYTES)
    try:
        _check_archive(data)
    except Exception as error:  # zipfile and pickletools let a dozen kinds escape
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path}: unreadable ({reason:.200}); download it again") from None
    return data


def _check_archive(data: bytes) -> None:
    """Refuse what is more than a tensor's archive. Raises ValueError, or whatever a broken one gives."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = archive.infolist()
        if (unpacked := sum(entry.file_size for entry in entries)) > MAX_BYTES:
            raise ValueError(f"it unpacks to {unpacked:,} bytes")
        for entry in entries:
            if entry.filename.endswith("data.pkl"):
                _check_calls(archive.read(entry))


def _check_calls(pickle: bytes) -> None:
    for opcode, name, _ in pickletools.genops(pickle):
        if opcode.name == "PROTO" and name != PROTOCOL:
            raise ValueError(f"its protocol is {name}, not {PROTOCOL}")
        if (opcode.name == "GLOBAL" and name not in CALLS) or opcode.name in OTHER_CALLS:
            raise ValueError(f"it calls {name or opcode.name}")
