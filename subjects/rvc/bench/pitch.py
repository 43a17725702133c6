"""Pitch by length: log-mel, U-Net, GRU and decoding, and how their seconds grow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import partial

import torch
from torch import Tensor

from harness.comparison import Leg, Work
from harness.progress import Progress
from harness.scaling import Estimate, fit
from subjects.rvc import closed_form, pitch, weights
from subjects.rvc.accuracy import Accuracy, accuracy
from subjects.rvc.backends.mlx_process import Mlx
from subjects.rvc.bench.beside import beside, by_backend
from subjects.rvc.bench.legs import Side
from subjects.rvc.bench.report import Report, head, row
from subjects.rvc.bench.sides import Sides
from subjects.rvc.config import HOP
from subjects.rvc.layout import RMVPE
from subjects.rvc.models.rmvpe import RMVPE as Network
from subjects.rvc.voices import voice

CENTS, VOICED_F1 = 5.0, 0.99  # between backends: at most, and at least
HEADS = ("s of audio", "frames", "ms", "first ms", "GFLOP", "x real", "voiced")
WIDTHS = (10, 9, 11, 11, 10, 9, 8)


def run(sides: Sides, report: Report, lengths: tuple[float, ...]) -> int:
    """Measure; returns the exit code. Raises BenchError."""
    report.note(mlx={})
    return by_backend(sides, report, _mlx, _torch, lengths)


def _mlx(one: Side, mlx: Mlx, report: Report, lengths: tuple[float, ...]) -> bool:
    """MLX's pitch by length, and whether it is torch's."""
    same = True
    for length in lengths:
        samples, work = _work(one, length)
        other = beside(one, mlx, "pitch", (samples,), work, partial(_called, one, samples), limit=None)
        errors = None if other.expected is None else accuracy(other.expected, other.output)
        figures = other.as_dict() | {"accuracy": errors and asdict(errors)}
        report.add("\n".join([*other.lines(f"{length:g} s"), *_errors(errors)]), mlx={f"{length:g}": figures})
        same = same and right(errors)
    return same


def _called(one: Side, samples: Tensor) -> Callable[[], Tensor]:
    """What calls torch's pitch of `samples`."""
    network, sent = _network(one), samples.to(one.device)
    return lambda: pitch.estimate(network, sent)


def right(errors: Accuracy | None) -> bool:
    """Whether pitch is the same: voiced where it was, and not audibly elsewhere."""
    if errors is None or errors.voiced_f1 is None:
        return True
    return errors.voiced_f1 >= VOICED_F1 and (errors.cents_rms or 0.0) <= CENTS


def _errors(errors: Accuracy | None) -> list[str]:
    if errors is None or errors.cents_rms is None or errors.voiced_f1 is None:
        return []
    apart = f"{errors.cents_rms:.2g} cents from torch (RMS), at most {CENTS:g}"
    verdict = "" if right(errors) else ": FAILED"
    return [f"  {apart}; voiced F1 {errors.voiced_f1:.4f}, at least {VOICED_F1:g}{verdict}"]


def _network(one: Side) -> Network:
    source = weights.open_source(one.setup)
    return weights.network(source, one.setup.configs, RMVPE, one.device, torch.float32)


def _torch(one: Side, report: Report, lengths: tuple[float, ...]) -> bool:
    """Torch's pitch by length, and how its seconds grow; alone there is nothing that it has to be."""
    network, seconds = _network(one), {}
    print(f"{one.backend}, {one.weights}, {torch.get_num_threads()} threads")
    print(head(HEADS, WIDTHS), flush=True)
    report.note(lengths={}, growth=None)
    with Progress(sum(lengths), len(lengths)) as progress:
        for length in lengths:
            progress.step(f"{length:g} s of audio", length)
            leg, f0 = measured(one, network, length)
            seconds[length] = leg.seconds
            report.add(row(_cells(length, leg, f0), WIDTHS), lengths={f"{length:g}": leg.as_dict()})
    print("x real: seconds of audio per second of the wall")
    if len(lengths) > 1:
        growth = fit(seconds)
        per_s, ever = _range(growth.slope, " ms", 1e3), _range(growth.intercept, " ms", 1e3)
        report.add(
            f"seconds grow with length by an exponent of {_range(growth.exponent, '')};\n"
            f"{per_s} more per second, {ever} ever",
            growth={name: part._asdict() for name, part in growth._asdict().items()},
        )
    return True


def measured(one: Side, network: Network, length_s: float) -> tuple[Leg, Tensor]:
    """Pitch of a made-up voice of `length_s`, and its Hz."""
    samples, work = _work(one, length_s)
    sent = samples.to(one.device)
    calls = one.timed(lambda: pitch.estimate(network, sent))
    return one.leg(network, work, calls), calls.output


def _work(one: Side, length_s: float) -> tuple[Tensor, Work]:
    """Samples of a made-up voice, on the host, and what their pitch is to do."""
    samples, config = torch.from_numpy(voice(length_s).samples)[None], one.setup.configs.rmvpe
    grid = 2**config.levels
    on_grid = -(-(samples.shape[-1] // HOP + 1) // grid) * grid
    flop, _ = closed_form.rmvpe_work(config, on_grid)
    return samples, one.work([samples], samples.shape[-1], on_grid, flop)


def _cells(length_s: float, leg: Leg, f0: Tensor) -> tuple[str, ...]:
    first = "n/a" if leg.first_s is None else f"{1e3 * leg.first_s:.1f}"
    return (
        f"{length_s:g}",
        f"{leg.work.frames:,}",
        f"{1e3 * leg.median_s:.1f}",
        first,
        f"{leg.work.flop / 1e9:.2f}",
        f"{length_s / leg.median_s:.1f}",
        f"{float((f0 > 0).double().mean()):.0%}",
    )


def _range(estimate: Estimate, unit: str, scale: float = 1.0) -> str:
    value, low, high = estimate
    inside = "" if low is None or high is None else f" ({scale * low:.2f} to {scale * high:.2f})"
    return f"{scale * value:.2f}{unit}{inside}"
