"""The networks in fp16, with activations as large as those of the published weights are said to be.

Random weights have small activations, so they are scaled. What leaves the range of fp16 is the lyric
encoder's last projection, an island of fp32. Every residual stream has room for ten times the figures that
are published of the DiT's, and the control shows where that room ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import cache

import pytest
import torch
from torch import Tensor, nn

from acestep.engine import Engine
from acestep.models.condition import ConditionEncoder, Encoder, LyricEncoder
from acestep.networks import components
from acestep.setup import Setup
from harness.checkpoint import materialise, on_meta
from harness.nn.islands import islands
from harness.nn.packed import unpack
from harness.subject import Component

CPU = torch.device("cpu")
INTO, OUT_OF = 1.15e4, 5.05e5  # upstream's figures of the last projection, from fp32 runs
STREAM = 1e4  # of the published DiT 1e2 to 1e3 are known
LIMIT = 2e-2  # of the root mean square


def part(name: str) -> Component:
    return components("synthetic-tiny")[name]


@cache
def network(name: str) -> nn.Module:
    return part(name).build(CPU, torch.float32)


def inputs(name: str, size: int) -> tuple[Tensor, ...]:
    return part(name).inputs(size, torch.Generator().manual_seed(0))


def run(name: str, network: nn.Module, inputs: tuple[Tensor, ...], dtype: torch.dtype) -> Tensor:
    cast = (value.to(dtype) if value.is_floating_point() else value for value in inputs)
    with torch.inference_mode():
        return part(name).run(network, *cast)


@contextmanager
def peaks(*modules: nn.Module) -> Iterator[list[float]]:
    """The largest value that each module has returned."""
    largest = [0.0] * len(modules)

    def hook(place: int) -> Callable[[nn.Module, object, Tensor], None]:
        def note(module: nn.Module, inputs: object, output: Tensor) -> None:
            largest[place] = max(largest[place], output.abs().max().item())

        return note

    handles = [module.register_forward_hook(hook(place)) for place, module in enumerate(modules)]
    yield largest
    for handle in handles:
        handle.remove()


def error(result: Tensor, exact: Tensor) -> float:
    norm = torch.linalg.vector_norm
    return (norm(result.double() - exact.double()) / norm(exact.double())).item()


def published(exact: ConditionEncoder, inputs: tuple[Tensor, ...]) -> ConditionEncoder:
    """`exact` with a lyric encoder whose last projection reads INTO and makes OUT_OF, at most."""
    scaled = deepcopy(exact)
    unpack(scaled)  # copies of views are copies
    mlp = scaled.lyric_encoder.layers[-1].mlp
    into: list[float] = []
    handle = mlp.down_proj.register_forward_hook(lambda m, args, out: into.append(args[0].abs().max().item()))
    run("condition", scaled, inputs, torch.float32)
    mlp.up_proj.weight *= INTO / into[-1]
    with peaks(mlp.down_proj) as out_of:
        run("condition", scaled, inputs, torch.float32)
    mlp.down_proj.weight *= OUT_OF / out_of[0]
    with peaks(mlp.down_proj) as out_of:
        run("condition", scaled, inputs, torch.float32)
    handle.remove()
    assert into[-1] == pytest.approx(INTO, rel=1e-3) and out_of[0] == pytest.approx(OUT_OF, rel=1e-3)
    return scaled


def in_fp16(exact: ConditionEncoder) -> ConditionEncoder:
    """The same weights as they are loaded."""
    config = part("condition").config
    loaded = on_meta(lambda: ConditionEncoder(config))
    materialise(loaded, exact.state_dict().__getitem__, device=CPU, dtype=torch.float16)
    return loaded


@torch.inference_mode()
def test_lyrics_leave_the_range_of_fp16_but_in_the_island() -> None:
    given = inputs("condition", 40)
    exact = published(network("condition"), given)
    loaded = in_fp16(exact)
    last = len(exact.lyric_encoder.layers) - 1
    wide = [f"lyric_encoder.layers.{last}.mlp.down_proj", "lyric_encoder.norm"]
    assert [*islands(loaded, torch.float16)] == wide
    result = run("condition", loaded, given, torch.float16)
    assert result.dtype == torch.float16
    assert error(result, run("condition", exact, given, torch.float32)) < LIMIT
    without = run("condition", deepcopy(exact).half(), given, torch.float16)
    assert not without.isfinite().all()


@torch.inference_mode()
def test_unequal_prompts_stay_finite_beside_their_padding() -> None:
    """A padding query may see no key at all: its bias is the lowest number of fp16, to which scores add."""
    given = inputs("condition", 40)
    exact = published(network("condition"), given)
    valid = torch.arange(40) < torch.tensor([[40], [3]])
    lyrics = torch.cat((given[1], given[1].flip(1)))
    results = [
        encoder.lyric_encoder(lyrics.to(dtype), valid)
        for encoder, dtype in ((exact, torch.float32), (in_fp16(exact), torch.float16))
    ]
    assert results[1].isfinite().all()
    assert error(results[1][valid], results[0][valid]) < LIMIT


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@torch.inference_mode()
def test_in_another_dtype_lyrics_are_encoded_as_anything_is(dtype: torch.dtype) -> None:
    config = part("condition").config
    of = (config.text_hidden_dim, config.num_lyric_encoder_hidden_layers, config.encoder, 128)
    state = network("condition").lyric_encoder.state_dict()
    encoders = [on_meta(lambda kind=kind: kind(*of)) for kind in (LyricEncoder, Encoder)]
    for encoder in encoders:
        materialise(encoder, state.__getitem__, device=CPU, dtype=dtype)
    own, plain = (encoder(inputs("condition", 40)[1].to(dtype)) for encoder in encoders)
    assert own.dtype == dtype and torch.equal(own, plain)


def dit(network: nn.Module, factor: float) -> nn.Module:
    network.proj_in["1"].weight *= factor
    network.proj_in["1"].bias *= factor
    return network.layers[0]


def tokens(network: nn.Module, factor: float) -> nn.Module:
    network.embed_tokens.weight *= factor
    return network.layers[0]


def vae(network: nn.Module, factor: float) -> nn.Module:
    network.conv1.weight *= factor
    network.conv1.bias *= factor
    return network.conv1


@pytest.mark.parametrize(
    ("name", "scale", "size"),
    [("dit", dit, 40), ("lm", tokens, 24), ("text_encoder", tokens, 24), ("vae_decoder", vae, 8),
     ("vae_encoder", vae, 4)],
)  # fmt: skip
@torch.inference_mode()
def test_a_stream_of_ten_thousand_has_room(name: str, scale: Callable[..., nn.Module], size: int) -> None:
    given = inputs(name, size)
    scaled = deepcopy(network(name))
    for _ in range(2):  # what a layer adds does not grow with the stream
        with peaks(scale(scaled, 1.0)) as largest:
            run(name, scaled, given, torch.float32)
        scale(scaled, STREAM / largest[0])
    exact = run(name, scaled, given, torch.float32)
    result = run(name, deepcopy(scaled).half(), given, torch.float16)
    assert error(result, exact) < LIMIT
    scale(scaled, 10.0)
    assert not run(name, scaled.half(), given, torch.float16).isfinite().all()


def test_a_record_names_the_islands_that_were_loaded() -> None:
    choices = {"device": "cpu", "lm": None}
    environments = [
        Engine.from_setup(
            Setup.choose("synthetic-tiny", dtype=dtype, **choices), preload=["condition"]
        ).environment
        for dtype in ("fp16", "fp32")
    ]
    wide = "encoder.lyric_encoder.layers.1.mlp.down_proj, encoder.lyric_encoder.norm"
    assert [environment["islands"] for environment in environments] == [wide, None]
