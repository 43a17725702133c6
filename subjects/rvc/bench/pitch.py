"""Pitch by length: log-mel, U-Net, GRU and decoding, and how their seconds grow."""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

from harness.checks import within
from harness.comparison import Leg
from harness.scaling import Estimate, fit
from subjects.rvc import closed_form, pitch, weights
from subjects.rvc.bench import report
from subjects.rvc.bench.legs import Side, side
from subjects.rvc.config import HOP
from subjects.rvc.layout import RMVPE
from subjects.rvc.models.rmvpe import RMVPE as Network
from subjects.rvc.request import LEAST_S, MOST_S
from subjects.rvc.voices import voice

LENGTHS_S = (5.0, 30.0, 60.0, 180.0, 300.0)
QUICK = 2  # of them
HEADS = ("s of audio", "frames", "ms", "first ms", "GFLOP", "x real", "voiced")
WIDTHS = (10, 9, 11, 11, 10, 9, 8)


def run(options: argparse.Namespace) -> int:
    """Measure; returns the exit code. Raises BenchError."""
    if options.duration_s is not None:
        within("duration_s", options.duration_s, LEAST_S, MOST_S)
    place, one = report.place(options), side(options)
    lengths = LENGTHS_S[:QUICK] if options.quick else LENGTHS_S
    lengths = lengths if options.duration_s is None else (options.duration_s,)
    source = weights.open_source(one.setup)
    network = weights.network(source, one.setup.configs, RMVPE, one.device, torch.float32)
    legs: dict[float, Leg] = {}
    rows = []
    for length in lengths:
        legs[length], f0 = measured(one, network, length)
        rows.append(_row(length, legs[length], f0))
    print(f"{one.backend}, {one.weights}, {torch.get_num_threads()} threads")
    print(report.table(HEADS, WIDTHS, rows))
    print("x real: seconds of audio per second of the wall")
    growth = fit({length: leg.seconds for length, leg in legs.items()}) if len(legs) > 1 else None
    if growth:
        print(f"seconds grow with length by an exponent of {_range(growth.exponent, '')};")
        print(
            f"{_range(growth.slope, ' ms', 1e3)} more per second, {_range(growth.intercept, ' ms', 1e3)} ever"
        )
    report.absent(one.absent)
    content = {
        "lengths": {f"{length:g}": leg.as_dict() for length, leg in legs.items()},
        "growth": growth and {name: part._asdict() for name, part in growth._asdict().items()},
        "absent": one.absent,
    }
    report.write(place, "rmvpe", content)
    return 0


def measured(one: Side, network: Network, length_s: float) -> tuple[Leg, Tensor]:
    """Pitch of a made-up voice of `length_s`, and its Hz."""
    samples = torch.from_numpy(voice(length_s).samples)[None].to(one.device)
    frames = samples.shape[-1] // HOP + 1
    on_grid = -(-frames // network.grid) * network.grid
    flop, _ = closed_form.rmvpe_work(one.setup.configs.rmvpe, on_grid)
    work = one.work([samples], samples.shape[-1], on_grid, flop)
    calls = one.timed(lambda: pitch.estimate(network, samples))
    return one.leg(network, work, calls), calls.output


def _row(length_s: float, leg: Leg, f0: Tensor) -> tuple[str, ...]:
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
