"""A quantized DiT: what of it is, how near it stays, and what loading it takes."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from at_home import CPU, XL, AtHome
from quantizations import RUNS_HERE, torchao
from torch import Tensor, nn

from acestep.diffusion import sampler as diffusion
from acestep.diffusion.schedule import schedule
from acestep.models.configs import DiTConfig
from acestep.models.dit import DiT
from acestep.weights.layout import DEFAULT_DIT
from acestep.weights.loading import Models
from acestep.weights.synthetic import Synthetic
from acestep.weights.synthetic_configs import CONFIGS
from harness.checkpoint import on_meta
from harness.nn.config import parse_config
from harness.parity import compare
from harness.quantization import FP8, INT8, QUANTIZATIONS, W8A8, quantize, scheme
from harness.residency import stored

pytestmark = torchao
OF_A_LAYER = {
    *(f"{kind}_attn.{name}_proj" for kind in ("self", "cross") for name in "qkvo"),
    *(f"mlp.{name}_proj" for name in ("gate", "up", "down")),
}


def load(name: str | None, dit: str = DEFAULT_DIT, dtype: torch.dtype = torch.float32) -> Models:
    source = Synthetic("synthetic-tiny")
    models = Models.open(source, dit, CPU, lambda _: dtype, None, AtHome(), name)
    models.need("dit")
    return models


def quantized(module: nn.Module) -> set[str]:
    return {name for name, tensor in module.named_parameters() if len(stored(tensor)) > 1}


@pytest.mark.parametrize("dit", [DEFAULT_DIT, XL])
@pytest.mark.parametrize("name", QUANTIZATIONS)
def test_the_linears_of_the_layers_are_quantized_and_nothing_else(name, dit):
    decoder = load(name, dit).ace_step.decoder
    expected = {f"layers.{i}.{at}.weight" for i in range(len(decoder.layers)) for at in OF_A_LAYER}
    assert quantized(decoder) == expected and scheme(decoder.layers) == name
    plain = load(None, dit).ace_step.decoder
    assert quantized(plain) == set() and scheme(plain.layers) is None
    plain.layers[0] = decoder.layers[0]
    assert scheme(plain.layers) == " and ".join(sorted((name, "none")))


def test_the_loader_quantizes_what_it_would_have_loaded():
    loaded, after = load(INT8).ace_step.decoder, load(None).ace_step.decoder
    for layer in after.layers:
        quantize(layer, INT8)
    for (name, ours), theirs in zip(loaded.named_parameters(), after.parameters(), strict=True):
        assert all(map(torch.equal, stored(ours), stored(theirs))), name


@pytest.mark.parametrize("dit", [DEFAULT_DIT, XL])
@pytest.mark.parametrize("name", QUANTIZATIONS)
def test_the_published_dit_takes_little_more_than_half_of_bf16(name, dit):
    config = parse_config(CONFIGS["synthetic-full"][dit], DiTConfig, dit)
    decoder = on_meta(lambda: DiT(config)).to(torch.bfloat16).requires_grad_(False)

    def bytes_of(module: nn.Module) -> int:
        return sum(part.nbytes for tensor in module.parameters() for part in stored(tensor))

    whole, (of_layer,) = bytes_of(decoder), {bytes_of(layer) for layer in decoder.layers}
    quantize(decoder.layers[0], name)  # the others have the same shapes
    kept = whole - len(decoder.layers) * (of_layer - bytes_of(decoder.layers[0]))
    assert 0.5 < kept / whole <= 0.58


def velocity(decoder: DiT, dtype: torch.dtype, frames: int = 150) -> Tensor:
    """Of a guided step, both branches: `[2, T, 64]`."""
    generator = torch.Generator().manual_seed(0)
    width = decoder.config.encoder.hidden_size

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(dtype)

    with torch.inference_mode():
        conditions = decoder.condition(draw(1, frames, 128), draw(1, 20, width), draw(1, 1, width))
        modulation = diffusion.modulate(decoder, schedule(8, 3.0, turbo=True), dtype, CPU)
        return torch.cat(decoder.velocities(draw(1, frames, 64), conditions, modulation, 3))


BOUNDS = {INT8: 0.015, FP8: 0.03, W8A8: 0.02}


@pytest.mark.parametrize("name", RUNS_HERE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_velocity_stays_close(name, dtype):
    whole = load(None, dtype=dtype).ace_step.decoder
    made = load(name, dtype=dtype).ace_step.decoder
    reference = velocity(whole, dtype)
    found = compare(reference, velocity(made, dtype)).relative_rms
    assert 0.05 * BOUNDS[name] < found < BOUNDS[name]
    _, scale, *_ = stored(made.layers[4].mlp.down_proj.weight)
    scale *= 2
    assert compare(reference, velocity(made, dtype)).relative_rms > BOUNDS[name]


PEAK = """
import sys, torch
from harness.checkpoint import on_meta
from harness.device import return_freed_memory
from acestep.weights.loading import Part
from harness.memory import MemoryBudget
from acestep.models.configs import DiTConfig
from harness.nn.config import parse_config
from acestep.models.dit import DiT
from harness.quantization import quantize
from acestep.weights.synthetic_configs import CONFIGS
from acestep.weights.layout import DEFAULT_DIT

name, after = sys.argv[1], sys.argv[2] == "after"
wide = CONFIGS["synthetic-tiny"][DEFAULT_DIT] | {"hidden_size": 1024, "intermediate_size": 4096}
config = parse_config(wide, DiTConfig, "wide")
quantize(torch.nn.Linear(8, 8).requires_grad_(False), name)  # what this imports is not the model's
dit = on_meta(lambda: DiT(config))
shapes = {name: tensor.shape for name, tensor in dit.named_parameters()}
part = Part(dit, ("",), lambda name: torch.ones(shapes[name]), None if after else name)
return_freed_memory()
budget = MemoryBudget("cpu")
before = budget.used_bytes()
budget.reset_peak()
part.materialise(torch.device("cpu"), torch.float32)
if after:
    for layer in dit.layers:
        quantize(layer, name)
print((budget.peak_bytes() - before) / (4 * sum(shape.numel() for shape in shapes.values())))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps a peak that can be reset")
@pytest.mark.nightly
def test_loading_never_holds_the_unquantized_model():
    def peak_share(when: str) -> float:
        command = [sys.executable, "-c", PEAK, INT8, when]
        return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    assert peak_share("layer by layer") < 0.5  # a quarter, a layer in fp32, and room to round it in
    assert peak_share("after") > 1.0
