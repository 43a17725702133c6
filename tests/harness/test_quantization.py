"""What is quantized, how well, and in how many bytes."""

from __future__ import annotations

import copy
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch
from at_home import CPU, XL, AtHome
from torch import Tensor, nn

from acestep.diffusion import sampler as diffusion
from acestep.diffusion.schedule import schedule
from acestep.models.configs import DiTConfig
from acestep.models.dit import DiT
from acestep.weights.layout import DEFAULT_DIT
from acestep.weights.loading import Models
from acestep.weights.synthetic import Synthetic
from acestep.weights.synthetic_configs import CONFIGS
from harness import quantization
from harness.checkpoint import on_meta
from harness.errors import UsageError
from harness.nn.config import parse_config
from harness.parity import compare
from harness.quantization import FP8, INT4, INT8, QUANTIZATIONS, W8A8, quantize, scheme
from harness.residency import Residency, stored

torchao = pytest.mark.skipif(
    find_spec("torchao") is None, reason="torchao is not installed; pip install '.[quantization]'"
)
exact_int8 = pytest.mark.skipif(
    quantization._without_exact_int8() is not None, reason="this processor overflows int8 sums"
)
RUNS_HERE = [pytest.param(name, marks=exact_int8 if name == W8A8 else ()) for name in QUANTIZATIONS]
OF_A_LAYER = {
    *(f"{kind}_attn.{name}_proj" for kind in ("self", "cross") for name in "qkvo"),
    *(f"mlp.{name}_proj" for name in ("gate", "up", "down")),
}


def load(name: str | None, dit: str = DEFAULT_DIT, dtype: torch.dtype = torch.float32) -> Models:
    source = Synthetic("synthetic-tiny")
    models = Models.open(source, dit, CPU, lambda _: dtype, None, AtHome(), name)
    models.need("dit")
    return models


def linear(name: str | None = None, dtype: torch.dtype = torch.float32) -> nn.Linear:
    torch.manual_seed(0)
    made = nn.Linear(64, 48, bias=False, dtype=dtype).requires_grad_(False)
    made.weight *= torch.logspace(-2, 1, 48, dtype=dtype)[:, None]  # each channel needs its own scale
    if name:
        quantize(made, name)
    return made


def quantized(module: nn.Module) -> set[str]:
    return {name for name, tensor in module.named_parameters() if len(stored(tensor)) > 1}


# ---------------------------------------------------------------- the arithmetic


def rounded(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Per channel, symmetric: `(integers, scale)`. 255 steps span twice the largest weight."""
    scale = weight.abs().amax(-1, keepdim=True) / 127.5
    return (weight / scale).round().clamp(-128, 127), scale


def shifted(scale: Tensor) -> Tensor:
    return scale.roll(1, 0)


@torchao
def test_int8_weights_are_rounded_per_channel():
    weight, made = linear().weight.double(), linear(INT8).weight
    integers, scale = rounded(weight)
    qdata, found, zero = stored(made)
    assert (qdata.dtype, found.dtype, found.shape) == (torch.int8, torch.float32, (48, 1))
    assert not zero.any()
    assert torch.allclose(found.double(), scale, rtol=1e-6)
    tie = ((weight / scale).frac().abs() - 0.5).abs() < 1e-3  # fp32 may round it either way
    assert torch.equal(qdata[~tie].double(), integers[~tie]) and tie.double().mean() < 0.03
    error = (qdata * found - weight).abs() / scale
    assert error.max() <= 0.5 + 1e-3
    assert ((qdata * shifted(found) - weight).abs() / scale).max() > 1


@torchao
def test_fp8_weights_keep_three_bits_of_mantissa():
    weight, made = linear().weight.double(), linear(FP8).weight
    qdata, scale = stored(made)
    assert (qdata.dtype, scale.dtype, scale.shape) == (torch.float8_e4m3fn, torch.float32, (48, 1))
    assert torch.allclose(scale.double(), weight.abs().amax(-1, keepdim=True) / 448, rtol=1e-6)
    normal = (weight / scale).abs() >= 2**-6  # below, e4m3 is evenly spaced
    share = ((qdata.double() * scale - weight).abs() / weight.abs())[normal]
    assert 2**-6 < share.max() <= 2**-4 * (1 + 1e-6)
    assert ((qdata.double() * shifted(scale) - weight).abs() / weight.abs())[normal].max() > 0.1


@torchao
@pytest.mark.parametrize("name", [INT8, FP8])
@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1e-6), (torch.bfloat16, 6e-3)])
def test_a_product_is_that_with_the_weights_put_back(name, dtype, most):
    made = linear(name, dtype)
    qdata, scale, *_ = stored(made.weight)
    x = torch.randn(2, 5, 64, dtype=dtype, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        found = made(x)
    assert found.dtype == dtype
    assert compare(x.double() @ (qdata.double() * scale).T, found).relative_rms < most
    assert compare(x.double() @ (qdata.double() * shifted(scale)).T, found).relative_rms > 0.05


@torchao
@pytest.mark.parametrize(("row", "group"), [(128, 128), (256, 128), (192, 64), (96, 32)])
def test_int4_weights_are_15_steps_from_the_least_of_a_group_to_the_largest(row: int, group: int):
    layer = nn.Linear(row, 48, bias=False).requires_grad_(False)
    weight = layer.weight.double().view(48, -1, group)
    low, high = weight.aminmax(dim=-1, keepdim=True)
    step = (high - low) / 15
    expected = ((weight - low) / step).round() * step + low
    quantize(layer, INT4)
    assert scheme(layer) == INT4
    with torch.inference_mode():
        found = layer(torch.eye(row)).T.double().view(48, -1, group)
    tie = (((weight - low) / step).frac() - 0.5).abs() < 1e-3  # fp32 may round it either way
    assert torch.allclose(found[~tie], expected[~tie], rtol=0, atol=1e-6) and tie.double().mean() < 0.03
    assert ((found - weight).abs() / step).max() <= 0.5 + 1e-3
    assert not torch.allclose(found[~tie], (expected + step)[~tie], rtol=0, atol=1e-6)


@torchao
@pytest.mark.parametrize("shape", [(48, 80), (40, 64)])
def test_int4_refuses_a_matrix_that_it_does_not_fit(shape: tuple[int, int]):
    layer = nn.Linear(*shape[::-1], bias=False).requires_grad_(False)
    with pytest.raises(UsageError, match=f"needs matrices of whole 16s by 32s, not {shape[0]} by {shape[1]}"):
        quantize(layer, INT4)
    assert scheme(layer) is None


@torchao
@exact_int8
@pytest.mark.parametrize("rows", [1, 5, 40])  # the null token of guidance is one row
def test_a_w8a8_product_is_one_of_integers(rows):
    made = linear(W8A8)
    qdata, scale, _ = stored(made.weight)
    x = torch.randn(rows, 64, generator=torch.Generator().manual_seed(1))
    x *= torch.logspace(-1, 2, rows)[:, None]  # each token needs its own scale
    x[:, 0] = 1.01 * x.abs().amax(-1)  # were the largest of a row negative, it would be a tie
    tokens, token_scale = rounded(x.double())
    expected = (tokens.long() @ qdata.long().T) * token_scale * scale.double().T
    with torch.inference_mode():
        found = made(x)
    assert compare(expected, found).relative_rms < 1e-6
    unrounded = x.double() @ (qdata.double() * scale).T
    assert compare(unrounded, found).relative_rms > 1e-3  # so the activations were rounded, too


# ---------------------------------------------------------------- the DiT


@torchao
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


@torchao
def test_the_loader_quantizes_what_it_would_have_loaded():
    loaded, after = load(INT8).ace_step.decoder, load(None).ace_step.decoder
    for layer in after.layers:
        quantize(layer, INT8)
    for (name, ours), theirs in zip(loaded.named_parameters(), after.parameters(), strict=True):
        assert all(map(torch.equal, stored(ours), stored(theirs))), name


@torchao
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


@torchao
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


@torchao
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps a peak that can be reset")
@pytest.mark.nightly
def test_loading_never_holds_the_unquantized_model():
    def peak_share(when: str) -> float:
        command = [sys.executable, "-c", PEAK, INT8, when]
        return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    assert peak_share("layer by layer") < 0.5  # a quarter, a layer in fp32, and room to round it in
    assert peak_share("after") > 1.0


# ---------------------------------------------------------------- to a card and back


class FakeCard(Residency):
    """What is sent over is another tensor in host memory, and it is written down."""

    def __init__(self) -> None:
        super().__init__(torch.device("cuda"), parts=("dit",), offloaded=("dit",))
        self.sent_bytes = 0

    def _keep(self, tensor: Tensor, device: torch.device) -> Tensor:
        return tensor

    def _send(self, host: Tensor, device: torch.device) -> Tensor:
        self.sent_bytes += host.nbytes
        return host.clone()


@torchao
@pytest.mark.parametrize("name", RUNS_HERE)
def test_quantized_weights_are_offloaded_as_what_they_are_made_of(name):
    made = linear(name)
    again = copy.deepcopy(made)
    parts = stored(made.weight)
    home = [part.data_ptr() for part in parts]
    true_bytes = sum(part.nbytes for part in parts)
    assert true_bytes < made.weight.nbytes / 3
    card = FakeCard()
    card.adopt("dit", made)
    assert (card.host(), card.resident()) == ({"dit": true_bytes}, {})
    x = torch.randn(4, 64)
    with torch.inference_mode(), card.using("dit"):
        assert card.sent_bytes == card.resident_bytes == true_bytes
        assert not set(home) & {part.data_ptr() for part in stored(made.weight)}
        assert torch.equal(made(x), again(x))
        stored(made.weight)[1].zero_()  # the card's copy, which alone is read
        assert not made(x).any()
    assert [part.data_ptr() for part in stored(made.weight)] == home
    assert torch.equal(made(x), again(x)) and made(x).any()


@torchao
@pytest.mark.parametrize("name", [INT8, pytest.param(W8A8, marks=exact_int8)])
def test_sums_of_whole_numbers_stay_within_fp16(name: str) -> None:
    """Before they are scaled they are over a hundred times the result, which reaches 300 here."""
    plain = nn.Linear(512, 16, bias=False)
    nn.init.normal_(plain.weight, std=0.02, generator=torch.Generator().manual_seed(0))
    x = torch.randn(4, 512, generator=torch.Generator().manual_seed(1)) * 300
    exact = plain(x).detach()
    assert exact.abs().max() > 290
    layer = nn.Sequential(copy.deepcopy(plain)).half().requires_grad_(False)
    quantize(layer, name)
    assert scheme(layer) == name
    result = layer(x.half())
    assert result.dtype == torch.float16
    assert torch.linalg.vector_norm(result - exact) < 2e-2 * torch.linalg.vector_norm(exact)
    layer[0].__class__ = nn.Linear  # the control: torchao's own
    assert not layer(x.half()).isfinite().all()
