"""How Python evaluates frames, which decides how long the arguments of a call live.

By itself Python hands the arguments over to the function, which may let go of them. With a hook on frames
(PEP 523) the caller holds them until the function returns. `torch.compile` has such a hook while it runs, and
leaves it behind where compiling fails; some debuggers have theirs.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def _api(name: str, result: type | None, *arguments: type) -> Any:
    """A function of Python's C API that is called with the interpreter's lock held."""
    function = ctypes.pythonapi[name]
    function.restype, function.argtypes = result, arguments
    return function


_interpreter = _api("PyInterpreterState_Get", ctypes.c_void_p)
_get = _api("_PyInterpreterState_GetEvalFrameFunc", ctypes.c_void_p, ctypes.c_void_p)
_set = _api("_PyInterpreterState_SetEvalFrameFunc", None, ctypes.c_void_p, ctypes.c_void_p)
PYTHON = ctypes.cast(ctypes.pythonapi["_PyEval_EvalFrameDefault"], ctypes.c_void_p).value


def hook() -> int | None:
    """The address of what evaluates frames now; `PYTHON` where there is no hook."""
    return _get(_interpreter())


def set_hook(address: int | None) -> None:
    """Have what is at `address`, which `hook` has told, evaluate frames of every thread from here on."""
    _set(_interpreter(), address)


@contextmanager
def unhooked() -> Iterator[None]:
    """Inside, no hook evaluates frames that was there before; what it was there for cannot be compiled."""
    there = hook()
    if there == PYTHON:
        yield
        return
    set_hook(PYTHON)
    try:
        yield
    finally:
        set_hook(there)
