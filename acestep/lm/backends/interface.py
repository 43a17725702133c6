"""The interface of a language model backend: decode loops over weights that are loaded once.

    pt     our own model in PyTorch           every device
    vllm   vLLM                               CUDA cards; CPUs to compare with
    mlx    mlx-lm                             Apple GPUs; CPUs to compare with

Prompts, grammar, guidance and sampling are the same code for all three (`acestep.lm.decode.selector`): a
backend turns tokens into logits. Greedy output of the three is therefore the same, token for token, up to
ties that rounding breaks.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from acestep.lm.decode.selector import Guidance
    from acestep.lm.decode.step import OnCode
    from acestep.lm.grammar.constraint import Constraint
    from acestep.result import Counts
    from harness.adjustments import Fallback
    from harness.nn.sampling import Sampling


class DecodeLoop(Protocol):
    """One request at the language model, in one or two phases, and a count of what was done.

    `prompts`: token ids, one prompt per item. `fallbacks`: what could not be done as it should.
    """

    fallbacks: list[Fallback]

    def texts(self, prompts: Sequence[list[int]], constraints: Sequence[Constraint]) -> list[list[int]]:
        """Token ids, one text per item, each under its own constraint to its end. Never guided."""
        ...

    def codes(
        self,
        prompts: Sequence[list[int]],
        counts: Sequence[int],
        guidance: Guidance | None = None,
        on_code: OnCode | None = None,
    ) -> list[Tensor]:
        """Audio codes, int64 `[counts[i]]` per item, on the device.

        `on_code` is called once a code of the longest item, with 1, 2, ... It waits for no device and reads
        nothing back, so a code is told when the host is through with it:

            pt on a CPU, mlx    it is there
            pt on a card        its step is launched, recorded or not. The first follows the wait that ends
                                `lm_prefill` or `compile`, and is early by one head and one draw; the others
                                run ahead of the card as far as its queue goes
            vllm                it is chosen; vLLM itself reads it back at the end of its step, so at most
                                one is under way
        """
        ...

    def counts(self) -> Counts: ...


class Backend(Protocol):
    """A language model."""

    name: ClassVar[str]  # what really runs

    def load(self) -> None:
        """Bring the weights into memory, once. Raises CheckpointError or MissingPrerequisite."""
        ...

    def using(self) -> AbstractContextManager[object]:
        """Inside, the weights are on the device."""
        ...

    def decode_loop(self, sampling: Sampling, seeds: Sequence[int]) -> DecodeLoop:
        """A request of one item per seed."""
        ...

    def facts(self) -> dict[str, Any]:
        """Read back from what is loaded: device, dtype, weight bytes, versions."""
        ...

    def close(self) -> None:
        """Give the memory back. A closed backend loads again."""
        ...
