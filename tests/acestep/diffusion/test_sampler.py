"""Solvers on fields whose paths are known, the noise they start from, guidance and repainting around them."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from velocities import CPU, DOUBLE, SEEDS, Field, bent, draw, towards

from acestep.diffusion.guidance import Guidance, apg, cfg
from acestep.diffusion.repaint import Repaint
from acestep.diffusion.sampler import FRESH, Options, blend_start, denoise, modulate, noise
from acestep.diffusion.schedule import schedule
from acestep.models.configs import DiTConfig
from acestep.models.dit import DiT

METHODS = ["ode", "sde", "heun"]
MODES = [None, "apg", "adg", "cfg"]


def test_noise_of_an_item_does_not_depend_on_its_batch():
    together = noise([7, 8, 9], 130, torch.float32, CPU)
    alone = noise([8], 130, torch.float32, CPU)
    assert torch.equal(together[1:2], alone)
    assert not torch.equal(together[0], together[1])


@pytest.mark.parametrize("steps", [1, 8, 16])
@pytest.mark.parametrize("method", METHODS)
def test_every_solver_lands_on_the_data_of_a_straight_field(method: str, steps: int):
    data, field = draw(3, 4), Field(schedule(steps, 3.0, turbo=False), towards(draw(3, 4)))
    assert torch.allclose(field.denoise(draw(*SEEDS), method=method), data, atol=1e-12)
    assert len(field.steps) == (2 * steps - 1 if method == "heun" else steps)


def test_steps_are_as_long_as_the_model_dtype_says():
    times = schedule(8, 3.0, turbo=True)
    held = [*torch.tensor(times, dtype=torch.bfloat16).tolist(), 0.0]
    expected = x = draw(*SEEDS, dtype=torch.bfloat16)
    for t, t_next in pairwise(held):
        expected = expected - expected * (t - t_next)
    assert torch.equal(Field(times, lambda x, t: x).denoise(x), expected)


@pytest.mark.parametrize(("method", "falls"), [("ode", 2), ("heun", 4)])
def test_error_falls_with_the_order_of_the_solver(method: str, falls: int):
    x = draw(1)
    exact = x * math.exp(-math.sin(1))  # dx/dt = cos(t)·x, from 1 to 0
    errors = [
        (Field(schedule(steps, 1.0, turbo=False), bent).denoise(x, method=method) - exact).norm()
        for steps in (20, 40, 80)
    ]
    for coarse, fine in pairwise(errors):
        assert coarse / fine == pytest.approx(falls, rel=0.1)


def test_heun_is_exact_where_velocity_is_linear_in_time():
    times, x = schedule(4, 2.0, turbo=False), draw(1)
    last = times[-1]  # from here the last step is plain
    exact = x - 3 * (1 - last) - (1 - last**2) - (3 + 2 * last) * last

    def linear(x: Tensor, t: float) -> Tensor:
        return torch.full_like(x, 3 + 2 * t)

    assert torch.allclose(Field(times, linear).denoise(x, method="heun"), exact, atol=1e-13)
    assert not torch.allclose(Field(times, linear).denoise(x, method="ode"), exact, atol=0.1)


def test_sde_noises_what_it_believes_to_the_next_time_of_the_schedule():
    times, data, x = schedule(4, 3.0, turbo=False), draw(3, 4), draw(*SEEDS)
    field = Field(times, towards(data))
    field.denoise(x, method="sde")
    streams = [torch.Generator().manual_seed(seed ^ FRESH) for seed in SEEDS]
    for t, seen in zip(times[1:], field.seen[1:], strict=True):
        fresh = torch.cat([torch.randn(1, 6, 64, generator=stream, dtype=DOUBLE) for stream in streams])
        assert torch.allclose(seen, t * fresh + (1 - t) * data, atol=1e-12)
        assert not torch.allclose(fresh, x, atol=0.1)


def test_the_last_step_of_sde_is_that_of_ode():
    x = draw(*SEEDS)
    assert torch.equal(*(Field([1.0], bent).denoise(x, method=method) for method in ("sde", "ode")))


@pytest.mark.parametrize("method", METHODS)
def test_seeds_are_all_there_is_to_chance(method: str):
    runs = []
    for unrelated in (0, 1):
        torch.manual_seed(unrelated)
        runs.append(Field(schedule(8, 1.0, turbo=True), bent).denoise(draw(*SEEDS), method=method))
    assert torch.equal(*runs)


def test_only_steps_in_the_interval_are_guided_and_each_is_one_pass():
    times = schedule(8, 1.0, turbo=False)
    field = Field(times, bent, towards(draw(3, 4)))
    field.denoise(draw(*SEEDS), guidance=Guidance(7.0, "apg", 0.375, 0.75))
    assert field.guided == [0.375 <= t <= 0.75 for t in times]


def test_the_interval_is_about_times_as_they_were_asked_for():
    field = Field([1.0, 0.9, 0.5], bent, bent)  # 0.9 is below 0.9 in bfloat16
    field.denoise(draw(*SEEDS, dtype=torch.bfloat16), guidance=Guidance(7.0, "apg", 0.9, 0.95))
    assert field.guided == [False, True, False]


def test_a_corrector_is_guided_plainly_and_keeps_out_of_the_momentum():
    cond, null, x = draw(3, 4), draw(5, 6), draw(*SEEDS)
    field = Field([1.0, 0.5], lambda x, t: cond, lambda x, t: null)
    latents = field.denoise(x, method="heun", guidance=Guidance(7.0, "apg"))
    first, momentum = apg(cond, null, 7.0, None)
    second, _ = apg(cond, null, 7.0, momentum)
    expected = x - 0.5 * (first + cfg(cond, null, 7.0)) / 2 - 0.5 * second
    assert torch.allclose(latents, expected, atol=1e-12)


def test_a_corrector_outside_the_interval_is_not_guided():
    field = Field([1.0, 0.5], bent, towards(draw(3, 4)))
    field.denoise(draw(*SEEDS), method="heun", guidance=Guidance(7.0, "apg", 0.8, 1.0))
    assert field.guided == [True, False, False]


@pytest.mark.parametrize(
    ("method", "steps", "conditions"),
    [
        ("ode", [0, 1, 2, 3], ["first", "first", "later", "later"]),
        ("heun", [0, 1, 1, 2, 2, 3, 3], ["first", "first", "first", "first", "later", "later", "later"]),
    ],
)
def test_later_conditions_come_in_at_their_step(method: str, steps: list[int], conditions: list[str]):
    field = Field(schedule(4, 1.0, turbo=False), bent)
    field.denoise(draw(*SEEDS), method=method, later="later", later_from=2)
    assert (field.steps, field.conditions) == (steps, conditions)


FRAMES, FIRST, END = 40, 10, 20  # of a recording, and of the region in it to paint
CLEAN, PAINTED = draw(11, frames=FRAMES), draw(12, 13, frames=FRAMES)


KEPT = [frame for frame in range(FRAMES) if not FIRST <= frame < END]


def paint(
    ratio: float, crossfade_frames: int, *, spare_last: bool = False, **options: Any
) -> tuple[Tensor, Field]:
    """What eight steps make of a recording with a model that would paint all of it."""
    field = Field(schedule(8, 3.0, turbo=True), towards(PAINTED))
    repaint = Repaint(CLEAN, (FIRST, END), ratio, crossfade_frames, spare_last)
    return field.denoise(draw(*SEEDS, frames=FRAMES), repaint=repaint, **options), field


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("spare_last", [False, True])
@pytest.mark.parametrize("ratio", [0.0, 0.5, 1.0])
def test_repainting_fades_into_the_recording(ratio: float, spare_last: bool, method: str):
    latents, _ = paint(ratio, 4, method=method, spare_last=spare_last)
    assert torch.allclose(latents[:, FIRST:END], PAINTED[:, FIRST:END], atol=1e-12)
    assert torch.equal(latents[:, : FIRST - 4], CLEAN.expand(2, -1, -1)[:, : FIRST - 4])
    assert torch.equal(latents[:, END + 4 :], CLEAN.expand(2, -1, -1)[:, END + 4 :])
    painted = CLEAN if ratio == 1 and not spare_last else PAINTED  # what is there to fade from
    share = torch.tensor([0.2, 0.4, 0.6, 0.8], dtype=DOUBLE)[:, None]
    for frames, rising in ((slice(FIRST - 4, FIRST), share), (slice(END, END + 4), share.flip(0))):
        faded = rising * painted[:, frames] + (1 - rising) * CLEAN[:, frames]
        assert torch.allclose(latents[:, frames], faded.expand(2, -1, -1), atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_the_first_steps_put_the_recording_back(method: str):
    latents, field = paint(0.5, 0, method=method)
    x, painted = draw(*SEEDS, frames=FRAMES), slice(FIRST, END)
    starts = dict(zip(field.steps, field.seen, strict=True))  # of each step, after any corrector's look at it
    for step, t in enumerate(field.times):
        path = t * x + (1 - t) * CLEAN
        assert torch.allclose(starts[step][:, KEPT], path[:, KEPT], atol=1e-9) is (step <= 4)
        assert torch.allclose(starts[step][:, painted], path[:, painted], atol=1e-9) is (step == 0)
    assert torch.allclose(latents, PAINTED, atol=1e-12)  # without a fade, the last steps keep what they made


def test_put_back_by_every_step_the_recording_is_kept_to_the_bit():
    latents, _ = paint(1.0, 0)
    assert torch.equal(latents[:, KEPT], CLEAN.expand(2, -1, -1)[:, KEPT])


def test_a_start_on_the_way_is_where_the_model_holds_its_time():
    x, clean = draw(*SEEDS, dtype=torch.bfloat16), draw(11, dtype=torch.bfloat16)
    held = 0.8984375  # 0.9 in bfloat16
    assert torch.equal(blend_start(x, clean, 0.9), held * x + (1 - held) * clean)
    assert torch.equal(blend_start(x, clean, 1.0), x)


def tiny_dit() -> DiT:
    config = DiTConfig(
        model_type="acestep",
        hidden_size=24,
        intermediate_size=32,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        num_hidden_layers=2,
        layer_types=["sliding_attention", "full_attention"],
        sliding_window=4,
        fsq_input_levels=[8, 8, 8, 5, 5, 5],
    )
    torch.manual_seed(0)
    dit = DiT(config).double().requires_grad_(False).eval()
    for parameter in dit.parameters():
        parameter.copy_(0.3 * torch.randn_like(parameter))
    return dit


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("method", METHODS)
def test_an_item_does_not_depend_on_its_batch(method: str, mode: str | None):
    dit, times, frames = tiny_dit(), schedule(4, 3.0, turbo=False), 25
    context, encoded = torch.randn(2, frames, 128, dtype=DOUBLE), torch.randn(1, 5, 24, dtype=DOUBLE)
    null, modulation = torch.randn(1, 1, 24, dtype=DOUBLE), modulate(dit, times, DOUBLE, CPU)

    def run(items: slice) -> Tensor:
        conditions = dit.condition(context[items], encoded, null)
        options = Options(method, guidance=Guidance(7.0, mode, 0.2, 0.95) if mode else None)
        x, seeds = draw(*SEEDS, frames=frames)[items], SEEDS[items]
        return denoise(dit, x, conditions, modulation, times, options, seeds=seeds)[0]

    together, second = run(slice(0, 2)), run(slice(1, 2))
    assert torch.allclose(together[1:], second, rtol=1e-9, atol=1e-9)
    assert not torch.allclose(together[:1], second, atol=1e-3)
