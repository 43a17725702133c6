"""Linears that are one product: the same numbers, names and bytes as apart."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from harness.checkpoint import materialise, on_meta
from harness.nn.attend import full
from harness.nn.blocks import Attention, Block, rope_table
from harness.nn.config import BlockConfig
from harness.nn.packed import Packed, unpack

CONFIG = BlockConfig(
    hidden_size=64, intermediate_size=96, num_attention_heads=4, num_key_value_heads=2, head_dim=16
)
CPU = torch.device("cpu")
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])


def block(dtype: torch.dtype = torch.float32) -> Block:
    empty = on_meta(lambda: Block(CONFIG))
    generator = torch.Generator().manual_seed(0)
    values = {n: torch.randn(p.shape, generator=generator) / 8 for n, p in empty.named_parameters()}
    materialise(empty, values.__getitem__, device=CPU, dtype=dtype)
    return empty


def run(module: Block, x: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return module(x, rope_table(torch.arange(x.shape[1]), CONFIG, x.dtype), full)


def storages(module: nn.Module) -> set[int]:
    tensors = (*module.parameters(), *module.buffers())
    return {tensor.untyped_storage().data_ptr() for tensor in tensors}


@DTYPES
@pytest.mark.parametrize(("batch", "length"), [(1, 1), (8, 1), (3, 5), (1, 130)])
def test_one_product_is_three_to_the_bit(batch: int, length: int, dtype: torch.dtype) -> None:
    together, apart = block(dtype), block(dtype)
    unpack(apart)
    x = torch.randn(batch, length, CONFIG.hidden_size).to(dtype)
    expected = run(apart, x)
    assert torch.equal(run(together, x), expected)
    assert isinstance(together.self_attn, Attention)
    together.self_attn.v_proj.weight += 1  # the control: the view is the product's
    assert not torch.equal(run(together, x), expected)


def test_names_are_those_of_separate_weights_and_memory_is_one() -> None:
    together, apart = block(), block()
    apart.double().float()  # gives every weight memory of its own
    assert list(together.state_dict()) == list(apart.state_dict()) == list(Block(CONFIG).state_dict())
    assert (len(storages(together)), len(storages(apart))) == (8, 11)  # q, k, v and gate, up are one each
    other = block()
    for parameter in other.parameters():
        parameter.zero_()
    other.load_state_dict(together.state_dict())
    x = torch.randn(1, 3, CONFIG.hidden_size)
    assert torch.equal(run(other, x), run(together, x))


def test_a_module_that_is_cast_is_not_run_with_what_it_was() -> None:
    module, x = block(), torch.randn(1, 3, CONFIG.hidden_size)
    module.to(torch.float64)
    assert all(part.packed is None for part in module.modules() if isinstance(part, Packed))
    assert run(module, x.double()).dtype == torch.float64


def test_quantized_linears_leave_no_memory_of_what_they_were() -> None:
    pytest.importorskip("torchao", reason="torchao is not installed")
    from harness.quantization import quantize

    module = block()
    quantize(module, "int8_weight_only")
    assert not list(module.buffers())
