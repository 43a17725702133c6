"""torch.compile for the DiT: one compiled layer that every layer runs, warmed up before any step needs it.

All layers are the same code at the same shapes, so a graph of one serves them all: two graphs per bucket
(sliding attention beyond its window and full attention), one where the window holds the sequence. Compile
time does not grow with the depth.

    bucket    rows, tokens, guided or not, threads: constants of its graphs
    E         encoder tokens differ with every prompt and are the one size left open. They meet nothing but
              the attention kernel, which takes any length
    compile   a stage of its own: the first request of a bucket runs one step on its own conditions and
              zero latents, whose result nobody reads and which draws no random number
    diffuse   runs what is there; a graph break, and a step that would have to compile, are errors

Graphs are kept on disk (`cache_directory`), where the next process finds them.

    python -m acestep generate --source synthetic-tiny --compile
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
import tempfile
from contextlib import AbstractContextManager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from harness.spans import span

if TYPE_CHECKING:
    from acestep.models.dit import Conditions, DiT, Modulation

CACHE_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"
BUCKETS = 32  # graphs in memory at once are twice as many at most; more buckets start anew, from the disk
# What builds kernels (C++ on a CPU) or their launchers (triton's, in C): variable that names it, defaults.
COMPILERS = {
    "cpu": ("CXX", ("clang++" if sys.platform == "darwin" else "g++",)),
    "cuda": ("CC", ("gcc", "clang")),
}


def cache_directory() -> Path:
    """Where graphs and kernels are kept: TORCHINDUCTOR_CACHE_DIR, else below the user's cache directory."""
    directory = os.environ.get(CACHE_VARIABLE, "")
    # Importing torch._dynamo sets it, to a directory that does not survive a reboot and nobody named.
    if directory and not directory.startswith(str(Path(tempfile.gettempdir(), "torchinductor_"))):
        return Path(directory)
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "acestep" / "inductor"


def unavailable(device: str) -> str | None:
    """Why nothing can be compiled for `device` (`cpu`, `cuda`, `cuda:N` or `mps`), or None.

    Imports no torch, writes nothing. The answer continues a sentence whose subject is the feature.
    """
    kind = device.partition(":")[0]
    if kind not in COMPILERS:
        return f"is not for {kind}; use {' or '.join(COMPILERS)}"
    if kind == "cuda" and find_spec("triton") is None:
        return "needs triton, which is not installed; pip install triton"
    variable, defaults = COMPILERS[kind]
    compiler = os.environ.get(variable)
    names = (compiler,) if compiler else defaults
    if not any(map(shutil.which, names)):
        return f"needs a compiler and there is no {' or '.join(names)}; install one or name it in {variable}"
    header = Path(sysconfig.get_path("include"), "Python.h")
    if not header.exists():
        return f"needs {header}; install the development files of Python"
    directory = cache_directory()
    if not _can_hold_files(directory):
        return f"cannot write to {directory}; name a directory in {CACHE_VARIABLE}"
    return None


def _can_hold_files(directory: Path) -> bool:
    """Whether files can be put into `directory`, which may have to be made first."""
    there = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


class Compiled:
    """A DiT whose layers run compiled, from here on."""

    def __init__(self, dit: DiT):
        os.environ[CACHE_VARIABLE] = str(cache_directory())  # read by torch when it first compiles
        self._dit = dit
        self._buckets: set[tuple[object, ...]] = set()
        for layer in dit.layers:
            layer.compile(fullgraph=True, dynamic=False, recompile_limit=2 * BUCKETS)

    def warm(self, conditions: Conditions, modulation: Modulation, guided: bool) -> None:
        """Compile what a step under `conditions` runs, guided or not: a stage `compile`.

        Where that has been done for the bucket there is no such stage.
        """
        import torch

        with_null = conditions.cross[0].null is not None
        bucket = (conditions.context.shape, with_null, guided, torch.get_num_threads())
        if bucket in self._buckets:
            return
        with span("compile"):
            if len(self._buckets) == BUCKETS:
                torch.compiler.reset()
                self._buckets.clear()
            for cross in conditions.cross:
                for heads in (cross.k, cross.v):
                    torch._dynamo.mark_dynamic(heads, 2)
            batch, channels = len(conditions.context), conditions.patch.shape[1] // 2
            x = conditions.context.new_zeros(batch, conditions.frames, channels)
            run = self._dit.velocities if guided else self._dit.velocity
            run(x, conditions, modulation, 0)
        self._buckets.add(bucket)

    def frozen(self) -> AbstractContextManager[object]:
        """Inside, a layer that would have to be compiled raises RuntimeError instead."""
        import torch

        return torch.compiler.set_stance("fail_on_recompile")
