"""What vLLM calls of ours, through its public interfaces: a model loader and a logits processor.

The loader hands over the tensors of a source one at a time, so that no checkpoint need be on disk in the
layout vLLM knows. The processor gathers the rows of a request, lets them be chosen from, and leaves exactly
the chosen tokens possible: vLLM's own sampler has no choice left.

Imports vllm; `acestep.lm.backends.vllm_backend` makes sure that it is there.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from vllm import SamplingParams  # pyright: ignore[reportMissingImports]
from vllm.model_executor.model_loader import register_model_loader  # pyright: ignore[reportMissingImports]
from vllm.model_executor.model_loader.base_loader import (  # pyright: ignore[reportMissingImports]
    BaseModelLoader,
)
from vllm.v1.sample.logits_processor import (  # pyright: ignore[reportMissingImports]
    BatchUpdate,
    LogitsProcessor,
    MoveDirectionality,
)

from acestep.lm.backends.vllm_decode import Request
from acestep.text.tokenizer import IM_END

LOAD_FORMAT = "acestep"
ROW = "row"  # the number of a request's row, among its extra arguments


def to_read() -> SamplingParams:
    """Parameters of a request that only brings its prompt into the cache."""
    return SamplingParams(temperature=0, max_tokens=1, detokenize=False)


def to_write(row: int, most: int) -> SamplingParams:
    """Parameters of the request that writes `row`, to its <|im_end|> or `most` tokens."""
    return SamplingParams(
        temperature=0,
        max_tokens=most,
        ignore_eos=True,
        stop_token_ids=[IM_END],
        detokenize=False,
        extra_args={ROW: row},
    )


@register_model_loader(LOAD_FORMAT)
class SourceLoader(BaseModelLoader):
    """Loads `model_loader_extra_config["weights"]` (`harness.checkpoint.Weights`), and notes in its "facts"
    (a dict) what they became."""

    def download_model(self, model_config: Any) -> None:
        pass  # they are here

    def load_weights(self, model: nn.Module, model_config: Any) -> None:
        config = self.load_config.model_loader_extra_config
        weights = config["weights"]
        model.load_weights((f"model.{name}", weights.read(name)) for name in weights.shapes())  # type: ignore[operator]
        parameters = list(model.parameters())  # as they are now: later a CPU repacks some out of sight
        config["facts"].update(
            device=", ".join(sorted({str(p.device) for p in parameters})),
            dtype=", ".join(sorted({str(p.dtype).removeprefix("torch.") for p in parameters})),
            weight_bytes=sum(p.nbytes for p in parameters),
        )


def processor_of(requests: list[Request]) -> type[LogitsProcessor]:
    """A class of processors that serve `requests`; vLLM makes the instance."""
    return type("RequestProcessor", (Processor,), {"requests": requests})


class Processor(LogitsProcessor):
    """Steers the requests that carry a row number; others, which only read a prompt, go as they like."""

    requests: ClassVar[list[Request]]  # at most one: what is being written

    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool):
        self._rows: dict[int, int] = {}  # by place in vLLM's batch

    def is_argmax_invariant(self) -> bool:
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        if batch_update is None:
            return
        for place in batch_update.removed:
            self._rows.pop(place, None)
        for place, params, *_ in batch_update.added:
            self._put(place, _row(params))
        for one, other, direction in batch_update.moved:
            mover, moved = self._rows.pop(one, None), self._rows.pop(other, None)
            self._put(other, mover)
            if direction is MoveDirectionality.SWAP:
                self._put(one, moved)

    def apply(self, logits: Tensor) -> Tensor:
        """Raises RuntimeError where vLLM did not run the rows of the request together."""
        if not self._rows:
            return logits
        order = sorted(self._rows, key=self._rows.__getitem__)
        rows, [request] = [self._rows[place] for place in order], self.requests
        if rows != request.rows:
            raise RuntimeError(f"vllm ran the rows {rows} in one step, and not {request.rows}: report this")
        places = torch.tensor(order, device=logits.device)
        tokens = request.next(logits[places])
        logits.fill_(-torch.inf)
        logits[places, tokens] = 0
        return logits

    def _put(self, place: int, row: int | None) -> None:
        if row is None:
            self._rows.pop(place, None)
        else:
            self._rows[place] = row


def _row(params: SamplingParams) -> int | None:
    return (params.extra_args or {}).get(ROW)
