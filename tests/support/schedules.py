"""Kernels of a function as Inductor's scheduler for GPUs groups them, and as our rule does.

The scheduler needs no card and no Triton up to the point where code is written. Tensors are of the CPU, where
Inductor joins them by copies; here it joins them as it does on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from allocations import Small
from torch import Tensor

from harness.nn.attend import causal, full
from harness.nn.blocks import rope_table
from harness.nn.packed import Packed
from harness.nn.qwen3 import CachedAttention
from harness.trace import fusion, inlining, regions
from harness.trace.fusion import Kernel, Launch

# Of each kernel that is generated: points, rows where it reduces, bytes that it writes.
Loops = list[tuple[int, int, int]]
Graph = tuple[Callable[..., Any], tuple[Tensor, ...]]


def packed(on: Small) -> Small:
    """With the weights in one memory that the engine loads so."""
    for part in (part for module in on.modules() for part in module.modules()):
        if isinstance(part, Packed):
            part.pack(on.zeros(1), on.device, on.dtype)
    return on


def dit_layer(on: Small) -> Graph:
    dit, width = on.ace_step.decoder, on.of.dit.encoder.hidden_size
    conditions = dit.condition(on.zeros(1, 200, 128), on.zeros(1, 40, width))
    table = dit.modulate(on.zeros(1)).layers[0][0]
    layer, rope, cross = dit._blocks[0], conditions.rope, conditions.cross[0]
    return lambda x: layer(x, table, rope, full, cross), (on.zeros(1, 100, dit.config.hidden_size),)


def lm_block(on: Small) -> Graph:
    block, config = on.lm.layers[0], on.lm.config
    rope = rope_table(torch.arange(7, device=on.device), config, on.dtype)
    return lambda x: block(x, rope, causal), (on.zeros(1, 7, config.hidden_size),)


def lm_step(on: Small) -> Graph:
    """A block over a token of each row, whose keys and values go into the cache."""
    block, config, rows, slots = on.lm.layers[0], on.lm.config, 2, 33
    positions = torch.zeros(rows, 1, dtype=torch.long, device=on.device)
    rope = rope_table(positions, config, on.dtype)
    heads = on.zeros(rows, config.num_key_value_heads, slots, config.head_dim)
    bias = on.zeros(rows, config.num_key_value_heads, 1, slots - 1)
    attend = CachedAttention(
        heads, heads.clone(), torch.arange(rows, device=on.device)[:, None], positions, bias
    )
    cos, sin = (table[:, None] for table in rope)
    return lambda x: block(x, (cos, sin), attend), (on.zeros(rows, 1, config.hidden_size),)


def vae_unit(on: Small) -> Graph:
    unit = on.vae.decoder.block[0].res_unit1
    return unit.forward, (on.zeros(1, unit.conv1.in_channels, 64),)


GRAPHS = {graph.__name__: graph for graph in (dit_layer, lm_block, lm_step, vae_unit)}


class _Scheduled(Exception):
    """Ends a compilation before code is written."""


def inductors(function: Callable[..., Any], *args: Any) -> Loops:
    """By Inductor, largest first."""
    import torch._dynamo
    from torch._inductor import config
    from torch._inductor.compile_fx import compile_fx
    from torch._inductor.scheduler import FusedSchedulerNode, SchedulerNode

    found: Loops = []

    def note(nodes: list[Any]) -> list[Any]:
        for node in nodes:
            if isinstance(node, (FusedSchedulerNode, SchedulerNode)):
                rows, length = map(int, node.group[1])
                found.append((rows * length, rows if length > 1 else 0, int(node.get_write_buffer_sizes())))
        raise _Scheduled

    def schedule(graph: torch.fx.GraphModule, inputs: Any) -> Callable[..., Any]:
        """Ends here: Dynamo would leave its hook on frames behind, which slows down all that comes after."""
        with pytest.raises(Exception, match="_Scheduled"):
            compile_fx(graph, inputs)
        return graph.forward

    options = {"cpu_backend": "triton", "force_pointwise_cat": True, "fx_graph_cache": False}
    torch._dynamo.reset()
    with config.patch(options | {"_post_fusion_custom_pass": note}), torch.inference_mode():
        torch.compile(function, backend=schedule, fullgraph=True, dynamic=False)(*args)
    return sorted(found, reverse=True)


def ours(function: Callable[..., Any], *args: Any) -> Loops:
    """By the rule, on the fake card that is entered."""
    found: list[tuple[Kernel, Launch]] = []

    def note(*parts: Any) -> list[Launch]:
        kernels = fusion._fused(inlining.inlined(*parts))
        launches = fusion._launches(kernels, parts[1])
        found.extend(zip(kernels, launches, strict=True))
        return launches

    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        patch.setattr(regions, "launches", note)
        torch.compile(function)(*args)
    loops = ((kernel, launch.work) for kernel, launch in found if not kernel.library)
    return sorted(((kernel.points, kernel.rows, work.written_bytes) for kernel, work in loops), reverse=True)
