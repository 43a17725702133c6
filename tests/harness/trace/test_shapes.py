"""Results of operators are inferred once for arguments of the same shapes, however many results there are."""

from __future__ import annotations

import pytest
import torch

from harness.trace import shapes

aten = torch.ops.aten


@pytest.fixture(autouse=True)
def none_known(monkeypatch):
    monkeypatch.setattr(shapes, "_inferred", {})


def of(*shape: int) -> torch.Tensor:
    return torch.empty(shape, device="meta")


@pytest.mark.parametrize(
    ("operator", "arguments", "expected"),
    [
        (aten.mm.default, lambda: (of(2, 3), of(3, 5)), [(2, 5)]),
        (aten.aminmax.default, lambda: (of(2, 3),), [(), ()]),
        (aten.native_layer_norm.default, lambda: (of(4, 3), [3], None, None, 1e-5), [(4, 3), (4, 1), (4, 1)]),
    ],
    ids=("one", "two", "three"),
)
def test_a_second_call_has_results_of_its_own_without_asking_torch(operator, arguments, expected):
    first = shapes.infer(operator, arguments(), {})
    (key,) = shapes._inferred
    shapes._inferred[key] = tuple((size, stride, torch.int8) for size, stride, _ in shapes._inferred[key])
    second = shapes.infer(operator, arguments(), {})
    results = second if isinstance(first, tuple) else (second,)
    assert type(second) is type(first)
    assert [tuple(result.shape) for result in results] == expected
    assert {result.dtype for result in results} == {torch.int8}, "torch was asked again"
    assert len({result.untyped_storage()._cdata for result in results}) == len(results)


@pytest.mark.parametrize(
    ("operator", "arguments"),
    [
        (aten.view.default, lambda: (of(2, 3), [6])),  # of the memory of its argument
        (aten.split.Tensor, lambda: (of(4, 3), 2)),
        (aten.add_.Tensor, lambda: (of(2), of(2))),
    ],
    ids=("view", "views", "in place"),
)
def test_a_view_is_never_kept(operator, arguments):
    shapes.infer(operator, arguments(), {})
    assert not shapes._inferred
