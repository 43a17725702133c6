"""The quantizer: the codes of its own features in half precision, too, and the way there and back."""

import math

import pytest
import torch
from torch import Tensor

from acestep.models.codes import FSQ
from acestep.text.audio_codes import CODES, MAX_CODES, join, parse

LEVELS = [8, 8, 8, 5, 5, 5]
WIDTH, COUNT = 64, 4000


def quantizer(dtype: torch.dtype) -> FSQ:
    """Coordinates of order one, as trained features have them."""
    fsq = FSQ(WIDTH, LEVELS).requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    fsq.project_in.weight.normal_(0, WIDTH**-0.5, generator=generator)
    fsq.project_in.bias.normal_(0, 0.1, generator=generator)
    return fsq.to(dtype)


def features(dtype: torch.dtype) -> Tensor:
    return torch.randn(COUNT, WIDTH, generator=torch.Generator().manual_seed(1)).to(dtype)


def indices(fsq: FSQ, x: Tensor, dtype: torch.dtype) -> Tensor:
    """The formula of the docstrings, every product and sum in `dtype`."""
    levels = torch.tensor(LEVELS, dtype=dtype)
    z = x.to(dtype) @ fsq.project_in.weight.to(dtype).T + fsq.project_in.bias.to(dtype)
    z = (torch.tanh(z / (1 + 1 / (levels - 1))) * (1 + 1 / (levels - 1))).clamp(-1, 1)
    digits = torch.floor((levels - 1) * (z + 1) / 2 + 0.5).long()
    return sum(digits[:, i] * math.prod(LEVELS[:i]) for i in range(len(LEVELS)))  # type: ignore[return-value]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_codes_are_those_of_exact_arithmetic(dtype: torch.dtype):
    fsq, x = quantizer(dtype), features(dtype)
    exact = indices(fsq, x, torch.float64)
    assert (fsq.indices(x) == exact).double().mean() > 0.999


def test_in_half_precision_itself_one_code_in_twenty_is_another():
    fsq, x = quantizer(torch.bfloat16), features(torch.bfloat16)
    share = (indices(fsq, x, torch.bfloat16) == indices(fsq, x, torch.float64)).double().mean()
    assert 0.9 < share < 0.97


def test_every_code_is_the_same_after_text_and_vectors():
    """The projections are ones here, and the clamp is undone: in between lies the grid, each point once."""
    fsq = FSQ(len(LEVELS), LEVELS).requires_grad_(False)
    for projection in (fsq.project_in, fsq.project_out):
        projection.weight.copy_(torch.eye(len(LEVELS)))
        projection.bias.zero_()
    codes = torch.arange(CODES)
    texts = [join(some.tolist()) for some in codes.split(MAX_CODES)]
    points = fsq.decode(torch.tensor([code for text in texts for code in parse(text)]))
    assert len(points.unique(dim=0)) == CODES == math.prod(LEVELS)
    stretch = 1 + 1 / (torch.tensor(LEVELS) - 1)
    assert torch.equal(fsq.indices(stretch * torch.atanh(points / stretch)), codes)
    assert not torch.equal(fsq.indices(points), codes)  # the clamp was there
