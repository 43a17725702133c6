"""The KV cache of a few rows, and the model over it: prefill once, then a few tokens at a time.

Rows are batch items, each beside its unconditional twin where there is guidance. Every row has its own
prompt and its own length; what prompts have in common is computed once and copied, and a second phase
starts from the first one's prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from acestep.lm.decode.loop import common_prefix
from harness.nn.qwen3 import Cache, Qwen3, few_rows
from harness.spans import span


@dataclass(frozen=True)
class Prefix:
    """Tokens whose keys and values `[L, m, n, d]` are already known."""

    ids: list[int]
    keys: Tensor
    values: Tensor


class KVState:
    """Rows of a static KV cache. `hidden [R, H]` is the state that predicts each row's next token."""

    def __init__(self, model: Qwen3, prompts: Sequence[list[int]], new_tokens: int, device: torch.device):
        """One row per prompt, with room for `new_tokens` more in each."""
        dtype = model.embed_tokens.weight.dtype
        self.model = model
        self.prompts = list(prompts)
        self.lengths = [len(prompt) for prompt in prompts]
        self.device = device
        self.cache = Cache(model.config, len(prompts), max(self.lengths) + new_tokens, dtype, device)
        self.hidden = torch.zeros(len(prompts), model.config.hidden_size, dtype=dtype, device=device)
        self.prefill_tokens = 0
        self._next = torch.tensor(self.lengths, device=device)[:, None]  # position of the next token

    def prefill(self, known: Sequence[Prefix] = ()) -> None:
        """Run the prompts; what one of `known` begins with is taken from it."""
        self._prefill(range(len(self.prompts)), 0, known)

    def extend(self, runs: Sequence[Sequence[int]]) -> None:
        """Feed each row a run of its own, as one pass; a row with an empty run stays where it is."""
        longest = max(map(len, runs))
        pads = [longest - len(run) for run in runs]
        ids = torch.tensor([[0] * pad + list(run) for pad, run in zip(pads, runs, strict=True)])
        offsets = (torch.arange(longest) - torch.tensor(pads)[:, None]).to(self.device)
        positions = torch.where(offsets < 0, self.cache.padding, self._next + offsets)
        hidden = self._run(ids.to(self.device), positions, [len(run) for run in runs])
        moved = offsets[:, -1:] >= 0
        self.hidden = torch.where(moved, hidden, self.hidden)
        self._next = torch.where(moved, positions[:, -1:] + 1, self._next)

    def step(self, tokens: Tensor) -> None:
        """Feed every row one token: `tokens [R]`, on the device."""
        self.hidden = self._run(tokens[:, None], self._next, [1] * len(self.lengths))
        self._next = self._next + 1

    def keep(self, rows: int) -> None:
        """Go on with the first `rows` rows only."""
        self.lengths = self.lengths[:rows]
        self.hidden, self._next = self.hidden[:rows], self._next[:rows]

    def head(self, rows: slice | Tensor) -> Tensor:
        """fp32 logits `[R, V]` of each row's next token, over `V` rows of the head."""
        with span("forward"), few_rows(len(self.hidden)):
            return F.linear(self.hidden, self.model.embed_tokens.weight[rows]).float()

    def prefix(self, row: int) -> Prefix:
        """A row's prompt with its keys and values, for a later state."""
        ids = self.prompts[row]
        keys, values = (stored[:, row, :, : len(ids)].clone() for stored in self._stored())
        return Prefix(ids, keys, values)

    def _run(self, ids: Tensor, positions: Tensor, counts: list[int]) -> Tensor:
        self.lengths = [length + count for length, count in zip(self.lengths, counts, strict=True)]
        with few_rows(ids.numel()):
            return self.model.extend(ids, positions, self.cache, slice(0, len(counts)), max(self.lengths))

    def _prefill(self, rows: Sequence[int], start: int, known: Sequence[Prefix]) -> None:
        """Run what the prompts of `rows` share from `start`, then each way they go on from there."""
        first, prompts = rows[0], {row: self.prompts[row] for row in rows}
        end = common_prefix(list(prompts.values()))
        ending = [row for row in rows if len(prompts[row]) == end]
        done = max(start, self._recall(first, end - bool(ending), known))
        if done < end:
            positions = torch.arange(done, end, device=self.device)[None]
            ids = torch.tensor([prompts[first][done:end]], device=self.device)
            row = slice(first, first + 1)
            self.hidden[ending] = self.model.extend(ids, positions, self.cache, row, end)
            self.prefill_tokens += end - done
        for stored in self._stored():
            for row in rows[1:]:
                stored[:, row, :, start:end] = stored[:, first, :, start:end]
        branches: dict[int, list[int]] = {}
        for row in rows:
            if row not in ending:
                branches.setdefault(prompts[row][end], []).append(row)
        for branch in branches.values():
            self._prefill(branch, end, known)

    def _recall(self, row: int, end: int, known: Sequence[Prefix]) -> int:
        """Fill `row` with what is known of its prompt, up to `end`; how far that is."""
        lengths = [common_prefix([prefix.ids, self.prompts[row][:end]]) for prefix in known]
        reused = max(lengths, default=0)
        if reused:
            best = known[lengths.index(reused)]
            for stored, known_part in zip(self._stored(), (best.keys, best.values), strict=True):
                stored[:, row, :, :reused] = known_part[:, :, :reused]
        return reused

    def _stored(self) -> tuple[Tensor, Tensor]:
        return self.cache.keys, self.cache.values
