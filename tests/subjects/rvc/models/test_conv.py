"""Weight norm: folded and left in, in either spelling."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import pytest
import torch
from golden_rvc import drawn, golden_tensors
from tiny_decoder12hz import loaded
from tiny_rvc import TINY, TINY_HUBERT, golden_network, inputs
from torch import Tensor, nn

from harness.checkpoint import check_shapes, on_meta
from harness.errors import CheckpointError
from harness.nn.folded import stored_shapes
from harness.parity import compare
from harness.tensor_files import Shape
from subjects.rvc.models.conv import G_V, PARAMETRIZED, Respelled, leave_weight_norm_in
from subjects.rvc.models.hubert import Hubert
from subjects.rvc.models.synthesizer import Synthesizer

BUILDS = {
    "synthesizer": partial(Synthesizer, TINY),
    "hubert": partial(Hubert, TINY_HUBERT),
}
NETWORKS = pytest.mark.parametrize("network", BUILDS)


class Held:
    """Tensors as a file has them."""

    where = "voice.pth"

    def __init__(self, tensors: Mapping[str, Tensor]):
        self._tensors = tensors
        self.read = tensors.__getitem__

    def shapes(self) -> dict[str, Shape]:
        return {name: tuple(tensor.shape) for name, tensor in self._tensors.items()}


@torch.inference_mode()
def run(network: nn.Module) -> Tensor:
    if isinstance(network, Hubert):
        return network(drawn(5, 1, 1600))
    return network(*inputs(TINY, frames=9, speaker=1))


def respelled(
    tensors: Mapping[str, Tensor], ours: tuple[str, str], theirs: tuple[str, str]
) -> dict[str, Tensor]:
    """`tensors` whose names end in `theirs` where they did in `ours`."""
    names = dict(zip(ours, theirs, strict=True))

    def spell(name: str) -> str:
        ending = next((old for old in names if name.endswith(f".{old}")), None)
        return name if ending is None else name.removesuffix(ending) + names[ending]

    return {spell(name): tensor for name, tensor in tensors.items()}


@NETWORKS
def test_weight_norm_left_in_is_the_same_network(network: str) -> None:
    folded, left_in = (golden_network(on_meta(BUILDS[network])) for _ in range(2))
    leave_weight_norm_in(left_in)
    assert compare(run(folded), run(left_in)).relative_rms < 1e-12
    directions = [x for name, x in left_in.named_parameters() if name.endswith(PARAMETRIZED[1])]
    stored = [name for name in stored_shapes(folded) if name.endswith((G_V[1], PARAMETRIZED[1]))]
    assert len(directions) == len(stored) > 0
    for v in directions:  # its length counts for nothing, so it is indeed computed at each call
        v *= 2
    assert compare(run(folded), run(left_in)).relative_rms < 1e-12


@NETWORKS
@pytest.mark.parametrize("spelling", [G_V, PARAMETRIZED], ids=["weight_g", "parametrizations"])
def test_either_spelling_of_weight_norm_loads(network: str, spelling: tuple[str, str]) -> None:
    expected = stored_shapes(on_meta(BUILDS[network]))
    tensors = golden_tensors(expected)
    ours = G_V if spelling == PARAMETRIZED else PARAMETRIZED
    held = Held(respelled(tensors, ours, spelling))
    weights = Respelled(held, expected)
    check_shapes(expected, weights)
    read = {name: weights.read(name) for name in expected}
    truth = run(loaded(on_meta(BUILDS[network]), tensors))
    assert torch.equal(truth, run(loaded(on_meta(BUILDS[network]), read)))


@NETWORKS
def test_a_name_of_neither_spelling_is_refused(network: str) -> None:
    expected = stored_shapes(on_meta(BUILDS[network]))
    stranger = {"encoder.weight_g": torch.zeros(1, 1, 1)}
    with pytest.raises(CheckpointError, match=r"encoder\.weight_g is not of this architecture"):
        check_shapes(expected, Respelled(Held(golden_tensors(expected) | stranger), expected))
