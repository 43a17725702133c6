"""Compiled bf16 is no farther from the same weights in fp64 than eager bf16 is."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

import pytest
import torch
from allocations import Small, small
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from acestep.models.dit import Cross
from harness.compiling import CACHE_VARIABLE, OPTIONS, unavailable
from harness.nn.attend import full
from harness.nn.blocks import rope_table
from harness.nn.qwen3 import CachedAttention

CHANCE = 1.1  # of some hundred roundings
TOKENS, SLOTS = 24, 32
BF16 = torch.bfloat16

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.:DeprecationWarning")  # torch's own, of itself
why = unavailable("cpu")


class Part(NamedTuple):
    """A network, how it is called, and what it is called with."""

    module: nn.Module
    call: Callable[..., Tensor]
    inputs: tuple[Any, ...]

    def wide(self) -> Part:
        """The same in fp64."""
        inputs = tree_map_only(Tensor, _wide, self.inputs)
        return Part(copy.deepcopy(self.module).double(), self.call, inputs)

    def run(self, module: Callable[..., Tensor] | None = None) -> Tensor:
        """Of fresh inputs, which a step writes into."""
        inputs = tree_map_only(Tensor, torch.clone, self.inputs)
        return self.call(module or self.module.forward, *inputs)


def _wide(value: Tensor) -> Tensor:
    return value.double() if value.is_floating_point() else value


def dit_layer(on: Small) -> Part:
    layer, config = on.ace_step.decoder.layers[0], on.ace_step.decoder.config
    width, head = config.hidden_size, (config.num_key_value_heads, TOKENS, config.head_dim)
    cross = Cross(torch.randn(1, *head).to(BF16), torch.randn(1, *head).to(BF16), None)
    table = rope_table(torch.arange(TOKENS), config, BF16)
    inputs = torch.randn(1, TOKENS, width).to(BF16), torch.randn(6, 1, 1, width).to(BF16), table, cross
    return Part(layer, lambda run, x, tables, rope, cross: run(x, tables, rope, full, cross), inputs)


def lm_step(on: Small) -> Part:
    """Of one token, over a cache."""
    block, config = on.lm.layers[0], on.lm.config
    heads = (1, config.num_key_value_heads, SLOTS + 1, config.head_dim)
    cos, sin = (values[None, None, -1:] for values in rope_table(torch.arange(SLOTS), config, BF16))
    cache = torch.randn(heads).to(BF16), torch.randn(heads).to(BF16)
    row, positions = torch.zeros(1, 1, dtype=torch.long), torch.full((1, 1), SLOTS - 1)
    bias = torch.zeros(1, 1, 1, SLOTS, dtype=BF16)

    def call(run, x, rope, keys, values, row, positions, bias):
        return run(x, rope, CachedAttention(keys, values, row, positions, bias))

    x = torch.randn(1, 1, config.hidden_size).to(BF16)
    return Part(block, call, (x, (cos, sin), *cache, row, positions, bias))


def vae_unit(on: Small) -> Part:
    unit = on.vae.decoder.block[0].res_unit1
    return Part(unit, lambda run, x: run(x), (torch.randn(1, unit.conv1.in_channels, 64).to(BF16),))


@cache
def part(name: str) -> Part:
    torch.manual_seed(0)
    on = small(BF16)
    chosen = {"dit_layer": dit_layer, "lm_step": lm_step, "vae_unit": vae_unit}[name](on)
    for weight in chosen.module.parameters():
        weight.data = (torch.randn(weight.shape) / max(weight[0].numel(), 1) ** 0.5).to(BF16)
    return chosen


@pytest.fixture(autouse=True)
def graphs(tmp_path, monkeypatch) -> Iterator[None]:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    torch.compiler.reset()
    with torch.inference_mode():
        yield
    torch.compiler.reset()


def off(output: Tensor, exact: Tensor) -> float:
    """Relative RMS."""
    return float((output.double() - exact).norm() / exact.norm())


class Coarse(torch.fx.Interpreter):
    """Runs a graph with the results of its products and convolutions rounded to fp8: a rounding too many."""

    def run_node(self, n: torch.fx.Node) -> Any:
        result = super().run_node(n)
        if n.op == "call_function" and getattr(n.target, "__name__", "") in ("linear", "conv1d"):
            return result.to(torch.float8_e4m3fn).to(result.dtype)
        return result


@pytest.mark.skipif(why is not None, reason=f"torch.compile on this CPU {why}")
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", ["dit_layer", "lm_step", "vae_unit"])
def test_compiled_is_no_farther_from_fp64_than_eager(name):
    of = part(name)
    exact = of.wide().run()
    limit = CHANCE * off(of.run(), exact)
    assert 0 < off(of.run(torch.compile(of.module.forward, **OPTIONS)), exact) < limit
    coarse = torch.compile(of.module.forward, backend=lambda graph, _: Coarse(graph).run, **OPTIONS)
    assert off(of.run(coarse), exact) > limit
