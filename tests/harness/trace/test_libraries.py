"""What a card runs for norms, rotations and attention: one kernel each, and no farther from the truth."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from allocations import CARD, clerk_of
from torch import Tensor

from harness import device
from harness.checkpoint import materialise, on_meta
from harness.nn.attend import Band, Biased, causal, full, hide, masked, sliding
from harness.nn.blocks import Block, RMSNorm, add_scaled, rope_table, rotate
from harness.nn.config import BlockConfig
from harness.nn.packed import unpack
from harness.nn.snake import Snake
from harness.trace.fake_card import FakeCard
from harness.trace.libraries import CUDA
from harness.trace.stage_costs import Work

AMPERE, TURING = (8, 0), (7, 5)
BATCH, HEADS, GROUPS, LENGTH, SIZE, WINDOW = 2, 4, 2, 300, 32, 128
CONFIG = BlockConfig(
    hidden_size=64, intermediate_size=96, num_attention_heads=4, num_key_value_heads=2, head_dim=32
)
PAIRS = LENGTH * (2 * WINDOW + 1) - WINDOW * (WINDOW + 1)  # |i - j| <= window
BEHIND = (PAIRS + LENGTH) // 2  # 0 <= i - j <= window


def on(
    capability: tuple[int, int] | None, call: Callable[[Callable[..., Tensor]], object], dtype=torch.bfloat16
) -> Work:
    """The work of `call`, given what makes tensors, on a card of `capability`."""
    with FakeCard(CARD, libraries=CUDA(capability) if capability else None) as card, torch.inference_mode():
        with clerk_of(card) as clerk:
            call(lambda *shape: torch.empty(shape, dtype=dtype, device="virtual"))
        return clerk.work


def heads(make: Callable[..., Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """q, k, v as slices of one product, laid out as `Attention` has them."""
    product = make(BATCH, LENGTH, HEADS + 2 * GROUPS, SIZE).transpose(1, 2)
    return product.split((HEADS, GROUPS, GROUPS), dim=1)  # type: ignore[return-value]


def norm(make: Callable[..., Tensor]) -> Tensor:
    weighted = RMSNorm(64, 1e-6)
    weighted.weight = torch.nn.Parameter(make(64), requires_grad=False)
    return weighted(make(2, 5, 64))


def test_a_norm_is_one_kernel() -> None:
    work = on(AMPERE, norm)
    assert work.launches == 1
    assert (work.read_bytes, work.written_bytes) == (2 * (640 + 64), 2 * 640 + 4 * 10)
    assert on(None, norm).launches > 5  # the control: a CPU's operators


def test_a_norm_of_a_slice_copies_it_first() -> None:
    assert on(AMPERE, lambda make: F.rms_norm(make(2, 5, 80)[..., :64], (64,))).launches == 2


def test_a_rotation_is_three_kernels() -> None:
    def turn(make: Callable[..., Tensor]) -> Tensor:
        return rotate(make(BATCH, HEADS, LENGTH, SIZE), (make(LENGTH, SIZE), make(LENGTH, SIZE)))

    assert on(AMPERE, turn).launches == 3 < on(None, turn).launches


def test_a_snake_is_four_kernels() -> None:
    """A product, its sine and its square in one memory, and a sum: PyTorch has none that does more of it.
    Compiled it is one, between its convolutions."""

    def turn(make: Callable[..., Tensor]) -> Tensor:
        snake = Snake(8)
        for name in ("frequency", "gain"):
            setattr(snake, name, torch.nn.Parameter(make(1, 8, 1), requires_grad=False))
        return snake(make(1, 8, 500))

    work = on(AMPERE, turn)
    assert work.launches == 4
    assert work.read_bytes + work.written_bytes == 2 * (9 * 8 * 500 + 2 * 8)


def near(make: Callable[..., Tensor], dtype: torch.dtype = torch.bfloat16, ahead: bool = True) -> Tensor:
    return sliding(BATCH, LENGTH, WINDOW, dtype, torch.device("virtual"), ahead)(*heads(make))


@pytest.mark.parametrize(("ahead", "pairs"), [(True, PAIRS), (False, BEHIND)])
def test_a_band_is_the_flash_kernel_over_the_windows_pairs(ahead: bool, pairs: int) -> None:
    work = on(AMPERE, lambda make: near(make, ahead=ahead))
    assert work.launches == 1
    assert work.flop == 4 * BATCH * HEADS * SIZE * pairs
    rows = BATCH * LENGTH * SIZE
    assert work.read_bytes == 2 * rows * (HEADS + 2 * GROUPS)
    assert work.written_bytes == 2 * rows * HEADS + 4 * BATCH * HEADS * LENGTH


def test_a_causal_pass_skips_what_is_ahead_and_a_mask_skips_nothing() -> None:
    flop = 4 * BATCH * HEADS * SIZE
    work = on(AMPERE, lambda make: causal(*heads(make)))
    assert (work.launches, work.flop) == (1, flop * LENGTH * (LENGTH + 1) // 2)
    hidden = on(AMPERE, lambda make: Biased(make(1, 1, LENGTH, LENGTH))(*heads(make)))
    assert hidden.flop == flop * LENGTH**2


def test_a_window_that_begins_to_bind_is_no_step() -> None:
    """Up to a length it is a causal pass, beyond it a window: of one more token one row more."""

    def flop(length: int) -> int:
        def attend(make: Callable[..., Tensor]) -> Tensor:
            near = sliding(1, length, WINDOW, torch.bfloat16, torch.device("virtual"), ahead=False)
            return near(*(make(1, 1, length, SIZE) for _ in range(3)))

        return on(AMPERE, attend).flop

    longest = WINDOW + 1
    assert flop(longest + 1) - flop(longest) == flop(longest) - flop(longest - 1) == 4 * SIZE * longest


@pytest.mark.parametrize(("capability", "dtype"), [(AMPERE, torch.float32), (TURING, torch.float16)])
def test_where_flash_does_not_serve_blocks_are_one_kernel_without_scores_in_memory(capability, dtype) -> None:
    def attend(make: Callable[..., Tensor]) -> Tensor:
        return near(make, dtype)

    def grouped(make: Callable[..., Tensor]) -> Tensor:
        q, k, v = heads(make)
        bias = make(1, 1, LENGTH, LENGTH)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, enable_gqa=True)

    blocks = -(-LENGTH // WINDOW)
    work = on(capability, attend, dtype)
    assert work.flop == 4 * BATCH * HEADS * SIZE * blocks * WINDOW * 3 * WINDOW
    scores = BATCH * HEADS * LENGTH**2 * 4
    assert on(capability, grouped, dtype).written_bytes > 2 * scores  # the control: the plain operators
    one = on(capability, lambda make: Biased(make(1, 1, LENGTH, LENGTH))(*heads(make)), dtype)
    assert one.written_bytes < scores


def test_heads_share_keys_in_the_kernel_and_not_in_copies() -> None:
    work = on(AMPERE, lambda make: full(*heads(make)))
    assert (work.launches, work.flop) == (1, 4 * BATCH * HEADS * LENGTH**2 * SIZE)


@pytest.mark.parametrize(("capability", "dtype"), [(AMPERE, torch.float32), (TURING, torch.float16)])
def test_where_flash_does_not_serve_a_causal_pass_keeps_no_scores_in_memory(capability, dtype) -> None:
    def grouped(make: Callable[..., Tensor]) -> Tensor:
        return F.scaled_dot_product_attention(*heads(make), is_causal=True, enable_gqa=True)

    work = on(capability, lambda make: causal(*heads(make)), dtype)
    scores = BATCH * HEADS * LENGTH**2 * 4
    assert (work.launches, work.written_bytes < scores) == (3, True)  # two are copies of the heads
    assert on(capability, grouped, dtype).written_bytes > 2 * scores  # the control: the plain operators
    assert on(AMPERE, lambda make: causal(*heads(make))).launches == 1


@pytest.fixture
def fused(monkeypatch: pytest.MonkeyPatch) -> Callable[[tuple[int, int] | None], None]:
    """Has the CPU do what a card of a capability would be told to."""

    def become(capability: tuple[int, int] | None) -> None:
        answers = {} if capability is None else {"cpu": lambda _: capability}
        monkeypatch.setattr(device, "capabilities", answers)

    return become


def error(result: Tensor, truth: Tensor) -> float:
    return ((result.double() - truth).norm() / truth.norm()).item()


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def weighted(x: Tensor) -> Tensor:
    module = RMSNorm(SIZE, 1e-6)
    module.weight = torch.nn.Parameter(1 + 0.3 * random(SIZE).bfloat16().to(x.dtype), requires_grad=False)
    return module(x)


OPERATORS: dict[str, Callable[[Tensor], Tensor]] = {
    "norm": weighted,
    "rotation": lambda x: rotate(x, rope_table(torch.arange(LENGTH), CONFIG, x.dtype)),
    "modulation": lambda x: add_scaled(x[..., :1], x.clone(), x[..., 1:2]),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("name", OPERATORS)
def test_what_a_card_is_told_is_no_farther_from_the_truth(name, dtype, fused) -> None:
    operator, x = OPERATORS[name], random(BATCH, HEADS, LENGTH, SIZE).bfloat16()
    fused(None)
    truth, plain = operator(x.double()), error(operator(x.to(dtype)), operator(x.double()))
    fused(AMPERE)
    assert error(operator(x.to(dtype)), truth) <= (1e-6 if dtype == torch.float32 else plain)


@pytest.mark.parametrize("rows", [1, LENGTH])
def test_masks_without_groups_are_masks_with_groups(rows, fused) -> None:
    q, k, v = (part.float() for part in heads(lambda *shape: random(*shape)))
    mask = hide(random(BATCH, 1, rows, LENGTH, seed=1) > 0.5, torch.float32)
    fused(None)
    expected = masked(q, k, v, mask)
    fused(TURING)
    torch.testing.assert_close(masked(q, k, v, mask), expected, rtol=1e-5, atol=1e-6)
    if rows == 1:  # and of each key head
        each = mask.expand(-1, k.shape[1], -1, -1)
        torch.testing.assert_close(masked(q, k, v, each), expected, rtol=1e-5, atol=1e-6)
    wrong = masked(q, k, v, mask.roll(1, dims=-1))
    assert error(wrong, expected.double()) > 0.1  # the control


def test_a_causal_pass_without_groups_is_one_with_groups(fused) -> None:
    q, k, v = (part.float() for part in heads(lambda *shape: random(*shape)))
    fused(None)
    expected = causal(q, k, v)
    fused(TURING)
    torch.testing.assert_close(causal(q, k, v), expected, rtol=1e-5, atol=1e-6)
    assert error(full(q, k, v), expected.double()) > 0.1  # the control


def test_a_band_is_a_square_of_the_same_pairs(fused) -> None:
    q, k, v = (part.float() for part in heads(lambda *shape: random(*shape)))
    position = torch.arange(LENGTH)
    square = hide((position[:, None] - position).abs() > WINDOW, torch.float32)[None, None]
    expected = Biased(square)(q, k, v)
    assert (~square.bool()).sum() == PAIRS
    fused(TURING)
    band = Band(BATCH, LENGTH, WINDOW, torch.float32, torch.device("cpu"))
    torch.testing.assert_close(band(q, k, v), expected, rtol=1e-5, atol=1e-6)


def test_a_layer_is_17_kernels() -> None:
    """Norm, product, norm and two weights of the heads, rotation in 3, attention, way out, sum; then norm,
    product, SiLU, product of both, way out, sum."""
    with FakeCard(CARD, libraries=CUDA(AMPERE)) as card, torch.inference_mode():
        block = on_meta(lambda: Block(CONFIG))
        shapes = {name: weight.shape for name, weight in block.named_parameters()}
        materialise(
            block, lambda name: card.elsewhere(shapes[name]), device=card.device, dtype=torch.bfloat16
        )
        x = torch.zeros(1, 5, CONFIG.hidden_size, dtype=torch.bfloat16, device="virtual")
        rope = rope_table(torch.zeros(5, device="virtual"), CONFIG, torch.bfloat16)
        with clerk_of(card) as clerk:
            block(x, rope, full)
        assert clerk.work.launches == 17
        unpack(block)
        with clerk_of(card) as clerk:
            block(x, rope, full)
        assert clerk.work.launches == 17 + 3 + 1  # the control: three products, put together, and two
