"""Qwen3 of mlx-lm: the weights of a source, and the KV state of rows in its batch cache.

MLX computes when a value is asked for: a pass over the model runs with the head that follows it. Rows end
together: a row that is fed less than another is padded, and the cache then moves the padding in front of it.

Imports mlx; `acestep.lm.backends.mlx_backend` makes sure that it is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass

import mlx.core as mx  # pyright: ignore[reportMissingImports]
import msgspec
import numpy as np
import torch
from mlx.utils import tree_flatten  # pyright: ignore[reportMissingImports]
from mlx_lm.models.cache import (  # pyright: ignore[reportMissingImports]
    BatchKVCache,
    KVCache,
    make_prompt_cache,
    trim_prompt_cache,
)
from mlx_lm.models.qwen3 import Model, ModelArgs  # pyright: ignore[reportMissingImports]
from torch import Tensor

from acestep.lm.decode.loop import common_prefix
from acestep.weights.checkpoint import Source
from harness.checkpoint import check_shapes
from harness.nn.config import Qwen3Config, parse_config
from harness.spans import span

PREFIX = "model."  # of every name in mlx-lm's model, and of none in a source


def load(source: Source, folder: str, dtype: torch.dtype) -> Model:
    """The language model `folder` of `source` in `dtype`, on MLX's default device.

    Tensors are read, cast and handed over one at a time, bit for bit. Raises CheckpointError.
    """
    config = parse_config(source.config(folder), Qwen3Config, f"{source.name}/{folder}/config.json")
    # How far positions may go matters only where RoPE is stretched, and here it is not.
    rest = {"tie_word_embeddings": True, "max_position_embeddings": 0}
    model = Model(ModelArgs.from_dict(msgspec.structs.asdict(config) | rest))
    weights = source.weights(folder)
    expected = {name.removeprefix(PREFIX): array.shape for name, array in tree_flatten(model.parameters())}
    check_shapes(expected, weights)
    model.load_weights([(PREFIX + name, mx.array(weights.read(name).to(dtype))) for name in expected])
    model.eval()
    return model


@dataclass(frozen=True)
class Prefix:
    """Tokens whose keys and values are already known, `caches` by layer."""

    ids: list[int]
    caches: list[KVCache]


class KVState:
    """Rows of mlx-lm's KV cache. `hidden [R, H]` is the state that predicts each row's next token."""

    buffers = ()  # a step makes new arrays

    def __init__(self, model: Model, prompts: Sequence[list[int]], known: Sequence[Prefix] = ()):
        """Read the prompts; what one of `known`, or a prompt before, begins with is taken from it."""
        self.model = model
        self.prompts = prompts
        self.prefill_tokens = 0
        read: dict[tuple[int, ...], tuple[Prefix, mx.array]] = {}
        for prompt in sorted(prompts, key=len):  # one that another begins with comes before it
            if tuple(prompt) not in read:
                earlier = [prefix for prefix, _ in read.values()]
                read[tuple(prompt)] = self._read(prompt, [*known, *earlier])
        prefixes, states = zip(*(read[tuple(prompt)] for prompt in prompts), strict=True)
        by_layer = zip(*(prefix.caches for prefix in prefixes), strict=True)
        self._caches = [BatchKVCache.merge(rows) for rows in by_layer]
        self.hidden = mx.concatenate(states)
        mx.eval(self.hidden, [cache.state for cache in self._caches])

    def extend(self, runs: Sequence[Sequence[int]]) -> None:
        """Feed each row a run of its own, as one pass; a row with an empty run stays where it is."""
        lengths = [len(run) for run in runs]
        pads = [max(lengths) - length for length in lengths]
        for cache in self._caches:
            cache.prepare(right_padding=pads)
        states = self._run([[*run, *[0] * pad] for run, pad in zip(runs, pads, strict=True)])
        for cache in self._caches:
            cache.finalize()
        length = mx.array(lengths)[:, None]
        last = mx.take_along_axis(states, mx.maximum(length - 1, 0)[..., None], axis=1)[:, 0]
        self.hidden = mx.where(length > 0, last, self.hidden)

    def step(self, tokens: Tensor) -> None:
        """Feed every row one token: `tokens [R]`, on the host."""
        self.hidden = self._run(tokens[:, None].numpy())[:, -1]

    def window(self, rows: int, new: int) -> KVState:
        """This state, which goes on with the first `rows` rows only."""
        if rows < len(self.hidden):
            self.hidden = self.hidden[:rows]
            for cache in self._caches:
                cache.filter(mx.arange(rows))
        return self

    def head(self, rows: slice | Tensor) -> Tensor:
        """fp32 logits `[R, V]` of `V` rows of the head, in MLX's own memory: no copy."""
        table = self.model.model.embed_tokens.weight
        with span("forward"):
            some = table[rows if isinstance(rows, slice) else mx.array(rows.numpy())]
            return torch.from_numpy(np.asarray((self.hidden @ some.T).astype(mx.float32)))

    def prefix(self, row: int) -> Prefix:
        """A row's prompt with its keys and values, for a later state."""
        ids = self.prompts[row]
        caches = [cache.extract(row) for cache in self._caches]
        trim_prompt_cache(caches, caches[0].size() - len(ids))
        return Prefix(ids, caches)

    def _read(self, prompt: list[int], known: Sequence[Prefix]) -> tuple[Prefix, mx.array]:
        """A prompt's keys and values, and its last state `[1, H]`, which is always computed."""
        shared = [common_prefix([prefix.ids, prompt[:-1]]) for prefix in known]
        start = max(shared, default=0)
        if start:
            best = known[shared.index(start)]
            caches = deepcopy(best.caches)
            trim_prompt_cache(caches, len(best.ids) - start)
        else:
            caches = make_prompt_cache(self.model)
        states = self.model.model(mx.array([prompt[start:]]), caches)
        self.prefill_tokens += len(prompt) - start
        return Prefix(prompt, caches), states[:, -1]

    def _run(self, ids: list[list[int]] | np.ndarray) -> mx.array:
        return self.model.model(mx.array(ids), self._caches)
