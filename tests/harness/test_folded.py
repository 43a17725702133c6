"""Modules that keep what they compute with: names and shapes of both kinds, wherever such a module is."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from harness.checkpoint import materialise, on_meta
from harness.nn.folded import Folded, Read, fold, stored_shapes
from harness.tensor_files import Shape


class Square(Folded):
    """Keeps the square of `root.value`, beside a linear of its own."""

    def __init__(self, size: int):
        super().__init__()
        self.square = nn.Parameter(torch.empty(size))

    def stored(self) -> dict[str, Shape]:
        return {"root.value": tuple(self.square.shape)}

    def folded(self, name: str, read: Read) -> Tensor:
        assert name == "square"
        return read("root.value") ** 2


def build() -> nn.Module:
    model = nn.Sequential(nn.Linear(2, 3), nn.ModuleList([Square(2), nn.LayerNorm(2)]))
    model.register_parameter("gain", nn.Parameter(torch.empty(1)))
    return model


STORED = {
    "gain": (1,),
    "0.weight": (3, 2),
    "0.bias": (3,),
    "1.0.root.value": (2,),
    "1.1.weight": (2,),
    "1.1.bias": (2,),
}


def test_a_file_has_the_stored_names() -> None:
    assert stored_shapes(on_meta(build)) == STORED
    assert stored_shapes(on_meta(lambda: Square(4))) == {"root.value": (4,)}


def test_what_is_folded_is_computed_and_all_else_read() -> None:
    file = {name: torch.full(shape, 3.0) for name, shape in STORED.items()}
    model = on_meta(build)
    read = partial(fold, model, read=file.__getitem__)
    materialise(model, read, device=torch.device("cpu"), dtype=torch.float32)
    for name, parameter in model.named_parameters():
        assert torch.all(parameter == (9 if name == "1.0.square" else 3)), name
    assert fold(Square(2), "square", lambda name: file[f"1.0.{name}"]).tolist() == [9, 9]


def test_a_stored_name_is_no_parameter() -> None:
    with pytest.raises(AssertionError):
        fold(on_meta(build), "1.0.root.value", lambda name: torch.ones(2))
