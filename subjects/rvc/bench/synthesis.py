"""Synthesis: text encoder, flow and generator, on features and pitch of a length, every draw an input."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from harness.comparison import Work
from harness.parity import compare
from subjects.rvc import closed_form, pitch, weights
from subjects.rvc.backends.mlx_process import Mlx
from subjects.rvc.bench.beside import beside, by_backend
from subjects.rvc.bench.legs import Side
from subjects.rvc.bench.report import Report
from subjects.rvc.bench.sides import Sides
from subjects.rvc.chunks import is_cut
from subjects.rvc.config import FRAME_RATE, HOP, SynthesizerConfig
from subjects.rvc.models.synthesizer import Synthesizer
from subjects.rvc.weights import SYNTHESIZER

LIMIT = 1e-4  # of the relative RMS of waveforms, with the same draws
PIECE, PIECES = 32, 4  # frames of flow and generator at once, fewer for as many pieces


def run(sides: Sides, report: Report, frames: int) -> int:
    """Measure; returns the exit code: 1 where the result is not what it has to be. Raises BenchError."""
    report.note(duration_s=frames / FRAME_RATE, legs=[])
    return by_backend(sides, report, _mlx, _torch, inputs(sides.setup.configs.synthesizer, frames))


def _mlx(one: Side, mlx: Mlx, report: Report, drawn: tuple[Tensor, ...]) -> bool:
    """MLX's synthesis, and whether it is torch's."""
    work = _work(one, drawn)
    other = beside(one, mlx, "synthesis", drawn, work, partial(_called, one, drawn), limit=LIMIT)
    report.add("\n".join(other.lines(f"{work.frames} frames")), mlx=other.as_dict())
    return other.holds


def _called(one: Side, drawn: tuple[Tensor, ...]) -> Callable[[], Tensor]:
    """What calls torch's synthesis of `drawn`."""
    network, sent = _network(one), sent_to(one.device, drawn)
    return lambda: network(*sent)


def _network(one: Side) -> Synthesizer:
    source = weights.open_source(one.setup)
    return weights.network(source, one.setup.configs, SYNTHESIZER, one.device, torch.float32)


def _work(one: Side, drawn: tuple[Tensor, ...]) -> Work:
    """What a call on `drawn` is to do."""
    frames = drawn[0].shape[1]
    return one.work(drawn, frames * HOP, frames, flop(one.setup.configs.synthesizer, frames))


def _torch(one: Side, report: Report, drawn: tuple[Tensor, ...]) -> bool:
    """Torch's synthesis, and whether it is what it has to be."""
    network, sent, work = _network(one), sent_to(one.device, drawn), _work(one, drawn)
    config, frames = network.config, work.frames
    calls = one.timed(lambda: network(*sent))
    leg, samples = one.leg(network, work, calls), calls.output.shape[-1]
    x_realtime = samples / config.sample_rate / leg.median_s
    report.add(
        f"{leg.backend}, {one.weights}: {frames} frames, {samples:,} samples, "
        f"{leg.work.flop / 1e9:.2f} GFLOP\n"
        f"median of {len(leg.seconds)} calls {1e3 * leg.median_s:.1f} ms, {x_realtime:.2f}x real time",
        legs=[leg.as_dict()],
    )
    apart, size = in_pieces(network, sent, calls.output)
    held = "n/a, one piece" if apart is None else f"relative RMS {apart:.1e}, at most {LIMIT:.0e}"
    report.add(
        f"flow and generator in pieces of {size} frames against the whole:\n{held}",
        pieces={"frames": size, "relative_rms": apart, "limit": LIMIT},
    )
    return samples == frames * config.hop and (apart is None or apart <= LIMIT)


def in_pieces(network: Synthesizer, sent: tuple[Tensor, ...], whole: Tensor) -> tuple[float | None, int]:
    """The relative RMS from `whole` of synthesis in pieces, None where each, its context included, is the
    whole; and the frames of a piece."""
    frames = sent[0].shape[1]
    size = min(PIECE, max(frames // PIECES, 1))
    context = min(network.flow.context, network.dec.context)
    if not is_cut(frames, size, (context, context)):
        return None, size
    with torch.inference_mode():
        return compare(whole, pieced(network, *sent, frames=size)).relative_rms, size


def inputs(config: SynthesizerConfig, frames: int, seed: int = 0) -> tuple[Tensor, ...]:
    """phone, pitch, f0, speaker, e1, eps of `Synthesizer.forward`, on the host."""
    lot = torch.Generator().manual_seed(seed)
    f0 = 110 * 2 ** torch.rand(1, frames, generator=lot)
    f0[:, ::7] = 0  # without a voice
    return (
        torch.randn(1, frames, config.phone, generator=lot),
        pitch.coarse(f0),
        f0,
        torch.zeros(1, dtype=torch.long),
        torch.randn(1, config.inter, frames, generator=lot),
        torch.randn(1, frames * config.hop, 1, generator=lot),
    )


def sent_to(device: torch.device, values: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """On the device, but for Hz, of which the host makes the phase."""
    return tuple(value if index == 2 else value.to(device) for index, value in enumerate(values))


def pieced(
    network: Synthesizer,
    phone: Tensor,
    steps: Tensor,
    f0: Tensor,
    speaker: Tensor,
    e1: Tensor,
    eps: Tensor,
    *,
    frames: int,
) -> Tensor:
    """What `network` makes with its flow and generator in pieces of `frames`."""
    g, har = network.voice(speaker), network.dec.m_source(f0, eps)
    latents = network.flow.chunked(network.latents(phone, steps, e1), g, frames)
    return network.dec.chunked(latents, har, g, frames)


def flop(config: SynthesizerConfig, frames: int) -> int:
    """Of all three networks."""
    parts = (closed_form.text_encoder_work, closed_form.flow_work, closed_form.generator_work)
    return sum(part(config, frames).flop for part in parts)
