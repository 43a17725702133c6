"""Networks by themselves: time, work, and their share of what one large convolution of their kind reaches."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from statistics import median
from typing import Any, cast

import torch
from torch import Tensor, nn

from harness.checks import within
from harness.comparison import Leg, in_turn, of_pairs, told
from harness.device import synchroniser
from harness.subject import Component
from subjects.rvc import networks, weights
from subjects.rvc.backends.mlx_process import Mlx
from subjects.rvc.bench import report
from subjects.rvc.bench.beside import Beside, beside, mlx_of
from subjects.rvc.bench.legs import Side, once, side
from subjects.rvc.config import FRAME_RATE, HOP
from subjects.rvc.layout import RMVPE
from subjects.rvc.models.conv import Conv, leave_weight_norm_in
from subjects.rvc.request import MOST_S

ALL = "all"
CONV1D, CONV2D, LINEAR = "conv1d", "conv2d", "linear"
KINDS = {"rmvpe": CONV2D, "hubert": LINEAR, "encoder": LINEAR, "flow": CONV1D, "generator": CONV1D}
TARGETS = {"generator": 0.6, "rmvpe": 0.4}  # shares of the ceiling that are aimed at
FP32_BYTES = 4
HEADS = ("component", "ms", "cpu ms", "GFLOP", "GFLOP/s", "ceiling", "share", "aim", "MB")
WIDTHS = (10, 9, 9, 9, 9, 9, 8, 6, 8)


def run(options: argparse.Namespace) -> int:
    """Measure; returns the exit code. Raises BenchError."""
    within("duration_s", options.duration_s, 1 / FRAME_RATE, MOST_S)
    place, one = report.place(options), side(options)
    frames = round(options.duration_s * FRAME_RATE)
    parts = networks.of(one.setup)
    names = [*parts] if options.component == ALL else [options.component]
    with mlx_of(one) as mlx:
        others = {name: _beside(one, mlx, parts[name], frames) for name in names} if mlx else {}
    for name, other in others.items():
        print("\n".join(other.lines(name)))
    content: dict[str, Any] = {
        "duration_s": options.duration_s,
        "mlx": {name: other.as_dict() for name, other in others.items()},
        "absent": one.absent,
    }
    if not one.mlx_alone:
        content |= _torch(one, {name: parts[name] for name in names}, frames)
    report.absent(one.absent)
    report.write(place, "components", content)
    return 0 if all(other.holds for other in others.values()) else 1


def _beside(one: Side, mlx: Mlx, part: Component, frames: int) -> Beside:
    """The same in MLX, and how far it is from torch's."""
    inputs = part.inputs(frames, torch.Generator().manual_seed(0))
    work = one.work(inputs, frames * HOP, frames, part.work(frames, FP32_BYTES)[0])
    network = None if one.mlx_alone else part.build(one.device, torch.float32)
    sent = [value.to(one.device) for value in inputs]
    return beside(one, mlx, part.name, inputs, work, lambda: part.run(cast(nn.Module, network), *sent))


def _torch(one: Side, parts: dict[str, Component], frames: int) -> dict[str, Any]:
    """Torch's components beside the ceiling, told; returns the figures."""
    names = [*parts]
    ceilings = {kind: ceiling(one, kind) for kind in dict.fromkeys(KINDS[name] for name in names)}
    legs = {name: measured(one, parts[name], frames) for name in names}
    ratios = {
        text: ratio for name in names for text, ratio in folded_ratios(one, parts[name], frames).items()
    }
    moved = {name: parts[name].work(frames, FP32_BYTES)[1] for name in names}
    print(f"{frames / FRAME_RATE:g} s, {frames} frames; {one.backend}, {one.weights}")
    rows = [_row(name, leg, ceilings[KINDS[name]], moved[name]) for name, leg in legs.items()]
    print(report.table(HEADS, WIDTHS, rows))
    print("rates are per second of all processors' time; ceiling: one large convolution")
    print("or product of the same kind, measured in this run; MB: moved at least")
    for text, ratio in ratios.items():
        print(f"{text}: {told(ratio)}")
    return {
        "ceilings_flop_s": ceilings,
        "components": {
            name: leg.as_dict() | {"share": rate(leg) / ceilings[KINDS[name]], "aim": TARGETS.get(name)}
            for name, leg in legs.items()
        },
        "ratios": {text: ratio._asdict() for text, ratio in ratios.items()},
    }


def measured(one: Side, part: Component, frames: int) -> Leg:
    """A component by itself, on inputs that a seed makes."""
    inputs = part.inputs(frames, torch.Generator().manual_seed(0))
    work = one.work(inputs, frames * HOP, frames, part.work(frames, FP32_BYTES)[0])
    network = part.build(one.device, torch.float32)
    sent = [value.to(one.device) for value in inputs]
    calls = one.timed(lambda: part.run(network, *sent))
    return one.leg(network, work, calls)


def rate(leg: Leg) -> float:
    """FLOP per second of all processors' time on a CPU, and per second of the wall elsewhere."""
    return leg.work.flop / median(leg.cpu_s if leg.device == "cpu" else leg.seconds)


def ceiling(one: Side, kind: str) -> float:
    """FLOP per second of one large convolution, or product, as `rate` has it: the best of its calls."""
    call, flop = _large(kind, one.device)
    calls = one.timed(call)
    return flop / min(calls.cpu_s if one.device.type == "cpu" else calls.seconds)


def _large(kind: str, device: torch.device) -> tuple[Callable[[], Tensor], int]:
    """A call, and its FLOP: some 2 GFLOP, wide enough to be bound by arithmetic."""
    lot = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=lot).to(device)

    if kind == CONV1D:
        channels, kernel, places = 256, 7, 2_400
        conv = Conv(channels, channels, kernel).to(device)
        x = drawn(1, places, channels)
        return lambda: conv(x), 2 * kernel * channels**2 * places
    if kind == CONV2D:
        channels, rows, columns = 128, 64, 128
        square = nn.Conv2d(channels, channels, 3, padding=1, device=device)
        image = drawn(1, channels, rows, columns).contiguous(memory_format=torch.channels_last)
        return lambda: square(image), 2 * 9 * channels**2 * rows * columns
    rows, width, out = 512, 768, 3_072
    linear, x = nn.Linear(width, out).to(device), drawn(rows, width)
    return lambda: linear(x), 2 * rows * width * out


def folded_ratios(one: Side, part: Component, frames: int) -> dict[str, Any]:
    """How many times as long a component takes with its norms left in as with them folded."""
    if part.name in ("generator", "flow"):
        norm, other = "weight norm", part.build(one.device, torch.float32)
        leave_weight_norm_in(other)
    elif part.name == RMVPE:
        norm, setup = "batch norm", one.setup
        source = weights.open_source(setup)
        other = weights.network(source, setup.configs, RMVPE, one.device, torch.float32, folded=False)
    else:
        return {}
    network = part.build(one.device, torch.float32)
    sent = [value.to(one.device) for value in part.inputs(frames, torch.Generator().manual_seed(0))]
    sync, on_cpu = synchroniser(one.device), one.device.type == "cpu"

    def seconds(module: nn.Module) -> float:
        wall_s, cpu_s, _ = once(lambda: part.run(module, *sent), sync)
        return cpu_s if on_cpu else wall_s

    if one.warmup:
        in_turn(lambda: seconds(other), lambda: seconds(network), 1)
    pairs = in_turn(lambda: seconds(other), lambda: seconds(network), one.runs)
    ratio = of_pairs(*zip(*pairs, strict=True))
    return {f"{part.name}, {norm} left in over folded": ratio}


def _row(name: str, leg: Leg, most: float, moved_bytes: int) -> tuple[str, ...]:
    aim = TARGETS.get(name)
    return (
        name,
        f"{1e3 * leg.median_s:.1f}",
        f"{1e3 * median(leg.cpu_s):.1f}",
        f"{leg.work.flop / 1e9:.3f}",
        f"{rate(leg) / 1e9:.1f}",
        f"{most / 1e9:.1f}",
        f"{rate(leg) / most:.0%}",
        f"{aim:.0%}" if aim else "",
        f"{moved_bytes / 1e6:.1f}",
    )
