"""One run of the language model over a few rows: prefill once, then a token per step.

Rows are batch items, and with classifier-free guidance their unconditional twins. Whatever prompts
have in common is computed once and copied: items of a batch share everything, the two branches share
all but the plan, and a second phase starts from the first one's prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from acestep.models.qwen3 import Cache, Qwen3


@dataclass
class Prefix:
    """Tokens whose keys and values `[L, m, n, d]` are already known."""

    ids: list[int]
    keys: Tensor
    values: Tensor


class Session:
    """Rows of a static cache. `hidden [R, H]` is the state that predicts each row's next token."""

    def __init__(self, model: Qwen3, prompts: Sequence[list[int]], copies: int, new_tokens: int):
        """Rows `[prompt 0] * copies + [prompt 1] * copies + ...` with room for `new_tokens` more."""
        weight = model.embed_tokens.weight
        self.model = model
        self.prompts = list(prompts)
        self.copies = copies
        self.rows = len(prompts) * copies
        slots = max(map(len, prompts)) + new_tokens
        self.cache = Cache(model.config, self.rows, slots, weight.dtype, weight.device)
        self.device = weight.device
        self.slot = 0
        self.next_position = torch.zeros(self.rows, 1, dtype=torch.long, device=self.device)
        self.hidden = weight.new_zeros(self.rows, model.config.hidden_size)
        self.prefill_tokens = 0

    def prefill(self, known: Prefix | None = None) -> None:
        """Run the prompts, starting from what `known` and the prompts themselves share."""
        shared = _common(self.prompts)
        reused = min(shared, _common([known.ids, self.prompts[0]])) if known else 0
        if known and reused:
            self.cache.keys[:, :, :, :reused] = known.keys[:, None, :, :reused]
            self.cache.values[:, :, :, :reused] = known.values[:, None, :, :reused]
            self.cache.visible[:, :reused] = True
        if shared > reused:
            self._run(self.prompts[0][reused:shared], slice(0, 1), reused, reused)
            self._copy(0, slice(0, self.rows), reused, shared)
        for index, prompt in enumerate(self.prompts):
            first = index * self.copies
            group = slice(first, first + self.copies)
            self.hidden[group] = self._run(prompt[shared:], slice(first, first + 1), shared, shared)
            self._copy(first, group, shared, len(prompt))
            self.next_position[group] = len(prompt)
        self.slot = max(map(len, self.prompts))

    def append(self, ids: Sequence[int]) -> None:
        """Feed the same forced tokens to every row, as one pass."""
        block = torch.tensor([list(ids)], device=self.device).expand(self.rows, -1)
        self._advance(block)
        self.prefill_tokens += block.numel()

    def step(self, tokens: Tensor) -> None:
        """Feed one token per item: `tokens [copies]`, the same to every branch."""
        self._advance(tokens.repeat(len(self.prompts))[:, None])

    def prefix(self) -> Prefix:
        """The first prompt with its keys and values, for a later session."""
        ids = self.prompts[0]
        return Prefix(ids, self.cache.keys[:, 0, :, : len(ids)], self.cache.values[:, 0, :, : len(ids)])

    def _advance(self, block: Tensor) -> None:
        count = block.shape[1]
        positions = self.next_position + torch.arange(count, device=self.device)
        self.hidden = self.model.extend(block, positions, self.cache, slice(0, self.rows), self.slot)
        self.next_position = self.next_position + count
        self.slot += count

    def _run(self, ids: list[int], row: slice, slot: int, position: int) -> Tensor:
        positions = position + torch.arange(len(ids), device=self.device)[None]
        self.prefill_tokens += len(ids)
        return self.model.extend(torch.tensor([ids], device=self.device), positions, self.cache, row, slot)

    def _copy(self, source: int, rows: slice, start: int, end: int) -> None:
        for stored in (self.cache.keys, self.cache.values):
            stored[:, rows, :, start:end] = stored[:, source : source + 1, :, start:end].clone()
        self.cache.visible[rows, start:end] = True


def _common(prompts: Sequence[list[int]]) -> int:
    """Length of the longest shared prefix, leaving every prompt at least one token of its own."""
    limit = min(map(len, prompts)) - 1
    for index in range(limit):
        if len({prompt[index] for prompt in prompts}) > 1:
            return index
    return limit
