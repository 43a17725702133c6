"""RVC's convolutions in MLX: each remedy for a CPU beside the plain operation, which a GPU runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from golden_rvc import drawn
from torch import Tensor

from harness.parity import compare

pytestmark = pytest.mark.skipif(find_spec("mlx") is None, reason="mlx is not installed: make test-backends")
LIMIT = 8e-7  # of the relative RMS

Both = Callable[[Callable[[], Any]], list[Tensor]]


@pytest.fixture
def both(monkeypatch: pytest.MonkeyPatch) -> Both:
    """What an operation gives as a GPU would run it, plain, and as a CPU does, remedied."""
    import numpy as np

    from subjects.rvc.backends import mlx_ops

    def run(operation: Callable[[], Any]) -> list[Tensor]:
        outputs = []
        for on_cpu in (False, True):
            monkeypatch.setattr(mlx_ops, "on_cpu", lambda on_cpu=on_cpu: on_cpu)
            outputs.append(torch.from_numpy(np.array(operation())))
        return outputs

    return run


def arrays(*shapes: tuple[int, ...]) -> Iterator[Any]:
    import mlx.core as mx

    for seed, shape in enumerate(shapes):
        yield mx.array(drawn(seed, *shape).float().numpy())


@pytest.mark.parametrize(("kernel", "dilation"), [(3, 1), (3, 3), (7, 5), (11, 2)])
def test_a_convolution_tap_by_tap_is_the_plain_one(kernel: int, dilation: int, both: Both) -> None:
    from subjects.rvc.backends import mlx_ops

    x, weight, bias = arrays((2, 30, 5), (4, kernel, 5), (4,))
    padding = (kernel - 1) // 2 * dilation
    plain, remedied = both(lambda: mlx_ops.conv(x, weight, bias, padding=padding, dilation=dilation))
    assert plain.shape == (2, 30, 4)
    assert 0 < compare(plain, remedied).relative_rms < LIMIT  # two ways, one result


@pytest.mark.parametrize(("kernel", "stride"), [(24, 12), (16, 10), (20, 8), (7, 3), (4, 2)])
def test_a_transposed_convolution_is_the_plain_one(kernel: int, stride: int, both: Both) -> None:
    from subjects.rvc.backends.mlx_ops import Upsampling

    x, weight, bias = arrays((2, 9, 6), (6, kernel, 3), (3,))
    plain, remedied = both(lambda: Upsampling(weight, bias, stride)(x))
    assert plain.shape == (2, 9 * stride, 3)
    assert compare(plain, remedied).relative_rms < LIMIT


def test_a_transposed_convolution_of_pictures_is_the_plain_one(both: Both) -> None:
    from subjects.rvc.backends.mlx_ops import Doubling

    x, weight, bias = arrays((2, 5, 3, 6), (6, 3, 3, 4), (4,))
    plain, remedied = both(lambda: Doubling(weight, bias)(x))
    assert plain.shape == (2, 10, 6, 4)
    assert compare(plain, remedied).relative_rms < LIMIT
