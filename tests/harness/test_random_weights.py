"""A made-up tensor is its seed's, its component's and its name's alone, as the law of the model says."""

import pytest
import torch

from harness.random_weights import ByFanIn, RandomWeights

SHAPES = {
    "layers.0.mlp.down_proj.weight": (64, 256),
    "layers.1.mlp.down_proj.weight": (64, 256),
    "layers.1.mlp.up_proj.weight": (256, 64),
    "layers.1.norm.weight": (4096,),
    "head.bias": (4096,),
    "token": (1, 1, 4096),
}


def drawn(where: str = "a", seed: int = 0, names=tuple(SHAPES)) -> dict[str, torch.Tensor]:
    weights = RandomWeights(where, SHAPES, torch.float32, seed, ByFanIn(SHAPES))
    return {name: weights.read(name) for name in names}


def test_a_tensor_depends_on_nothing_that_is_drawn_before():
    first, again = drawn(), drawn(names=reversed([*SHAPES]))
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())
    for other in (drawn(where="b"), drawn(seed=1)):
        assert not any(torch.equal(tensor, other[name]) for name, tensor in first.items())
    assert not torch.equal(*[first[name] for name in [*SHAPES][:2]])


@pytest.mark.parametrize(
    ("name", "mean", "std"),
    [
        ("layers.1.mlp.up_proj.weight", 0, 64**-0.5),
        ("layers.1.mlp.down_proj.weight", 0, (2 * 2 * 256) ** -0.5),  # of two layers
        ("layers.1.norm.weight", 1, 0.02),
        ("head.bias", 0, 0.02),
        ("token", 0, 4096**-0.5),
    ],
)
def test_the_law_is_one_over_the_fan_in(name, mean, std):
    tensor = drawn(names=[name])[name]
    assert tensor.mean() == pytest.approx(mean, abs=5 * std / tensor.numel() ** 0.5)
    assert tensor.std() == pytest.approx(std, rel=0.06)


def test_a_law_without_spread_is_a_constant():
    weights = RandomWeights("a", {"gain": (3,)}, torch.bfloat16, 0, lambda name, shape: (0.5, 0.0))
    assert weights.read("gain").tolist() == [0.5] * 3 and weights.read("gain").dtype == torch.bfloat16
