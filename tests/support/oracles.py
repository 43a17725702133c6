"""What every comparison with an independent implementation needs.

A comparison is two models with the same random weights, one input, and a limit on the relative RMS
of the difference. A limit means something only beside a case that exceeds it, so each comparison has
negative controls: the same models with one thing wrong in ours.

    pip install -e ".[oracle]" && python -m pytest tests/oracle
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from acestep.oracles import load, to_diffusers
from harness.parity import InDouble, precision

__all__ = ["InDouble", "load", "precision", "to_diffusers"]  # with the rest of this file

REASON = 'needs the oracles: pip install -e ".[oracle]"'
diffusers_dit = pytest.importorskip("diffusers.models.transformers.ace_step_transformer", reason=REASON)
diffusers_encoders = pytest.importorskip("diffusers.pipelines.ace_step.modeling_ace_step", reason=REASON)
diffusers_vae = pytest.importorskip("diffusers.models.autoencoders.autoencoder_oobleck", reason=REASON)
transformers_qwen3 = pytest.importorskip("transformers.models.qwen3.modeling_qwen3", reason=REASON)

LIMITS = {torch.float64: 1e-10, torch.float32: 1e-5}
DTYPES = pytest.mark.parametrize("dtype", LIMITS, ids=["fp64", "fp32"])

closeness: dict[tuple[str, str], float] = {}  # (model, dtype) -> worst relative RMS seen
tripping: dict[tuple[str, str], float] = {}  # (model, control) -> relative RMS it causes


def random_tensor(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Standard normal values, the same at every precision up to rounding."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def randomise(module: nn.Module, seed: int = 0) -> nn.Module:
    """Weights at which nothing is neutral: norms off 1, biases and tables off 0, activations of order 1."""
    module.double().requires_grad_(False).eval()
    for index, (name, parameter) in enumerate(module.named_parameters()):
        value = random_tensor(*parameter.shape, seed=1000 * seed + index)
        if "norm" in name:
            value = 1 + 0.3 * value
        elif "table" in name or "special_token" in name or parameter.ndim == 1:
            value = 0.3 * value
        else:
            value *= parameter[0].numel() ** -0.5
        parameter.copy_(value)
    return module


def relative_rms(ours: Tensor, theirs: Tensor) -> float:
    """RMS of the difference over RMS of the oracle's values; of a batch, its worst item."""
    assert ours.shape == theirs.shape, f"{tuple(ours.shape)} is not {tuple(theirs.shape)}"
    ours, theirs = ours.double().flatten(1), theirs.double().flatten(1)
    return ((ours - theirs).norm(dim=1) / theirs.norm(dim=1)).max().item()


def assert_close(ours: Tensor, theirs: Tensor, limit: float, model: str) -> None:
    """Hold `ours` to the oracle; the worst of each `model` is printed at the end of the run."""
    error = relative_rms(ours, theirs)
    key = model, str(theirs.dtype).removeprefix("torch.")
    closeness[key] = max(closeness.get(key, 0.0), error)
    assert error <= limit, f"{model}: relative RMS {error:.1e}, limit {limit:.0e}"


def assert_trips(ours: Tensor, theirs: Tensor, limit: float, model: str, control: str) -> None:
    """Check that a damaged model is told apart: it must miss the limit tenfold, so not by luck."""
    error = relative_rms(ours, theirs)
    tripping[model, control] = error
    assert error > 10 * limit, f"{model}: {control} goes unnoticed, relative RMS {error:.1e}"
