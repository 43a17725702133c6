"""Values of weights are finite where they are read, whatever file they are in."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from harness.checkpoint import SafetensorsFile, Weights, materialise, on_meta
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


@pytest.mark.parametrize(
    ("stored", "value", "dtype", "message"),
    [
        (torch.float64, -1e300, torch.float32, "fp32 ends at 3.402823e+38, and w reaches 1e+300; no format"),
        (torch.float64, 1e39, torch.bfloat16, "bf16 ends at 3.389531e+38, and w reaches 1e+39; no format"),
        (torch.float32, 3.4e38, torch.bfloat16, "bf16 ends at 3.389531e+38, and w reaches 3.4e+38; use fp32"),
        (torch.bfloat16, 1e6, torch.float16, "fp16 ends at 65,504, and w reaches 999,424; use bf16 or fp32"),
        (torch.float64, 3.4e38, torch.float32, None),
        (torch.float64, 1e300, torch.float64, None),
        (torch.float32, -3e38, torch.bfloat16, None),
        (torch.bfloat16, 3e38, torch.float32, None),
    ],
)
def test_what_the_dtype_has_no_room_for_is_refused_by_name(
    stored: torch.dtype, value: float, dtype: torch.dtype, message: str | None
):
    """A cast would make infinities of it, which are told of as samples that are no numbers, much later."""
    tensor = torch.zeros(4, 4, dtype=stored)
    tensor[2, 1] = value
    module = on_meta(lambda: nn.ParameterDict({"w": nn.Parameter(torch.empty(4, 4))}))
    cast = tensor.to(dtype)
    assert bool(cast.isinf().any()) == (message is not None)  # the control
    if message is None:
        materialise(module, lambda name: tensor, device=torch.device("cpu"), dtype=dtype)
        assert torch.equal(module["w"], cast)
        return
    with pytest.raises(CheckpointError, match=rf"^dtype: {re.escape(message)}"):
        materialise(module, lambda name: tensor, device=torch.device("cpu"), dtype=dtype)


def test_only_what_may_be_beyond_a_format_is_looked_through(monkeypatch: pytest.MonkeyPatch):
    looked: list[torch.dtype] = []
    aminmax = Tensor.aminmax
    monkeypatch.setattr(Tensor, "aminmax", lambda tensor: looked.append(tensor.dtype) or aminmax(tensor))
    narrow = [torch.float16, torch.bfloat16]
    for stored in (*narrow, torch.float32):
        module = on_meta(lambda: nn.Linear(4, 4, bias=False))
        tensor = torch.ones(4, 4, dtype=stored)
        materialise(module, lambda name, t=tensor: t, device=torch.device("cpu"), dtype=torch.float32)
    assert looked == []
    module = on_meta(lambda: nn.Linear(4, 4, bias=False))
    materialise(module, lambda name: tensor, device=torch.device("cpu"), dtype=torch.float16)
    assert looked == [torch.float32]  # the control
