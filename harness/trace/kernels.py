"""Work of one ATen operator on a card: FLOP, bytes, launches.

One operator is one kernel, unless it only looks at memory in another way. It reads its inputs once and
writes its outputs once: caches inside the card are no model's business. A multiply-add is 2 FLOP, counted
for matrices, convolutions and attention; the rest is traffic. FLOP are those of torch's own counter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import flop_registry

from harness.trace.stage_costs import Attention, Convolution, Matmul, Work
from harness.virtual_card import key_of

aten = torch.ops.aten

EMPTY = {aten.empty, aten.empty_like, aten.empty_strided, aten.new_empty, aten.new_empty_strided}
# What is read or written is as much as comes out or goes in, and not the whole table.
PICKS = {aten.embedding, aten.index, aten.index_select, aten.gather}
PUTS = {aten.index_put_, aten._index_put_impl_, aten.scatter_, aten.scatter_add_}
# In place, and what was there before is not looked at.
OVERWRITES = {aten.copy_, aten.fill_, aten.zero_, aten.normal_, aten.uniform_, aten.random_}

# Of what has FLOP; the rest of it multiplies matrices.
KINDS = {
    aten.convolution: Convolution,
    aten._convolution: Convolution,
    aten._scaled_dot_product_flash_attention_for_cpu: Attention,
}

TAKES_HOST_TENSORS = {aten.copy_, aten.index, aten.index_put_, aten._index_put_impl_}


def moves_nothing(func: Any, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> bool:
    """Whether `func` writes no values: it returns a view, or uninitialised memory."""
    if func._overloadpacket in EMPTY:
        return True
    old = set(map(key_of, inputs))
    return not func._schema.is_mutable and all(key_of(tensor) in old for tensor in outputs)


def work(
    func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], inputs: Sequence[Tensor], output: Any
) -> Work:
    """Work of `func` from the tensors `inputs` on the card to `output`."""
    packet = func._overloadpacket
    results = [output] if isinstance(output, Tensor) else [t for t in output or () if isinstance(t, Tensor)]
    written = sum(map(reach_bytes, results))
    if packet in PUTS:
        written = sum(map(reach_bytes, inputs[1:]))
        read = written
    elif packet in PICKS:
        read = written + sum(map(reach_bytes, inputs[1:]))
    else:
        read = sum(map(reach_bytes, inputs[1:] if packet in OVERWRITES else inputs))
    if isinstance(target := kwargs.get("out"), Tensor):  # is among the inputs, and not looked at
        read -= reach_bytes(target)
    count = flop_registry.get(aten.mm if packet is aten._int_mm else packet)
    flop = count(*_sizes(args), **_sizes(kwargs), out_val=_sizes(output)) if count else 0
    if packet is aten._scaled_dot_product_flash_attention_for_cpu:  # which torch's counter does not know
        flop = attention_flop(*args[:3], ahead=0 if any(args[4:]) else None)
    kind = KINDS.get(packet, Matmul) if flop else Work
    return kind(flop=int(flop), read_bytes=read, written_bytes=written, launches=1)


def _sizes(value: Any) -> Any:
    """Sizes in place of tensors, which torch's counter would do, and keep the tensors for a while."""
    if isinstance(value, Tensor):
        return value.shape
    if isinstance(value, dict):
        return {name: _sizes(part) for name, part in value.items()}
    return tuple(map(_sizes, value)) if isinstance(value, (tuple, list)) else value


def reach_bytes(tensor: Tensor) -> int:
    """Bytes of memory that `tensor` covers: an expanded axis is the same bytes again."""
    size = tensor.element_size()
    for length, stride in zip(tensor.shape, tensor.stride(), strict=True):
        size *= length if stride else 1
    return size


def attention_flop(
    q: Tensor, k: Tensor, v: Tensor, behind: int | None = None, ahead: int | None = None
) -> int:
    """Of scores and of their sum of values, `q [B, n, S, d]` over the keys of `k [B, m, E, d]`: every one, or
    as many as there are queries, at most so many `behind` a query and `ahead` of it. 0 ahead is causal.

    Keys outside are skipped, but for those that fill a tile, which are left out here. Of keys that a mask
    hides a kernel knows nothing.
    """
    batch, heads, queries, size = q.shape
    pairs = queries * k.shape[2]
    for most in (behind, ahead):
        beyond = 0 if most is None else max(queries - 1 - most, 0)  # keys of the outermost query
        pairs -= beyond * (beyond + 1) // 2
    return 2 * batch * heads * pairs * (size + v.shape[3])
