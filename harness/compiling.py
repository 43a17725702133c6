"""torch.compile for parts of models: one graph serves all that are the same code at the same shapes.

Compile time does not grow with the depth of a model, then. What a graph holds for is its bucket: shapes and
whatever else the owner of the parts names, and the number of threads.

    compile   a stage of its own: the first call of a bucket runs the parts on values nobody reads
    after it  what is there runs; a graph break, and a call that would have to compile, are errors

Graphs are kept on disk (`cache_directory`), where the next process finds them. No torch import before a graph
is wanted.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Hashable, Iterable
from contextlib import AbstractContextManager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import dtypes
from harness.spans import span

if TYPE_CHECKING:
    from torch import Tensor, nn

CACHE_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"
Function = Callable[..., "Tensor"]
BUCKETS = 32  # graphs in memory at once are twice as many at most; more buckets start anew, from the disk
OPTIONS: dict[str, Any] = {"fullgraph": True, "dynamic": False, "recompile_limit": 2 * BUCKETS}
OLDEST = (7, 0)  # capability that triton makes kernels for; torch._inductor.scheduler
# What builds kernels (C++ on a CPU) or their launchers (triton's, in C): variable that names it, defaults.
COMPILERS = {
    "cpu": ("CXX", ("clang++" if sys.platform == "darwin" else "g++",)),
    "cuda": ("CC", ("gcc", "clang")),
}


def cache_directory() -> Path:
    """Where graphs and kernels are kept: TORCHINDUCTOR_CACHE_DIR, else below the user's cache directory.

    Raises RuntimeError for a user without a home.
    """
    directory = os.environ.get(CACHE_VARIABLE, "")
    # Importing torch._dynamo sets it, to a directory that does not survive a reboot and nobody named.
    if directory and not directory.startswith(str(Path(tempfile.gettempdir(), "torchinductor_"))):
        return Path(directory)
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "acestep" / "inductor"


def unavailable(
    device: str, capability: tuple[int, int] | None = None, dtype: str = dtypes.AUTO
) -> str | None:
    """Why nothing can be compiled for `device` (`cpu`, `cuda`, `cuda:N` or `mps`) in `dtype`, or None.

    `capability`: of a CUDA card, None where it is not known. Imports no torch, writes nothing. The answer
    continues a sentence whose subject is the feature.
    """
    kind = device.partition(":")[0]
    if kind not in COMPILERS:
        return f"is not for {kind}; use {' or '.join(COMPILERS)}"
    if capability and capability < OLDEST:
        return "needs a card of compute capability 7.0 or above, and this one has {}.{}".format(*capability)
    if capability and dtype == dtypes.BF16 and capability < dtypes.AMPERE:
        return "is not for bf16 on a card of compute capability {}.{}; use fp16".format(*capability)
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
    try:
        directory = cache_directory()
    except RuntimeError:
        return f"finds no home directory to keep graphs in; name a directory in {CACHE_VARIABLE}"
    if not _can_hold_files(directory):
        return f"cannot write to {directory}; name a directory in {CACHE_VARIABLE}"
    return None


def _can_hold_files(directory: Path) -> bool:
    """Whether files can be put into `directory`, which may have to be made first."""
    there = next(path for path in (directory, *directory.absolute().parents) if os.access(path, os.F_OK))
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


class Compiled:
    """What of an engine runs compiled, and the buckets it has met."""

    def __init__(self) -> None:
        os.environ[CACHE_VARIABLE] = str(cache_directory())  # read by torch when it first compiles
        self._buckets: set[tuple[Hashable, ...]] = set()

    def layers(self, layers: Iterable[nn.Module]) -> None:
        """Have `layers`, which are of one kind, run compiled from here on; each as a whole."""
        for layer in layers:
            layer.compile(**OPTIONS)

    def function(self, function: Function) -> Function:
        """`function` of tensors, compiled as a whole."""
        import torch

        return torch.compile(function, **OPTIONS)

    def warm(self, bucket: tuple[Hashable, ...], run: Callable[[], object]) -> None:
        """Compile what `run` runs: a stage `compile`, and none where that was done for the bucket."""
        if self.knows(bucket):
            return
        import torch

        with span("compile"):
            self.room([bucket])
            run()
        self._buckets.add((*bucket, torch.get_num_threads()))

    def room(self, buckets: Iterable[tuple[Hashable, ...]]) -> None:
        """Start anew where those of `buckets` that are not known would be too many beside those that are.

        For who warms several and then needs them all.
        """
        import torch

        if len(self._buckets) + sum(not self.knows(bucket) for bucket in set(buckets)) > BUCKETS:
            torch.compiler.reset()
            self._buckets.clear()

    def knows(self, bucket: tuple[Hashable, ...]) -> bool:
        """Whether what runs in `bucket` is compiled."""
        import torch

        return (*bucket, torch.get_num_threads()) in self._buckets

    def frozen(self) -> AbstractContextManager[object]:
        """Inside, what would have to be compiled raises RuntimeError instead."""
        import torch

        return torch.compiler.set_stance("fail_on_recompile")

    def eager(self) -> AbstractContextManager[object]:
        """Inside, nothing compiled runs."""
        import torch

        return torch.compiler.set_stance("force_eager")
