"""Islands of fp32: wider than an fp16 model, and in any other what they are islands of, bit for bit."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from harness.checkpoint import materialise, on_meta
from harness.errors import CheckpointError
from harness.nn.blocks import RMSNorm
from harness.nn.islands import WideLinear, WideRMSNorm, islands

CPU = torch.device("cpu")
FP16_MAX = torch.finfo(torch.float16).max


def model(linear: type[nn.Linear] = WideLinear, norm: type[RMSNorm] = WideRMSNorm) -> nn.Sequential:
    return nn.Sequential(nn.Linear(8, 64, bias=False), linear(64, 32, bias=False), norm(32, 1e-6))


def loaded(dtype: torch.dtype, factor: float = 1.0, **classes: type) -> nn.Sequential:
    generator = torch.Generator().manual_seed(0)
    state = {"0.weight": (64, 8), "1.weight": (32, 64), "2.weight": (32,)}
    weights = {name: torch.randn(shape, generator=generator) for name, shape in state.items()}
    weights["1.weight"] *= factor
    network = on_meta(lambda: model(**classes))
    materialise(network, weights.__getitem__, device=CPU, dtype=dtype)
    return network


def inputs(dtype: torch.dtype) -> torch.Tensor:
    return torch.randn(5, 8, generator=torch.Generator().manual_seed(1)).to(dtype)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_in_another_dtype_there_is_none(dtype: torch.dtype) -> None:
    network = loaded(dtype)
    assert [*islands(network, dtype)] == []
    plain = loaded(dtype, linear=nn.Linear, norm=RMSNorm)
    assert torch.equal(network(inputs(dtype)), plain(inputs(dtype)))


def test_in_fp16_they_are_fp32_by_name_weights_and_result() -> None:
    network = loaded(torch.float16)
    assert [*islands(network, torch.float16)] == ["1", "2"]
    assert [parameter.dtype for parameter in network.parameters()] == [torch.float16, *2 * [torch.float32]]
    assert network(inputs(torch.float16)).dtype == torch.float32
    assert [*islands(on_meta(model), torch.float16)] == []  # what has no values is not read back


def test_what_fp16_has_no_room_for_is_made_in_them() -> None:
    exact = loaded(torch.float32, 1e4)
    assert exact[:2](inputs(torch.float32)).abs().max() > 2 * FP16_MAX
    result = loaded(torch.float16, 1e4)(inputs(torch.float16))
    expected = exact(inputs(torch.float16).float())
    assert torch.linalg.vector_norm(result - expected) < 2e-3 * torch.linalg.vector_norm(expected)
    plain = loaded(torch.float16, 1e4, linear=nn.Linear, norm=RMSNorm)
    assert not plain(inputs(torch.float16)).isfinite().all()  # the control


def test_a_weight_beyond_fp16_is_refused_by_name_unless_it_is_an_islands() -> None:
    reading = {"0.weight": 65_505.0, "1.weight": 1e6, "2.weight": 1.0}
    for name, most, dtype, refused in (
        ("0.weight", 65_505.0, torch.float16, True),
        ("0.weight", 65_504.0, torch.float16, False),
        ("0.weight", -1e6, torch.float16, True),
        ("0.weight", 1e6, torch.bfloat16, False),
        ("1.weight", 1e6, torch.float16, False),
    ):
        shapes = {key: tuple(p.shape) for key, p in on_meta(model).named_parameters()}
        weights = {key: torch.full(shapes[key], most if key == name else 1.0) for key in reading}
        network = on_meta(model)
        if not refused:
            materialise(network, weights.__getitem__, device=CPU, dtype=dtype)
            assert all(parameter.isfinite().all() for parameter in network.parameters())
            continue
        said = (
            rf"^dtype: fp16 ends at 65,504, and part\.0\.weight reaches {abs(most):,.0f}; use bf16 or fp32$"
        )
        with pytest.raises(CheckpointError, match=said):
            materialise(
                network,
                lambda key, weights=weights: weights[key.removeprefix("part.")],
                prefix="part.",
                device=CPU,
                dtype=dtype,
            )
