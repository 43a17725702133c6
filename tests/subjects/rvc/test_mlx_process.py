"""MLX's process where there is no MLX; and which OpenBLAS it would be started with."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from harness.errors import MissingPrerequisite
from subjects.rvc.backends import mlx_process
from subjects.rvc.backends.mlx_process import PRELOAD, THREADS
from subjects.rvc.setup import Setup


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlx_process, "find_spec", lambda name: None)
    with pytest.raises(MissingPrerequisite, match=r"mlx is not installed; pip install '\.\[mlx\]'"):
        mlx_process.Mlx(Setup.choose("synthetic-tiny", device="cpu"))


def test_libraries_with_names_of_their_own_are_not_taken() -> None:
    libraries = [*(Path(np.__file__).parent.parent / "numpy.libs").glob("lib*openblas*.so")]
    assert not any(mlx_process._has_plain_names(str(library)) for library in libraries)
    assert not mlx_process._has_plain_names("/nowhere/libopenblas.so")


def test_the_process_alone_has_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlx_process, "find_openblas", lambda: "libopenblas.so.0")
    monkeypatch.setenv(PRELOAD, "another.so")
    monkeypatch.delenv(THREADS, raising=False)
    with mlx_process.started_with_openblas(3):
        assert os.environ[PRELOAD].split() == ["libopenblas.so.0", "another.so"]
        assert os.environ[THREADS] == "3"
    assert os.environ[PRELOAD] == "another.so" and THREADS not in os.environ
