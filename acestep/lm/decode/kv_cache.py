"""The KV cache of a few rows, and the model over it: prefill once, then a few tokens at a time.

Rows are batch items, each beside its unconditional twin where there is guidance. Every row has its own
prompt and its own length; what prompts have in common is computed once and copied, and a second phase
starts from the first one's prompts.

Cache, hidden states and positions are buffers: written in place, never made anew. A step of one token per
row is a `Window` of them, and does the same to the same memory each time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from acestep.lm.decode.loop import common_prefix
from harness.nn.qwen3 import Cache, Qwen3, RunLayer, block_of, eagerly, few_rows
from harness.spans import span


@dataclass(frozen=True)
class Prefix:
    """Tokens whose keys and values `[L, m, n, d]` are already known."""

    ids: list[int]
    keys: Tensor
    values: Tensor


class KVState:
    """Rows of a static KV cache.

    `hidden [R, H]` predicts each row's next token, whose position is in `positions [R, 1]`. `lengths`: tokens
    of each row, but for those of steps.
    """

    def __init__(
        self,
        model: Qwen3,
        prompts: Sequence[list[int]],
        new_tokens: int,
        device: torch.device,
        run: RunLayer = eagerly,
    ):
        """One row per prompt, with room for `new_tokens` more in each; `run` is how steps run a layer."""
        dtype = model.embed_tokens.weight.dtype
        self.model = model
        self.run = run
        self.prompts = list(prompts)
        self.lengths = [len(prompt) for prompt in prompts]
        self.device = device
        self.block = block_of(device)
        slots = self._whole_blocks(max(self.lengths) + new_tokens)
        self.cache = Cache(model.config, len(prompts), slots, dtype, device)
        self.hidden = torch.zeros(len(prompts), model.config.hidden_size, dtype=dtype, device=device)
        self.positions = torch.tensor(self.lengths, device=device)[:, None]
        self.prefill_tokens = 0

    @property
    def buffers(self) -> list[Tensor]:
        """What a step changes, but for slots of the cache."""
        return [self.hidden, self.positions]

    def prefill(self, known: Sequence[Prefix] = ()) -> None:
        """Run the prompts; what one of `known` begins with is taken from it."""
        self._prefill(range(len(self.prompts)), 0, known)

    def extend(self, runs: Sequence[Sequence[int]]) -> None:
        """Feed each row a run of its own, as one pass; a row with an empty run stays where it is."""
        longest = max(map(len, runs))
        pads = [longest - len(run) for run in runs]
        ids = torch.tensor([[0] * pad + list(run) for pad, run in zip(pads, runs, strict=True)])
        offsets = (torch.arange(longest) - torch.tensor(pads)[:, None]).to(self.device)
        positions = torch.where(offsets < 0, self.cache.padding, self.positions + offsets)
        self.lengths = [length + len(run) for length, run in zip(self.lengths, runs, strict=True)]
        rows = slice(0, len(runs))
        with few_rows(ids.numel()):
            hidden = self.model.extend(ids.to(self.device), positions, self.cache, rows, max(self.lengths))
        moved = offsets[:, -1:] >= 0
        torch.where(moved, hidden, self.hidden, out=self.hidden)
        torch.where(moved, positions[:, -1:] + 1, self.positions, out=self.positions)

    def window(self, rows: int, new: int) -> Window:
        """The first `rows` rows, at the step that feeds each its token number `new`, from 1."""
        return Window(self, rows, self._whole_blocks(max(self.lengths[:rows]) + new))

    def head(self, rows: slice | Tensor) -> Tensor:
        """fp32 logits `[R, V]` of each row's next token, over `V` rows of the head."""
        return self.logits(self.hidden, rows)

    def logits(self, hidden: Tensor, rows: slice | Tensor) -> Tensor:
        """fp32 logits `[r, V]` of `hidden [r, H]`, over `V` rows of the head."""
        with span("forward"), few_rows(len(hidden)):
            return F.linear(hidden, self.model.embed_tokens.weight[rows]).float()

    def prefix(self, row: int) -> Prefix:
        """A row's prompt with its keys and values, for a later state."""
        ids = self.prompts[row]
        keys, values = (stored[:, row, :, : len(ids)].clone() for stored in self._stored())
        return Prefix(ids, keys, values)

    def _whole_blocks(self, slots: int) -> int:
        return -(-slots // self.block) * self.block

    def _prefill(self, rows: Sequence[int], start: int, known: Sequence[Prefix]) -> None:
        """Run what the prompts of `rows` share from `start`, then each way they go on from there."""
        first, prompts = rows[0], {row: self.prompts[row] for row in rows}
        end = common_prefix(list(prompts.values()))
        ending = [row for row in rows if len(prompts[row]) == end]
        done = max(start, self._recall(first, end - bool(ending), known))
        if done < end:
            self.hidden[ending] = self._read(first, done, end)
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

    def _read(self, row: int, start: int, end: int) -> Tensor:
        """Run a part of the prompt of `row`; the final hidden state of its last token `[1, H]`."""
        ids = torch.tensor([self.prompts[row][start:end]], device=self.device)
        rows = slice(row, row + 1)
        if start == 0:
            return self.model.begin(ids, self.cache, rows)
        positions = torch.arange(start, end, device=self.device)[None]
        return self.model.extend(ids, positions, self.cache, rows, end)

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


@dataclass(frozen=True)
class Window:
    """A step's part of `state`: the first `rows` rows, and the slots below `end`. Steps of equal windows are
    the same kernels on the same memory."""

    state: KVState
    rows: int
    end: int

    def step(self, tokens: Tensor) -> None:
        """Feed each row one token: `tokens [rows]`, on the device."""
        state, rows = self.state, slice(0, self.rows)
        positions = state.positions[rows]
        with few_rows(self.rows):
            hidden = state.model.extend(tokens[:, None], positions, state.cache, rows, self.end, state.run)
        state.hidden[rows].copy_(hidden)
        positions.add_(1)

    def head(self, rows: slice | Tensor) -> Tensor:
        """fp32 logits `[rows, V]` of each row's next token, over `V` rows of the head."""
        return self.state.logits(self.state.hidden[: self.rows], rows)
