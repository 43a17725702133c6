"""The language model in PyTorch: our own, over a static cache, where the engine's other models are.

Prompts and texts run eagerly. Steps of audio codes are compiled where the engine compiles, and recorded where
the device can.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch

from acestep.lm.backends.finite import CheckedDecodeLoop
from acestep.lm.decode.kv_cache import KVState, Prefix
from acestep.lm.decode.selector import TokenSelector
from harness.compiling import Compiled
from harness.graphs import Graphs
from harness.nn.qwen3 import Qwen3, as_compiled, eagerly
from harness.nn.sampling import Sampling
from harness.residency import stored


@dataclass(frozen=True)
class PT:
    """`load` materialises the model and `using` has it on `device`, where the engine manages its memory."""

    name: ClassVar[str] = "pt"

    model: Qwen3
    device: torch.device
    load: Callable[[], None] = lambda: None
    using: Callable[[], AbstractContextManager[object]] = nullcontext
    graphs: bool = False  # decode steps are recorded, where the device can
    compiled: Compiled | None = None  # by which the layers of decode steps are

    def __post_init__(self) -> None:
        if self.compiled:
            self.compiled.layers(self.model.layers)

    def decode_loop(self, sampling: Sampling, seeds: Sequence[int]) -> CheckedDecodeLoop:
        selector = TokenSelector(sampling, seeds, self.device)
        return CheckedDecodeLoop(
            selector, self._open, partial(Graphs.on, self.device, self.graphs), self.compiled
        )

    def facts(self) -> dict[str, Any]:
        parameters = list(self.model.parameters())
        parts = [part for parameter in parameters for part in stored(parameter)]
        return {
            "version": f"torch {torch.__version__}",
            "device": str(self.device),
            "dtype": ", ".join(sorted({str(p.dtype).removeprefix("torch.") for p in parameters})),
            "weight_bytes": sum(part.nbytes for part in parts),
        }

    def close(self) -> None:
        """Nothing to do: the model's memory is the engine's."""

    def _open(self, prompts: Sequence[list[int]], new_tokens: int, known: Sequence[Prefix]) -> KVState:
        run = as_compiled if self.compiled else eagerly
        state = KVState(self.model, prompts, new_tokens, self.device, run)
        state.prefill(known)
        return state
