"""Values of weights are finite where they are read, whatever file they are in."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from harness.checkpoint import SafetensorsFile, Weights
from harness.errors import CheckpointError
from harness.pickled import PickledWeights

Open = Callable[[Path, Mapping[str, Tensor]], Weights]


def safetensors(folder: Path, tensors: Mapping[str, Tensor]) -> Weights:
    save_file(dict(tensors), folder / "model.safetensors")
    return SafetensorsFile(folder, "model")


def pickled(folder: Path, tensors: Mapping[str, Tensor]) -> Weights:
    return PickledWeights(str(folder / "model.pt"), tensors)


@pytest.mark.parametrize("opened", [safetensors, pickled])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_what_is_not_finite_is_refused_by_name(tmp_path: Path, opened: Open, dtype: torch.dtype):
    most = torch.finfo(dtype).max
    right = torch.tensor([most, -most, 0.0], dtype=dtype).repeat(400)
    wrong = {str(value): right.clone() for value in (math.nan, math.inf, -math.inf)}
    for value, tensor in wrong.items():
        tensor[777] = float(value)
    weights = opened(tmp_path, {"right": right} | wrong)
    assert torch.equal(weights.read("right"), right)  # whose sum is beyond the format
    for name in wrong:
        with pytest.raises(CheckpointError, match=f"{name} has values that are not numbers") as raised:
            weights.read(name)
        assert str(tmp_path) in str(raised.value) and "\n" not in str(raised.value)


def test_what_has_no_such_values_is_read(tmp_path: Path):
    tensors = {"counter": torch.tensor(3), "nothing": torch.empty(0, 4), "one": torch.tensor(2.0)}
    weights = pickled(tmp_path, tensors)
    assert all(torch.equal(weights.read(name), tensor) for name, tensor in tensors.items())


@pytest.mark.parametrize(
    ("tensor", "form"),
    [
        (torch.zeros(2, dtype=torch.float8_e4m3fn), "float8_e4m3fn"),
        (torch.zeros(2, dtype=torch.complex64), "complex64"),
        (torch.zeros(2).to_sparse(), "sparse_coo"),
        (torch.zeros(2, device="meta"), "without values"),
    ],
    ids=["fp8", "complex", "sparse", "meta"],
)
def test_a_tensor_that_cannot_be_checked_is_refused_by_name(tmp_path: Path, tensor: Tensor, form: str):
    with pytest.raises(CheckpointError, match=f"model.pt: odd is a tensor .*{form}"):
        pickled(tmp_path, {"plain": torch.zeros(2), "odd": tensor})
