"""MLX in a process of its own, so that torch's keeps its BLAS.

    with Mlx(setup, threads=2) as mlx:
        call = mlx.call("generator", inputs)        seconds, and the output
        result = mlx.run(plan)                      a whole conversion

On a CPU, MLX's wheel multiplies matrices by a plain loop; that process is started with OpenBLAS in its place
(`LD_PRELOAD`) where a library is to be had. Needs neither mlx nor torch until it is called.
"""

from __future__ import annotations

import ctypes
import os
import site
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes.util import find_library
from dataclasses import dataclass
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from harness.errors import MissingPrerequisite
from harness.processes import Processes
from subjects.rvc.setup import Setup

if TYPE_CHECKING:
    from torch import Tensor

    from subjects.rvc.plan import Plan
    from subjects.rvc.result import Result

CPU = "mlx-cpu"  # how the backends begin that are no measure of MLX
PRELOAD, THREADS = "LD_PRELOAD", "OPENBLAS_NUM_THREADS"
BUNDLED = "*.libs/libopenblas*.so*"  # in packages; numpy's and scipy's have other names for what is in them
NO_OPENBLAS = (
    "no OpenBLAS with plain names is installed, so MLX multiplies by its wheel's loops; install the system's "
    "(libopenblas0) or opencv-python-headless, which brings one"
)


@dataclass(frozen=True, slots=True)
class Call:
    """Seconds of one call, of the wall and of all processors, and what it returned, on the host."""

    seconds: float
    cpu_s: float
    output: Tensor


def no_measure(backend: str) -> str | None:
    """Why times of `backend` are none of MLX's, or None."""
    return "a CPU's: no measure of MLX" if backend.startswith(CPU) else None


def absent() -> str | None:
    """Why MLX does not run here, or None."""
    if find_spec("mlx") is None:
        return "mlx is not installed; pip install '.[mlx]'"
    return None


@cache
def find_openblas() -> str | None:
    """The OpenBLAS to start a process with on Linux: the system's, or one that a package brings."""
    if sys.platform != "linux":
        return None
    folders = [Path(folder) for folder in {*site.getsitepackages(), *sys.path} if folder]
    bundled = sorted(str(path) for folder in folders for path in folder.glob(BUNDLED))
    system = find_library("openblas")
    return next((path for path in ([system] if system else []) + bundled if _has_plain_names(path)), None)


def _has_plain_names(path: str) -> bool:
    try:
        library = ctypes.CDLL(path)
    except OSError:
        return False
    return hasattr(library, "cblas_sgemm") and hasattr(library, "openblas_get_config")


class Mlx:
    """The networks of a setup in MLX, loaded when they are first called; entered, they stay.

    `note`: what is not as it could be. Raises MissingPrerequisite where there is no MLX; what a call raises
    there is raised here.
    """

    def __init__(self, setup: Setup, threads: int | None = None):
        if reason := absent():
            raise MissingPrerequisite(f"mlx: {reason}")
        self.setup = setup
        self.note = None if find_openblas() or sys.platform != "linux" else NO_OPENBLAS
        self._threads = threads
        self._processes = Processes(1)

    def __enter__(self) -> Self:
        self._processes.__enter__()
        with started_with_openblas(self._threads):
            self.environment: dict[str, Any] = self._do(_environment_there)
        return self

    def __exit__(self, *error: Any) -> None:
        self._processes.__exit__(*error)

    @property
    def backend(self) -> str:
        """mlx-gpu, mlx-cpu or mlx-cpu-openblas, as the process itself has it."""
        return self.environment["backend"]

    def call(self, name: str, inputs: tuple[Tensor, ...]) -> Call:
        """One call of a component of `networks.of(setup)`; of `pitch`, samples `[B, N]` to Hz; or of
        `synthesis`, the inputs of `Synthesizer.forward` to samples."""
        import torch

        arrays = tuple(value.numpy() for value in inputs)
        seconds, cpu_s, output = self._do(partial(_call_there, name=name, inputs=arrays))
        return Call(seconds, cpu_s, torch.from_numpy(output))

    def run(self, plan: Plan, save_dir: Path | None = None) -> Result:
        """A whole conversion, as `Engine.run`."""
        return self._do(partial(_run_there, plan=plan, save_dir=save_dir))

    def _do(self, work: Callable[[Setup], Any]) -> Any:
        return next(self._processes.map(work, [self.setup]))


@contextmanager
def started_with_openblas(threads: int | None) -> Iterator[None]:
    """Have processes that are started in the block preload OpenBLAS, where there is one, and multiply by so
    many threads: libraries are there before a process is, so it cannot see to that."""
    before = {name: os.environ.get(name) for name in (PRELOAD, THREADS)}
    if library := find_openblas():
        os.environ[PRELOAD] = " ".join(filter(None, (library, before[PRELOAD])))
    if threads:
        os.environ[THREADS] = str(threads)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _environment_there(setup: Setup) -> dict[str, Any]:
    from subjects.rvc.backends import mlx_networks

    return mlx_networks.environment(setup)


def _call_there(setup: Setup, name: str, inputs: tuple[Any, ...]) -> tuple[float, float, Any]:
    import torch

    from subjects.rvc.backends.mlx_calls import called

    seconds, cpu_s, output = called(setup, name, tuple(torch.from_numpy(value) for value in inputs))
    return seconds, cpu_s, output.numpy()


def _run_there(setup: Setup, plan: Plan, save_dir: Path | None) -> Result:
    from subjects.rvc.backends.mlx_calls import engine

    return engine(setup).run(plan, save_dir)
