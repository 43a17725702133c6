"""Products of quantized weights on a card: the kernel that runs, and what it does."""

from __future__ import annotations

from contextlib import nullcontext
from importlib.util import find_spec

import pytest
import torch
from allocations import CARD, clerk_of

from harness import virtual_torch
from harness.checkpoint import assign, on_meta
from harness.quantization import INT4, W8A8, matrix_bytes, quantize
from harness.trace.fake_card import FakeCard
from harness.trace.libraries import CUDA
from harness.trace.stage_costs import Work

pytestmark = pytest.mark.skipif(
    find_spec("torchao") is None, reason="torchao is not installed; pip install '.[quantization]'"
)
AMPERE = (8, 6)
OUT, ROW = 48, 1024


def product(name: str, rows: int, row: int = ROW, compiled: bool = False) -> Work:
    """The work of a linear `[OUT, row]` in `name` over so many rows of bf16."""
    with FakeCard(CARD, libraries=CUDA(AMPERE)) as card, torch.inference_mode():
        layer = on_meta(lambda: torch.nn.Linear(row, OUT, bias=False))
        assign(layer, "weight", torch.empty(OUT, row, dtype=torch.bfloat16, device="virtual"))
        quantize(layer, name)
        x = torch.empty(rows, row, dtype=torch.bfloat16, device="virtual")
        run = torch.compile(layer) if compiled else layer
        with clerk_of(card) as clerk:
            assert run(x).shape == (rows, OUT)
        return clerk.work


@pytest.mark.parametrize("rows", [1, 40])
@pytest.mark.parametrize("row", [ROW, ROW + 512])
def test_int4_is_one_kernel_and_one_that_fills_rows_up(rows: int, row: int):
    work = product(INT4, rows, row)
    padded = -(-row // ROW) * ROW
    assert work.flop == 2 * rows * padded * OUT and work.fp32_flop == 0
    assert work.read_bytes == 2 * rows * (row + padded) + matrix_bytes(INT4, OUT, row, 2)
    assert work.written_bytes == 2 * rows * (padded + OUT)
    assert work.launches == 2


@pytest.mark.parametrize("rows", [1, 40])
@pytest.mark.parametrize("compiled", [False, True])
def test_w8a8_multiplies_integers(rows: int, compiled: bool, monkeypatch: pytest.MonkeyPatch):
    """By an operator of higher order. Where one is refused, torchao goes another way, but not compiled."""
    work, wide_flop = product(W8A8, rows, compiled=compiled), 2 * rows * ROW * OUT
    assert (work.flop, work.fp32_flop) == (wide_flop, 0)
    monkeypatch.setattr(virtual_torch.Operators, "supports_higher_order_operators", False)
    with pytest.raises(NotImplementedError) if compiled else nullcontext():
        assert product(W8A8, rows, compiled=compiled).fp32_flop == wide_flop
