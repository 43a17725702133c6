"""The diffusion transformer against diffusers' `AceStepTransformer1DModel`.

Ours splits one forward into what a schedule, a generation and a step need; theirs does all of it per
call. A guided step is held to theirs over a batch of both branches, the null one with real tokens. Lengths
are chosen around the sliding window: S tokens at w, w + 1 (the last dense length) and
w + 2 (the first band), whole windows and odd ones, each from an even and an odd number of frames.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import cast

import msgspec
import pytest
import torch
from oracles import (
    DTYPES,
    LIMITS,
    assert_close,
    assert_trips,
    precision,
    random_tensor,
    randomise,
    relative_rms,
)
from torch import Tensor

from acestep import oracles
from acestep.diffusion.schedule import schedule
from acestep.models import dit as dit_module
from acestep.models.configs import DiTConfig
from acestep.models.dit import Conditions, DiT, Modulation
from harness.nn.attend import full
from harness.nn.blocks import rope_table, rotate

WINDOW = 5
CONFIG = DiTConfig(
    model_type="acestep",
    hidden_size=48,
    intermediate_size=80,
    num_attention_heads=6,
    num_key_value_heads=2,
    head_dim=16,
    num_hidden_layers=4,
    layer_types=["sliding_attention", "full_attention"] * 2,
    sliding_window=WINDOW,
    in_channels=21,
    audio_acoustic_hidden_dim=7,
    fsq_input_levels=[8, 8, 8, 5, 5, 5],
)
NARROW_ENCODER = msgspec.structs.replace(CONFIG, encoder_hidden_size=40)
TOKENS = (1, WINDOW, WINDOW + 1, WINDOW + 2, 2 * WINDOW, 2 * WINDOW + 3, 4 * WINDOW + 1)
FRAMES = [frames for tokens in TOKENS for frames in (2 * tokens - 1, 2 * tokens)]


class Pair:
    """Ours and theirs with the same weights, and inputs `[B, T, ...]` for both."""

    def __init__(self, config: DiTConfig, dtype: torch.dtype):
        self.config, self.dtype = config, dtype
        self.ours = randomise(DiT(config))
        self.theirs = oracles.diffusers_dit(config, self.ours, dtype)
        self.ours.to(dtype)

    def inputs(self, batch: int, frames: int, encoded: int = 6) -> tuple[Tensor, Tensor, Tensor]:
        """Latents, context and condition tokens."""
        channels, width = self.config.audio_acoustic_hidden_dim, self.config.encoder.hidden_size
        return (
            random_tensor(batch, frames, channels, seed=1, dtype=self.dtype),
            random_tensor(batch, frames, 2 * channels, seed=2, dtype=self.dtype),
            random_tensor(batch, encoded, width, seed=3, dtype=self.dtype),
        )

    def oracle(self, x: Tensor, context: Tensor, encoded: Tensor, time: float) -> Tensor:
        t = torch.full((len(x),), time, dtype=self.dtype)
        with precision(self.dtype):
            return self.theirs(x, t, t, encoded, context, return_dict=False)[0]

    def null(self) -> Tensor:
        """The token `[1, 1, D]` that stands for no conditions."""
        return random_tensor(1, 1, self.config.encoder.hidden_size, seed=4, dtype=self.dtype)

    def guided_oracle(self, x: Tensor, context: Tensor, encoded: Tensor, time: float) -> Tensor:
        """Both branches `[2·B, T, C]`, the null one given as many null tokens as the other has tokens."""
        both = torch.cat((encoded, self.null().expand_as(encoded)))
        return self.oracle(x.repeat(2, 1, 1), context.repeat(2, 1, 1), both, time)

    def velocities(self, x: Tensor, context: Tensor, encoded: Tensor, time: float) -> Tensor:
        modulation = self.ours.modulate(torch.tensor([time], dtype=self.dtype))
        conditions = self.ours.condition(context, encoded, self.null())
        return torch.cat(self.ours.velocities(x, conditions, modulation, 0))

    def velocity(self, x: Tensor, context: Tensor, encoded: Tensor, time: float) -> Tensor:
        modulation = self.ours.modulate(torch.tensor([time], dtype=self.dtype))
        return self.ours.velocity(x, self.ours.condition(context, encoded), modulation, 0)


@DTYPES
@pytest.mark.parametrize("config", [CONFIG, NARROW_ENCODER], ids=["2B", "narrow-encoder"])
def test_every_length_agrees(config: DiTConfig, dtype: torch.dtype) -> None:
    pair = Pair(config, dtype)
    for frames in FRAMES:
        for batch, encoded in ((1, 1), (3, 6)):
            inputs = pair.inputs(batch, frames, encoded)
            assert_close(pair.velocity(*inputs, 0.7), pair.oracle(*inputs, 0.7), LIMITS[dtype], "DiT")


@pytest.mark.parametrize("frames", [2 * WINDOW + 1, 40])
def test_one_prompt_serves_a_batch(frames: int) -> None:
    pair = Pair(CONFIG, torch.float64)
    x, context, encoded = pair.inputs(3, frames)
    theirs = pair.oracle(x, context, encoded[:1].expand(3, -1, -1), 0.3)
    assert_close(pair.velocity(x, context, encoded[:1], 0.3), theirs, LIMITS[torch.float64], "DiT")


@DTYPES
@pytest.mark.parametrize("config", [CONFIG, NARROW_ENCODER], ids=["2B", "narrow-encoder"])
def test_guided_steps_agree_at_every_length(config: DiTConfig, dtype: torch.dtype) -> None:
    pair = Pair(config, dtype)
    for frames in FRAMES:
        for batch, encoded in ((1, 1), (3, 6)):
            inputs = pair.inputs(batch, frames, encoded)
            ours, theirs = pair.velocities(*inputs, 0.7), pair.guided_oracle(*inputs, 0.7)
            assert_close(ours, theirs, LIMITS[dtype], "DiT, guided")


def test_an_unguided_step_of_guided_conditions_agrees() -> None:
    pair = Pair(CONFIG, torch.float64)
    x, context, encoded = pair.inputs(3, 40)
    conditions = pair.ours.condition(context, encoded, pair.null())
    modulation = pair.ours.modulate(torch.tensor([0.7], dtype=torch.float64))
    ours = pair.ours.velocity(x, conditions, modulation, 0)
    assert_close(ours, pair.oracle(x, context, encoded, 0.7), LIMITS[torch.float64], "DiT, guided")


def test_guided_steps_need_the_null_branch() -> None:
    pair = Pair(CONFIG, torch.float64)
    x, context, encoded = pair.inputs(1, 40)
    modulation = pair.ours.modulate(torch.tensor([0.7], dtype=torch.float64))
    with pytest.raises(AssertionError, match="without their null branch"):
        pair.ours.velocities(x, pair.ours.condition(context, encoded), modulation, 0)


def _null_layers(dtype: torch.dtype) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Per layer: the closed form, what 7 null tokens through cross-attention give 5 queries, and the closed
    form with its heads in the wrong order; each `[2, 5, H]`."""
    pair, answers = Pair(CONFIG, dtype), []
    x = random_tensor(2, 5, CONFIG.hidden_size, seed=5, dtype=dtype)
    null = pair.ours.condition_embedder(pair.null())
    for layer in pair.ours._blocks:
        k, v = layer.cross_attn.key_value(null.expand(2, 7, -1))
        real = layer.cross_attn.output(full(layer.cross_attn.query(x), k, v))
        wrong = layer.cross_attn.output(v[:1, :, :1].repeat(1, 3, 1, 1))
        closed = layer.cross(null, null, 2).null
        assert closed is not None and closed.shape == (1, 1, CONFIG.hidden_size)
        answers.append((closed.expand_as(real), real, wrong.expand_as(real)))
    return answers


@DTYPES
def test_equal_tokens_have_one_answer(dtype: torch.dtype) -> None:
    for closed, real, wrong in _null_layers(dtype):
        assert_close(closed, real, LIMITS[dtype], "null cross-attention")
        assert_trips(wrong, real, LIMITS[torch.float32], "null cross-attention", "heads in the wrong order")


@DTYPES
@pytest.mark.parametrize("shift", [1.0, 2.0, 3.0])
def test_one_schedule_serves_every_step(shift: float, dtype: torch.dtype) -> None:
    pair = Pair(CONFIG, dtype)
    x, context, encoded = pair.inputs(2, 31)
    times = schedule(8, shift, turbo=True)
    modulation = pair.ours.modulate(torch.tensor(times, dtype=dtype))
    conditions = pair.ours.condition(context, encoded)
    for step, time in enumerate(times):
        ours = pair.ours.velocity(x, conditions, modulation, step)
        assert_close(ours, pair.oracle(x, context, encoded, time), LIMITS[dtype], "DiT, 8 turbo steps")


def test_bfloat16_is_as_near_the_truth_as_the_oracle() -> None:
    """In bf16 the two round at different places (RoPE), so each is held to the same weights in fp64."""
    pair = Pair(CONFIG, torch.bfloat16)
    exact = deepcopy(pair.ours).double()
    x, context, encoded = pair.inputs(2, 31)
    times = torch.tensor(schedule(8, 3.0, turbo=True), dtype=torch.bfloat16)
    # Time t is rounded again when scaled to 1000·t: the truth starts from what the models saw.
    seen = (times * 1000).double() / 1000
    modulation, conditions = pair.ours.modulate(times), pair.ours.condition(context, encoded)
    true_modulation, true_conditions = (
        exact.modulate(seen),
        exact.condition(context.double(), encoded.double()),
    )
    for step, time in enumerate(times.tolist()):
        truth = exact.velocity(x.double(), true_conditions, true_modulation, step)
        ours = pair.ours.velocity(x, conditions, modulation, step)
        theirs = pair.oracle(x, context, encoded, time)
        rounding = relative_rms(theirs, truth)
        assert rounding < 0.03
        assert relative_rms(ours, truth) < 1.25 * rounding
        assert_close(ours, theirs, 2 * rounding, "DiT, 8 turbo steps")


Damage = Callable[[Pair, pytest.MonkeyPatch], None]


def _rolled(weight: Tensor, shift: int, dim: int) -> None:
    weight.copy_(weight.roll(shift, dim))


def _window(by: int) -> Damage:
    def damage(pair: Pair, patch: pytest.MonkeyPatch) -> None:
        pair.ours.config = msgspec.structs.replace(pair.config, sliding_window=WINDOW + by)

    return damage


def _modulated(change: Callable[[Modulation], Modulation]) -> Damage:
    def damage(pair: Pair, patch: pytest.MonkeyPatch) -> None:
        modulate = pair.ours.modulate
        patch.setattr(pair.ours, "modulate", lambda times: change(modulate(times)))

    return damage


def _conditioned(change: Callable[[Conditions], Conditions]) -> Damage:
    def damage(pair: Pair, patch: pytest.MonkeyPatch) -> None:
        condition = pair.ours.condition
        patch.setattr(pair.ours, "condition", lambda *inputs: change(condition(*inputs)))

    return damage


def _swap_layer_kinds(pair: Pair, patch: pytest.MonkeyPatch) -> None:
    pair.ours.config = msgspec.structs.replace(pair.config, layer_types=pair.config.layer_types[::-1])


def _forget_second_time(pair: Pair, patch: pytest.MonkeyPatch) -> None:
    for parameter in pair.ours.time_embed_r.parameters():
        parameter.zero_()


def _repeat_last_frame(pair: Pair, patch: pytest.MonkeyPatch) -> None:
    patches = dit_module._patches
    patch.setattr(dit_module, "_patches", lambda x: patches(torch.cat((x, x[:, -1:]), dim=1)))


def _unscaled(m: Modulation) -> Modulation:
    return replace(m, layers=m.layers - torch.tensor([0.0, 1, 0, 0, 1, 0])[:, None])


def _rotate_cross(c: Conditions) -> Conditions:
    cos, sin = c.rope
    short = cos[: c.cross[0].k.shape[2]], sin[: c.cross[0].k.shape[2]]
    return replace(c, cross=[layer._replace(k=rotate(layer.k, short)) for layer in c.cross])


CONTROLS: dict[str, Damage] = {
    "condition bias dropped": lambda pair, patch: pair.ours.condition_embedder.bias.zero_(),
    "patchify bias dropped": lambda pair, patch: pair.ours.proj_in["1"].bias.zero_(),
    "x before context": lambda pair, patch: _rolled(pair.ours.proj_in["1"].weight, 7, 1),
    "second frame first": lambda pair, patch: _rolled(pair.ours.proj_out["1"].weight, 1, 2),
    "last frame repeated for zero": _repeat_last_frame,
    "window one short": _window(-1),
    "window one long": _window(+1),
    "sliding and full swapped": _swap_layer_kinds,
    "cos and sin swapped": lambda pair, patch: patch.setattr(
        dit_module, "rope_table", lambda *inputs: rope_table(*inputs)[::-1]
    ),
    "sine first": lambda pair, patch: _rolled(pair.ours.time_embed.linear_1.weight, 128, 1),
    "second time dropped": _forget_second_time,
    "scale without its 1": _modulated(_unscaled),
    "output scale without its 1": _modulated(lambda m: replace(m, out=m.out - torch.tensor([[0.0], [1.0]]))),
    "shift and scale swapped": _modulated(lambda m: replace(m, out=m.out.flip(1))),
    "gates swapped": _modulated(lambda m: replace(m, layers=m.layers[:, :, [0, 1, 5, 3, 4, 2]])),
    "cross keys rotated": _conditioned(_rotate_cross),
    "cross value heads swapped": _conditioned(
        lambda c: replace(c, cross=[layer._replace(v=layer.v.flip(1)) for layer in c.cross])
    ),
}


@pytest.mark.parametrize("control", CONTROLS)
def test_damage_is_noticed(control: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Pair(CONFIG, torch.float64)
    inputs = pair.inputs(2, 4 * WINDOW + 5)
    theirs = pair.oracle(*inputs, 0.7)
    CONTROLS[control](pair, monkeypatch)
    assert_trips(pair.velocity(*inputs, 0.7), theirs, LIMITS[torch.float32], "DiT", control)


def _silent_null(c: Conditions) -> Conditions:
    layers = [layer._replace(null=torch.zeros_like(cast(Tensor, layer.null))) for layer in c.cross]
    return replace(c, cross=layers)


def _null_of_next_layer(c: Conditions) -> Conditions:
    after = [*c.cross[1:], c.cross[0]]
    layers = [layer._replace(null=other.null) for layer, other in zip(c.cross, after, strict=True)]
    return replace(c, cross=layers)


GUIDED_CONTROLS: dict[str, Damage] = {
    "null branch hears nothing": _conditioned(_silent_null),
    "null of the next layer": _conditioned(_null_of_next_layer),
    "condition bias dropped": lambda pair, patch: pair.ours.condition_embedder.bias.zero_(),
    "branches swapped": lambda pair, patch: patch.setattr(
        pair.ours, "velocities", lambda *inputs, swap=pair.ours.velocities: swap(*inputs)[::-1]
    ),
}


@pytest.mark.parametrize("control", GUIDED_CONTROLS)
def test_guided_damage_is_noticed(control: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Pair(CONFIG, torch.float64)
    inputs = pair.inputs(2, 4 * WINDOW + 5)
    theirs = pair.guided_oracle(*inputs, 0.7)
    GUIDED_CONTROLS[control](pair, monkeypatch)
    assert_trips(pair.velocities(*inputs, 0.7), theirs, LIMITS[torch.float32], "DiT, guided", control)


def test_float64_needs_the_oracle_lifted() -> None:
    pair = Pair(CONFIG, torch.float64)
    x, context, encoded = pair.inputs(2, 31)
    t = torch.full((2,), 0.7, dtype=torch.float64)
    as_written = pair.theirs(x, t, t, encoded, context, return_dict=False)[0]
    ours = pair.velocity(x, context, encoded, 0.7)
    assert_trips(ours, as_written, LIMITS[torch.float64], "DiT", "oracle left in float32")
