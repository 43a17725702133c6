"""States of a language model that are no numbers, as an overflow of fp16 leaves them: told once a phase.

The sampler does not tell. Of logits that are NaN a card draws the first code, every time; on a CPU the bits
of a NaN may be no place in its histograms, and it fails. A row that is NaN stays so, as each of its later
tokens attends to it: one look is enough, after the stage, whose steps are what they were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from acestep.lm.decode.loop import CachedDecodeLoop
from acestep.lm.decode.selector import Guidance
from acestep.lm.decode.step import OnCode
from acestep.lm.grammar.constraint import Constraint
from harness.errors import BenchError

NOT_FINITE = "language model: logits are NaN or infinite; download the weights again, or try --dtype fp32"


@contextmanager
def checked(finite: Callable[[], bool]) -> Iterator[None]:
    """A phase, at whose end what was last predicted from is to be `finite()`. Raises BenchError."""
    try:
        yield
    except (RuntimeError, BenchError) as error:  # the sampler's, and the grammar's
        if finite():
            raise
        raise BenchError(NOT_FINITE) from error
    if not finite():
        raise BenchError(NOT_FINITE)


class CheckedDecodeLoop(CachedDecodeLoop):
    """A decode loop in this process. Raises BenchError where a phase ends in states that are no numbers."""

    _opened: Any = None  # the KV state of the phase

    def texts(self, prompts: Sequence[list[int]], constraints: Sequence[Constraint]) -> list[list[int]]:
        with checked(self._ends_finite):
            return super().texts(prompts, constraints)

    def codes(
        self,
        prompts: Sequence[list[int]],
        counts: Sequence[int],
        guidance: Guidance | None = None,
        on_code: OnCode | None = None,
    ) -> list[Tensor]:
        with checked(self._ends_finite):
            return super().codes(prompts, counts, guidance, on_code)

    def _open(self, rows: Sequence[list[int]], new_tokens: int) -> Any:
        self._opened = None  # its memory is needed
        self._opened = super()._open(rows, new_tokens)
        return self._opened

    def _ends_finite(self) -> bool:
        state, self._opened = self._opened, None
        return state is None or self.finite(state.hidden)

    def finite(self, hidden: Any) -> bool:
        """Whether all of `hidden [R, H]`, in the backend's own arrays, are numbers."""
        return bool(hidden.isfinite().all())
