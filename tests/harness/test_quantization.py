"""What quantized matrices are, how near their products stay, and how they are moved."""

from __future__ import annotations

import copy

import pytest
import torch
from quantizations import RUNS_HERE, exact_int8, torchao
from torch import Tensor, nn

from harness.errors import UsageError
from harness.parity import compare
from harness.quantization import FP8, INT4, INT8, W8A8, quantize, scheme
from harness.residency import Residency, stored

pytestmark = torchao


def linear(name: str | None = None, dtype: torch.dtype = torch.float32) -> nn.Linear:
    torch.manual_seed(0)
    made = nn.Linear(64, 48, bias=False, dtype=dtype).requires_grad_(False)
    made.weight *= torch.logspace(-2, 1, 48, dtype=dtype)[:, None]  # each channel needs its own scale
    if name:
        quantize(made, name)
    return made


# ---------------------------------------------------------------- the arithmetic


def rounded(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Per channel, symmetric: `(integers, scale)`. 255 steps span twice the largest weight."""
    scale = weight.abs().amax(-1, keepdim=True) / 127.5
    return (weight / scale).round().clamp(-128, 127), scale


def shifted(scale: Tensor) -> Tensor:
    return scale.roll(1, 0)


def test_int8_weights_are_rounded_per_channel():
    weight, made = linear().weight.double(), linear(INT8).weight
    integers, scale = rounded(weight)
    qdata, found, zero = stored(made)
    assert (qdata.dtype, found.dtype, found.shape) == (torch.int8, torch.float32, (48, 1))
    assert not zero.any()
    assert torch.allclose(found.double(), scale, rtol=1e-6)
    tie = ((weight / scale).frac().abs() - 0.5).abs() < 1e-3  # fp32 may round it either way
    assert torch.equal(qdata[~tie].double(), integers[~tie]) and tie.double().mean() < 0.03
    error = (qdata * found - weight).abs() / scale
    assert error.max() <= 0.5 + 1e-3
    assert ((qdata * shifted(found) - weight).abs() / scale).max() > 1


def test_fp8_weights_keep_three_bits_of_mantissa():
    weight, made = linear().weight.double(), linear(FP8).weight
    qdata, scale = stored(made)
    assert (qdata.dtype, scale.dtype, scale.shape) == (torch.float8_e4m3fn, torch.float32, (48, 1))
    assert torch.allclose(scale.double(), weight.abs().amax(-1, keepdim=True) / 448, rtol=1e-6)
    normal = (weight / scale).abs() >= 2**-6  # below, e4m3 is evenly spaced
    share = ((qdata.double() * scale - weight).abs() / weight.abs())[normal]
    assert 2**-6 < share.max() <= 2**-4 * (1 + 1e-6)
    assert ((qdata.double() * shifted(scale) - weight).abs() / weight.abs())[normal].max() > 0.1


@pytest.mark.parametrize("name", [INT8, FP8])
@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1e-6), (torch.bfloat16, 6e-3)])
def test_a_product_is_that_with_the_weights_put_back(name, dtype, most):
    made = linear(name, dtype)
    qdata, scale, *_ = stored(made.weight)
    x = torch.randn(2, 5, 64, dtype=dtype, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        found = made(x)
    assert found.dtype == dtype
    assert compare(x.double() @ (qdata.double() * scale).T, found).relative_rms < most
    assert compare(x.double() @ (qdata.double() * shifted(scale)).T, found).relative_rms > 0.05


@pytest.mark.parametrize(("row", "group"), [(128, 128), (256, 128), (192, 64), (96, 32)])
def test_int4_weights_are_15_steps_from_the_least_of_a_group_to_the_largest(row: int, group: int):
    layer = nn.Linear(row, 48, bias=False).requires_grad_(False)
    weight = layer.weight.double().view(48, -1, group)
    low, high = weight.aminmax(dim=-1, keepdim=True)
    step = (high - low) / 15
    expected = ((weight - low) / step).round() * step + low
    quantize(layer, INT4)
    assert scheme(layer) == INT4
    with torch.inference_mode():
        found = layer(torch.eye(row)).T.double().view(48, -1, group)
    tie = (((weight - low) / step).frac() - 0.5).abs() < 1e-3  # fp32 may round it either way
    assert torch.allclose(found[~tie], expected[~tie], rtol=0, atol=1e-6) and tie.double().mean() < 0.03
    assert ((found - weight).abs() / step).max() <= 0.5 + 1e-3
    assert not torch.allclose(found[~tie], (expected + step)[~tie], rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(48, 80), (40, 64)])
def test_int4_refuses_a_matrix_that_it_does_not_fit(shape: tuple[int, int]):
    layer = nn.Linear(*shape[::-1], bias=False).requires_grad_(False)
    with pytest.raises(UsageError, match=f"needs matrices of whole 16s by 32s, not {shape[0]} by {shape[1]}"):
        quantize(layer, INT4)
    assert scheme(layer) is None


@exact_int8
@pytest.mark.parametrize("rows", [1, 5, 40])  # the null token of guidance is one row
def test_a_w8a8_product_is_one_of_integers(rows):
    made = linear(W8A8)
    qdata, scale, _ = stored(made.weight)
    x = torch.randn(rows, 64, generator=torch.Generator().manual_seed(1))
    x *= torch.logspace(-1, 2, rows)[:, None]  # each token needs its own scale
    x[:, 0] = 1.01 * x.abs().amax(-1)  # were the largest of a row negative, it would be a tie
    tokens, token_scale = rounded(x.double())
    expected = (tokens.long() @ qdata.long().T) * token_scale * scale.double().T
    with torch.inference_mode():
        found = made(x)
    assert compare(expected, found).relative_rms < 1e-6
    unrounded = x.double() @ (qdata.double() * scale).T
    assert compare(unrounded, found).relative_rms > 1e-3  # so the activations were rounded, too


# ---------------------------------------------------------------- to a card and back


class FakeCard(Residency):
    """What is sent over is another tensor in host memory, and it is written down."""

    def __init__(self) -> None:
        super().__init__(torch.device("cuda"), parts=("dit",), offloaded=("dit",))
        self.sent_bytes = 0

    def _keep(self, tensor: Tensor, device: torch.device) -> Tensor:
        return tensor

    def _send(self, host: Tensor, device: torch.device) -> Tensor:
        self.sent_bytes += host.nbytes
        return host.clone()


@pytest.mark.parametrize("name", RUNS_HERE)
def test_quantized_weights_are_offloaded_as_what_they_are_made_of(name):
    made = linear(name)
    again = copy.deepcopy(made)
    parts = stored(made.weight)
    home = [part.data_ptr() for part in parts]
    true_bytes = sum(part.nbytes for part in parts)
    assert true_bytes < made.weight.nbytes / 3
    card = FakeCard()
    card.adopt("dit", made)
    assert (card.host(), card.resident()) == ({"dit": true_bytes}, {})
    x = torch.randn(4, 64)
    with torch.inference_mode(), card.using("dit"):
        assert card.sent_bytes == card.resident_bytes == true_bytes
        assert not set(home) & {part.data_ptr() for part in stored(made.weight)}
        assert torch.equal(made(x), again(x))
        stored(made.weight)[1].zero_()  # the card's copy, which alone is read
        assert not made(x).any()
    assert [part.data_ptr() for part in stored(made.weight)] == home
    assert torch.equal(made(x), again(x)) and made(x).any()


@pytest.mark.parametrize("name", [INT8, pytest.param(W8A8, marks=exact_int8)])
def test_sums_of_whole_numbers_stay_within_fp16(name: str) -> None:
    """Before they are scaled they are over a hundred times the result, which reaches 300 here."""
    plain = nn.Linear(512, 16, bias=False)
    nn.init.normal_(plain.weight, std=0.02, generator=torch.Generator().manual_seed(0))
    x = torch.randn(4, 512, generator=torch.Generator().manual_seed(1)) * 300
    exact = plain(x).detach()
    assert exact.abs().max() > 290
    layer = nn.Sequential(copy.deepcopy(plain)).half().requires_grad_(False)
    quantize(layer, name)
    assert scheme(layer) == name
    result = layer(x.half())
    assert result.dtype == torch.float16
    assert torch.linalg.vector_norm(result - exact) < 2e-2 * torch.linalg.vector_norm(exact)
    layer[0].__class__ = nn.Linear  # the control: torchao's own
    assert not layer(x.half()).isfinite().all()
