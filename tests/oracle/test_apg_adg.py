"""Guidance: APG against diffusers, ADG against the plane it turns in, the guided loop against both."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from oracles import DTYPES, LIMITS, REASON, assert_close, assert_trips, random_tensor
from torch import Tensor

from acestep.diffusion import guidance
from acestep.diffusion.guidance import Guidance, adg, apg
from acestep.diffusion.sampler import Options, denoise, modulate
from acestep.diffusion.schedule import schedule
from tests.oracle.test_dit import CONFIG, Pair

diffusers_apg = pytest.importorskip("diffusers.guiders.adaptive_projected_guidance", reason=REASON)

SCALE = 7.0
FRAMES = 31


def branches(step: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Two velocities `[2, 31, 64]` whose difference is shorter than APG's limit in some channels only."""
    cond = random_tensor(2, FRAMES, 64, seed=2 * step, dtype=dtype)
    far = torch.linspace(0.1, 1.5, 64, dtype=dtype)
    return cond, cond + far * random_tensor(2, FRAMES, 64, seed=2 * step + 1, dtype=dtype)


def momentum() -> diffusers_apg.MomentumBuffer:
    return diffusers_apg.MomentumBuffer(-0.75)


def diffusers_guided(cond: Tensor, null: Tensor, buffer: diffusers_apg.MomentumBuffer) -> Tensor:
    """As its ACE-Step pipeline calls it."""
    return diffusers_apg.normalized_guidance(
        cond,
        null,
        SCALE - 1,
        momentum_buffer=buffer,
        eta=0.0,
        norm_threshold=2.5,
        use_original_formulation=True,
        norm_dim=(1,),
    )


def apg_steps(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Ours and theirs after each of four guided steps, `[8, 31, 64]`."""
    ours, theirs, held, buffer = [], [], None, momentum()
    for step in range(4):
        cond, null = branches(step, dtype)
        velocity, held = apg(cond, null, SCALE, held)
        ours.append(velocity)
        theirs.append(diffusers_guided(cond, null, buffer))
    return torch.cat(ours), torch.cat(theirs)


@DTYPES
def test_apg_agrees_over_steps(dtype: torch.dtype) -> None:
    assert_close(*apg_steps(dtype), LIMITS[dtype], "APG")


@pytest.mark.parametrize("control", ["APG_MOMENTUM", "APG_LONGEST"])
def test_apg_constants_are_noticed(control: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guidance, control, 1.01 * getattr(guidance, control))
    assert_trips(*apg_steps(torch.float64), LIMITS[torch.float32], "APG", f"{control} 1 % off")


def test_apg_over_channels_is_noticed() -> None:
    cond, null = branches(0, torch.float64)
    ours, _ = apg(cond.mT, null.mT, SCALE, None)
    assert_trips(
        ours.mT, diffusers_guided(cond, null, momentum()), LIMITS[torch.float32], "APG", "over channels"
    )


def turned(x: Tensor, cond: Tensor, null: Tensor, scale: float, t: float) -> Tensor:
    """ADG in the plane of each frame's two clean latents, as complex numbers with the null one on the real
    axis: `z = r·exp(iθ)` becomes `cos θ'·z + i·r·sin θ'`.
    """
    dtype = x.dtype
    x, cond, null = (value.double().numpy() for value in (x, cond, null))
    velocities = np.empty_like(x)
    for frame in np.ndindex(x.shape[:2]):
        clean, clean_null = x[frame] - t * cond[frame], x[frame] - t * null[frame]
        plane, sides = np.linalg.qr(np.stack((clean_null, clean), axis=1))
        plane = plane * np.sign(np.diag(sides))  # the null one to the right, the other one upwards
        right, up = plane.T @ clean
        radius, angle = np.hypot(right, up), np.arctan2(up, right)
        turn = min((scale - 1 + 1e-3) * angle, 3.14 / 6)
        z = np.cos(turn) * complex(right, up) + 1j * radius * np.sin(turn)
        velocities[frame] = (x[frame] - plane @ np.array((z.real, z.imag))) / t
    return torch.from_numpy(velocities).to(dtype)


def adg_inputs(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Frames whose angles reach from far below the widest turn to far above it."""
    x, cond = (random_tensor(2, FRAMES, 64, seed=seed, dtype=dtype) for seed in (50, 51))
    far = torch.logspace(-2, 0.5, FRAMES, dtype=dtype)[:, None]
    return x, cond, cond + far * random_tensor(2, FRAMES, 64, seed=52, dtype=dtype)


@DTYPES
@pytest.mark.parametrize("scale", [1.2, 7.0])
@pytest.mark.parametrize("t", [1.0, 0.3])
def test_adg_turns_in_the_plane(t: float, scale: float, dtype: torch.dtype) -> None:
    inputs = adg_inputs(dtype)
    assert_close(adg(*inputs, scale, t), turned(*inputs, scale, t), LIMITS[dtype], "ADG")


ADG_CONTROLS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "widest turn 1 % off": lambda x, c, u: turned_within(3.1714 / 6, x, c, u),
    "branches swapped": lambda x, c, u: adg(x, u, c, SCALE, 0.3),
    "angle of the velocities": lambda x, c, u: adg(torch.zeros_like(x), c, u, SCALE, 0.3),
    "another time": lambda x, c, u: adg(x, c, u, SCALE, 0.301),
    "scale for scale - 1": lambda x, c, u: adg(x, c, u, SCALE + 1, 0.3),
}


def turned_within(widest: float, x: Tensor, cond: Tensor, null: Tensor) -> Tensor:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(guidance, "ADG_WIDEST", widest)
        return adg(x, cond, null, SCALE, 0.3)


@pytest.mark.parametrize("control", ADG_CONTROLS)
def test_adg_damage_is_noticed(control: str) -> None:
    inputs = adg_inputs(torch.float64)
    damaged = ADG_CONTROLS[control](*inputs)
    assert_trips(damaged, turned(*inputs, SCALE, 0.3), LIMITS[torch.float32], "ADG", control)


def guided_loop(
    dtype: torch.dtype, start: float = 0.4, end: float = 0.96, every_step: bool = False
) -> tuple[Tensor, Tensor]:
    """Eight Euler steps under APG, guided in the middle, and the same from diffusers' parts.

    `every_step`: theirs carries its momentum through unguided steps as well.
    """
    config, width = CONFIG, CONFIG.encoder.hidden_size
    pair, buffer = Pair(config, dtype), momentum()
    x, context, encoded = pair.inputs(2, FRAMES)
    null = random_tensor(1, 1, width, seed=4, dtype=dtype)
    times = schedule(8, 3.0, turbo=False)
    ours, _ = denoise(
        pair.ours,
        x,
        pair.ours.condition(context, encoded, null),
        modulate(pair.ours, times, dtype, x.device),
        times,
        Options(guidance=Guidance(SCALE, "apg", start, end)),
    )
    nothing = null.expand_as(encoded)
    for t, t_next in zip(times, [*times[1:], 0.0], strict=True):
        velocity = pair.oracle(x, context, encoded, t)
        if every_step or 0.4 <= t <= 0.96:
            guided = diffusers_guided(velocity, pair.oracle(x, context, nothing, t), buffer)
            velocity = guided if 0.4 <= t <= 0.96 else velocity
        x = x - velocity * (t - t_next)
    return ours, x


@DTYPES
def test_guided_steps_agree(dtype: torch.dtype) -> None:
    assert_close(*guided_loop(dtype), LIMITS[dtype], "guided loop")


LOOP_CONTROLS = {
    "interval one step longer": partial(guided_loop, start=0.3),
    "interval on 1 - t": partial(guided_loop, start=0.04, end=0.6),
    "momentum from unguided steps": partial(guided_loop, every_step=True),
}


@pytest.mark.parametrize("control", LOOP_CONTROLS)
def test_loop_damage_is_noticed(control: str) -> None:
    damaged = LOOP_CONTROLS[control](torch.float64)
    assert_trips(*damaged, LIMITS[torch.float32], "guided loop", control)
