"""Guidance where nothing is left to guide, and what its formulas must keep."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from acestep.diffusion.guidance import Guidance, adg, apg, cfg

MODES = ["apg", "adg", "cfg"]


def draws(count: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 9, 64, generator=generator, dtype=dtype) for _ in range(count)]


def combine(mode: str, x: Tensor, cond: Tensor, null: Tensor, scale: float = 7.0) -> Tensor:
    velocity, _ = Guidance(scale, mode).combine(x, cond, null, 0.5, None)
    return velocity


def test_the_interval_is_on_time_itself_and_holds_its_ends():
    guidance = Guidance(7.0, "apg", 0.3, 0.9)
    assert [guidance.active(t) for t in (1.0, 0.9, 0.5, 0.3, 0.29)] == [False, True, True, True, False]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_shape_and_dtype_stay(mode: str, dtype: torch.dtype):
    combined = combine(mode, *draws(3, dtype))
    assert combined.shape == (2, 9, 64) and combined.dtype == dtype


@pytest.mark.parametrize("mode", MODES)
def test_equal_branches_are_left_alone(mode: str):
    x, cond = draws(2)
    # ADG knows no angle below 0.0014 rad, and shrinks the clean latents by 1 - cos(6.001·0.0014).
    assert torch.allclose(combine(mode, x, cond, cond), cond, atol=5e-4)


@pytest.mark.parametrize("mode", ["apg", "cfg"])
def test_scale_one_is_no_guidance(mode: str):
    assert torch.allclose(combine(mode, *draws(3), scale=1.0), draws(2)[1])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "case",
    [
        lambda x, v: (x, v, v),
        lambda x, v: (x, 0 * v, v),
        lambda x, v: (x, v, 0 * v),
        lambda x, v: (x, v, -v),
        lambda x, v: (0 * x, v, -v),  # clean latents that point in opposite directions
        lambda x, v: (0 * x, v, 3 * v),  # and in the same one
        lambda x, v: (x, 2 * x, v),  # clean latents of the conditions are zero at t = 0.5
        lambda x, v: (x, v, 2 * x),
        lambda x, v: (0 * x, 0 * v, 0 * v),
    ],
)
def test_degenerate_branches_stay_finite(mode: str, case):
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        assert combine(mode, *case(*draws(2, dtype))).isfinite().all()


def test_apg_adds_only_what_is_orthogonal_in_time():
    _, cond, null = draws(3)
    velocity, _ = apg(cond, null, 7.0, None)
    added = velocity - cond
    assert torch.allclose((added * cond).sum(1), torch.zeros(2, 64, dtype=torch.float64), atol=1e-12)
    assert (added.norm(dim=1) <= 6 * 2.5 + 1e-12).all() and added.norm() > 1


def test_apg_momentum_is_the_damped_sum_of_differences():
    _, cond, null, earlier = draws(4)
    assert torch.equal(apg(cond, null, 7.0, None)[1], cond - null)
    assert torch.allclose(apg(cond, null, 7.0, earlier)[1], cond - null - 0.75 * earlier)


def test_adg_turns_away_from_the_null_branch_and_no_further_than_thirty_degrees():
    x, cond, null = draws(3)

    def angle(velocity: Tensor) -> Tensor:
        return torch.nn.functional.cosine_similarity(x - 0.5 * velocity, x - 0.5 * null, dim=-1).acos()

    before, after = angle(cond), angle(adg(x, cond, null, 7.0, 0.5))
    assert (after > before).all() and (after - before <= 3.14 / 6 + 1e-9).all()


def test_cfg_extrapolates():
    cond, null = draws(2)
    assert torch.allclose(cfg(cond, null, 3.0), cond + 2 * (cond - null))


@pytest.mark.parametrize("mode", MODES)
def test_an_item_does_not_depend_on_its_batch(mode: str):
    together = combine(mode, *draws(3))
    alone = combine(mode, *(value[1:] for value in draws(3)))
    assert torch.equal(together[1:], alone)


def test_only_apg_has_momentum():
    x, cond, null, earlier = draws(4)
    kept = partial(Guidance.combine, x=x, cond=cond, null=null, t=0.5, momentum=earlier)
    assert kept(Guidance(7.0, "adg"))[1] is earlier and kept(Guidance(7.0, "cfg"))[1] is earlier
    assert kept(Guidance(7.0, "apg"))[1] is not earlier
