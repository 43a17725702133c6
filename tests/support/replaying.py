"""A recorder for the CPU: what CUDA graphs are, made of operators.

A recording is a list of operators with the tensors and numbers they were given. Replayed, each runs again on
those, and its result is written to where the first one was. So what a step takes from Python, or from a
tensor that is made anew each time, is as it was when it was recorded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from harness.virtual_card import key_of, tensors


class _Recording(TorchDispatchMode):
    """Operators as they run; `undo` takes back what they have written."""

    def __init__(self) -> None:
        super().__init__()
        self.operators: list[tuple[Any, Any, Any, list[Tensor]]] = []
        self._before: list[tuple[Tensor, Tensor]] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        parameters = func._schema.arguments
        values = [*args, *(kwargs.get(parameter.name) for parameter in parameters[len(args) :])]
        for parameter, value in zip(parameters, values, strict=True):
            if parameter.alias_info and parameter.alias_info.is_write and value is not None:
                self._before.append((value, value.clone()))
        old = set(map(key_of, tensors((args, kwargs.values()))))
        output = func(*args, **kwargs)
        results = list(tensors((output,)))
        if func._schema.is_mutable or any(key_of(tensor) not in old for tensor in results):
            self.operators.append((func, args, kwargs, [t for t in results if key_of(t) not in old]))
        return output

    def undo(self) -> None:
        for tensor, value in reversed(self._before):
            tensor.copy_(value)

    def replay(self) -> None:
        for func, args, kwargs, new in self.operators:
            output = func(*args, **kwargs)
            results = list(tensors((output,)))[-len(new) :] if new else []
            for recorded, result in zip(new, results, strict=True):
                recorded.copy_(result)


class Replaying:
    """Records steps of the CPU; `recorded` and `replayed` count them."""

    def __init__(self, device: torch.device | None = None):
        self.recorded = self.replayed = 0

    def record(self, step: Callable[[], None]) -> Callable[[], None]:
        recording = _Recording()
        with recording:
            step()
        recording.undo()
        self.recorded += 1

        def replay() -> None:
            self.replayed += 1
            recording.replay()

        return replay
