"""How far a part of RVC is from itself made another way, and how right pitch is read off an ideal salience.

    distance(setup, "synthesis", "chunked")     in pieces, of the whole
    pitch_accuracy("chirp")                     of the decoder by itself, whatever the weights

Relative RMS decides; correlation is told beside it and decides nothing.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from harness.errors import MissingPrerequisite, UsageError
from harness.parity import compare
from subjects.rvc import networks, pitch, weights
from subjects.rvc.accuracy import VOICES, accuracy, ideal_salience
from subjects.rvc.backends import mlx_process
from subjects.rvc.bench.audio import log_mel_distance
from subjects.rvc.bench.synthesis import inputs, pieced
from subjects.rvc.layout import HUBERT, RMVPE
from subjects.rvc.models.conv import leave_weight_norm_in
from subjects.rvc.setup import Setup
from subjects.rvc.weights import SYNTHESIZER

FLOW, SYNTHESIS = "flow", "synthesis"
FOLDED, CHUNKED, MLX = "folded", "chunked", "mlx"
LIMIT = 1e-5  # of the relative RMS
FRAMES, PIECE = 96, 32
PITCH_FRAMES, PITCH_PIECE = 4_096, 2_048  # of which each piece lacks some of what is far from it
VOICED_FRAMES = 500
CPU = torch.device("cpu")


@torch.inference_mode()
def distance(setup: Setup, part: str, comparison: str) -> dict[str, Any]:
    """How far `part` (rmvpe, hubert, encoder, flow, synthesis) in fp32 on the CPU is from itself with its
    norms left in (folded), in pieces (chunked), or in MLX; `log_mel` of waveforms only.

    Raises UsageError for what is never exact in pieces, MissingPrerequisite where there is no MLX.
    """
    if comparison == MLX and (reason := mlx_process.absent()):
        raise MissingPrerequisite(f"mlx: {reason}")
    drawn = _drawn(setup, part, comparison)
    network = _network(setup, part)
    others = {FOLDED: _left_in, CHUNKED: _in_pieces, MLX: _in_mlx}
    reference = _called(setup, part, network, drawn)
    other = others[comparison](setup, part, network, drawn)
    figures = asdict(compare(reference, other)) | {"correlation": _correlation(reference, other)}
    if part == SYNTHESIS:
        rate = setup.configs.synthesizer.sample_rate
        figures["log_mel"] = log_mel_distance(reference[0].numpy(), other[0].numpy(), rate)
    figures["limit"] = LIMIT
    return {name: value if math.isfinite(value) else None for name, value in figures.items()}


def pitch_accuracy(voice: str) -> dict[str, float | None]:
    """Cents of error and F1 of voicing, of what is decoded from the ideal salience of one of `VOICES`."""
    f0 = VOICES[voice](VOICED_FRAMES)
    return asdict(accuracy(f0, pitch.decode(ideal_salience(f0))))


def _drawn(setup: Setup, part: str, comparison: str) -> tuple[Tensor, ...]:
    """What goes in, from a seed."""
    if part == SYNTHESIS:
        return inputs(setup.configs.synthesizer, FRAMES)
    frames = PITCH_FRAMES if (part, comparison) == (RMVPE, CHUNKED) else FRAMES
    return networks.of(setup)[part].inputs(frames, torch.Generator().manual_seed(0))


def _network(setup: Setup, part: str, *, folded: bool = True) -> Any:
    if part == SYNTHESIS:
        name = SYNTHESIZER
    elif part == RMVPE:
        name = RMVPE
    else:
        return networks.of(setup)[part].build(CPU, torch.float32)
    return weights.network(weights.open_source(setup), setup.configs, name, CPU, torch.float32, folded=folded)


def _called(setup: Setup, part: str, network: nn.Module, drawn: tuple[Tensor, ...]) -> Tensor:
    return network(*drawn) if part == SYNTHESIS else networks.of(setup)[part].run(network, *drawn)


def _left_in(setup: Setup, part: str, _: nn.Module, drawn: tuple[Tensor, ...]) -> Tensor:
    """With batch norm, or weight norm, computed at each call."""
    other = _network(setup, part, folded=False)
    if part != RMVPE:
        leave_weight_norm_in(other)
    return _called(setup, part, other, drawn)


def _in_pieces(setup: Setup, part: str, network: Any, drawn: tuple[Tensor, ...]) -> Tensor:
    if part == RMVPE:
        return network.salience(network.features_chunked(*drawn, PITCH_PIECE))
    if part == FLOW:
        return network.chunked(*drawn, PIECE)
    if part == SYNTHESIS:
        return pieced(network, *drawn, frames=PIECE)
    whose = "HuBERT's" if part == HUBERT else "the text encoder's"
    raise UsageError(f"part: {part!r} in pieces is not itself at any context: {whose} attention is of all")


def _in_mlx(setup: Setup, part: str, _: nn.Module, drawn: tuple[Tensor, ...]) -> Tensor:
    with mlx_process.Mlx(setup, threads=torch.get_num_threads()) as mlx:
        return mlx.call(part, drawn).output


def _correlation(reference: Tensor, other: Tensor) -> float:
    return torch.corrcoef(torch.stack([reference.flatten().double(), other.flatten().double()]))[0, 1].item()
