"""Checkpoints that are pickles (`.pt`, `.pth`, `.bin`), read without running what they say.

A pickle is a program. torch's reader of weights alone knows tensors and plain values and refuses the rest;
what it refuses is refused here in one line. safetensors hold the same and need no such care.
"""

from __future__ import annotations

import os
import pickle
import re
import warnings
from collections.abc import Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import torch
from torch import Tensor

from harness.checkpoint import DTYPES, finite
from harness.checkpoint_files import opened
from harness.checks import shown
from harness.errors import CheckpointError
from harness.tensor_files import MAX_NAME_CHARS, Shape

MAX_BYTES = 2**31  # published: 378 MB
MOST_OF_A_BYTE = 64  # bytes of memory that one of a pickle stands for: that of an empty dictionary
ZIP = b"PK\x03\x04"
WHOLE = {torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}
REAL = {*DTYPES.values(), *WHOLE}
NUMBERS = "real numbers, in 16 bits or more if not whole"


def load(path: Path) -> dict[str, Any]:
    """The dictionary in the pickle at `path`, its tensors on the host.

    Raises CheckpointError for a file that holds anything but tensors and plain values, or no dictionary.
    """
    with opened(path) as file:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of old forms of tensors, which are read as well
                size_bytes = _unpacked_bytes(file)
                content = (
                    torch.load(file, map_location="cpu", weights_only=True)
                    if size_bytes <= MAX_BYTES
                    else None
                )
        except pickle.UnpicklingError as error:
            raise _refused(path, error) from None
        except Exception as error:  # a reader of any bytes at all; torch names no kind
            reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0][:120]}"
            raise CheckpointError(f"{path}: unreadable ({reason}); download it again") from None
    if size_bytes > MAX_BYTES:
        raise CheckpointError(f"{path}: has more than the {MAX_BYTES:,} bytes it may have; wrong file?")
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}, expected a dictionary")
    return content


def _unpacked_bytes(file: BufferedReader) -> int:
    """How much memory a file takes: most lie in a ZIP archive, which may be packed to a thousandth."""
    if file.read(len(ZIP)) != ZIP:  # as torch tells them apart
        size_bytes = os.fstat(file.fileno()).st_size
    else:
        with ZipFile(file) as archive:
            size_bytes = sum(
                member.file_size * (MOST_OF_A_BYTE if member.filename.endswith("data.pkl") else 1)
                for member in archive.infolist()
            )
    file.seek(0)
    return size_bytes


def _refused(path: Path, error: pickle.UnpicklingError) -> CheckpointError:
    if name := re.search(r"GLOBAL (\S+)", str(error)):
        return CheckpointError(
            f"{path}: not read: it holds {name[1][:80]}, and only tensors and plain values are read from a "
            "pickle; use a file that was saved without it, as safetensors if there is one"
        )
    return CheckpointError(f"{path}: unreadable (no file of tensors that torch knows); download it again")


class PickledWeights:
    """The tensors of a dictionary that was read from `where`, by name; `harness.checkpoint.Weights`.

    Raises CheckpointError for a name or a value that is none of a tensor of numbers.
    """

    def __init__(self, where: str, content: Mapping[Any, Any]):
        for name, value in content.items():
            if not isinstance(name, str) or len(name) > MAX_NAME_CHARS or not name.isprintable():
                raise CheckpointError(f"{where}: {shown(name)} is not the name of a tensor")
            if not isinstance(value, Tensor):
                raise CheckpointError(f"{where}: {name} is a {type(value).__name__}, expected a tensor")
            if value.is_meta or value.layout != torch.strided or value.dtype not in REAL:
                form = "without values" if value.is_meta else f"{value.layout}, {value.dtype}"
                raise CheckpointError(
                    f"{where}: {name} is a tensor {form}, expected a dense one of {NUMBERS}"
                )
        self.where = where
        self._tensors = dict(content)

    def shapes(self) -> Mapping[str, Shape]:
        return {name: tuple(tensor.shape) for name, tensor in self._tensors.items()}

    def read(self, name: str) -> Tensor:
        """The tensor. Raises CheckpointError unless all values are finite."""
        return finite(self._tensors[name], name, self.where)
