"""Parts of `harness` as they are beside these benchmarks: what is imported by that name is the commit's."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

HARNESS = Path(__file__).parents[2] / "harness"


def scratch_folder() -> AbstractContextManager[Path]:
    """That of `harness.scratch`."""
    return _part("scratch").scratch_folder()


def _part(name: str) -> ModuleType:
    """The module of that file, which imports the standard library alone."""
    spec = spec_from_file_location(f"benchmarks_{name}", HARNESS / f"{name}.py")
    assert spec and spec.loader
    module = sys.modules[spec.name] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


interrupts, streaming = _part("interrupts"), _part("streaming")
