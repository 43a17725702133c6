"""Networks by themselves: time, work, and their share of what one large convolution of their kind reaches."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from harness.comparison import Leg, in_turn, in_words, of_pairs
from harness.device import synchroniser
from harness.progress import Progress
from harness.subject import Component
from subjects.rvc import networks, weights
from subjects.rvc.backends.mlx_process import Mlx
from subjects.rvc.bench.beside import beside, by_backend
from subjects.rvc.bench.legs import Side, once
from subjects.rvc.bench.report import Report, head, row
from subjects.rvc.bench.sides import Sides
from subjects.rvc.config import FRAME_RATE, HOP
from subjects.rvc.layout import RMVPE
from subjects.rvc.models.conv import Conv, leave_weight_norm_in

ALL = "all"
CONV1D, CONV2D, LINEAR = "conv1d", "conv2d", "linear"
KINDS = {"rmvpe": CONV2D, "hubert": LINEAR, "encoder": LINEAR, "flow": CONV1D, "generator": CONV1D}
TARGETS = {"generator": 0.6, "rmvpe": 0.4}  # shares of the ceiling that are aimed at
FP32_BYTES = 4
HEADS = ("component", "ms", "cpu ms", "GFLOP", "GFLOP/s", "ceiling", "share", "aim", "MB")
WIDTHS = (10, 9, 9, 9, 9, 9, 8, 6, 8)


def run(sides: Sides, report: Report, component: str, frames: int) -> int:
    """Measure one component, or all; returns the exit code. Raises BenchError."""
    parts = {name: part for name, part in networks.of(sides.setup).items() if component in (ALL, name)}
    report.note(duration_s=frames / FRAME_RATE, mlx={})
    return by_backend(sides, report, _mlx, _torch, parts, frames)


def _mlx(one: Side, mlx: Mlx, report: Report, parts: dict[str, Component], frames: int) -> bool:
    """MLX's components, and whether they are torch's."""
    same = True
    for name, part in parts.items():
        inputs = part.inputs(frames, torch.Generator().manual_seed(0))
        work = one.work(inputs, frames * HOP, frames, part.work(frames, FP32_BYTES)[0])
        other = beside(one, mlx, name, inputs, work, partial(_called, one, part, inputs))
        report.add("\n".join(other.lines(name)), mlx={name: other.as_dict()})
        same = same and other.holds
    return same


def _called(one: Side, part: Component, inputs: tuple[Tensor, ...]) -> Callable[[], Tensor]:
    """What calls torch's component on `inputs`."""
    network, sent = part.build(one.device, torch.float32), [value.to(one.device) for value in inputs]
    return lambda: part.run(network, *sent)


def _torch(one: Side, report: Report, parts: dict[str, Component], frames: int) -> bool:
    """Torch's components beside the ceiling, and what is left in of theirs beside what is folded; alone
    there is nothing that they have to be."""
    ceilings = {kind: ceiling(one, kind) for kind in dict.fromkeys(KINDS[name] for name in parts)}
    title = f"{frames / FRAME_RATE:g} s, {frames} frames; {one.backend}, {one.weights}"
    report.note(components={}, ratios={})
    report.add(f"{title}\n{head(HEADS, WIDTHS)}", ceilings_flop_s=ceilings)
    with Progress(sum(part.work(frames, FP32_BYTES)[0] for part in parts.values()), len(parts)) as progress:
        for name, part in parts.items():
            flop, moved_bytes = part.work(frames, FP32_BYTES)
            progress.step(name, flop)
            leg, most, aim = measured(one, part, frames), ceilings[KINDS[name]], TARGETS.get(name)
            text = row(_cells(name, leg, most, moved_bytes), WIDTHS)
            report.add(text, components={name: leg.as_dict() | {"share": rate(leg) / most, "aim": aim}})
    print("rates are per second of all processors' time; ceiling: one large convolution")
    print("or product of the same kind, measured in this run; MB: moved at least", flush=True)
    for part in parts.values():
        for text, ratio in folded_ratios(one, part, frames).items():
            report.add(f"{text}: {in_words(ratio)}", ratios={text: ratio._asdict()})
    return True


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

    if one.sides.warmup:
        for call in (other, network):
            seconds(call)
    pairs = in_turn(lambda: seconds(other), lambda: seconds(network), one.sides.runs)
    ratio = of_pairs(*zip(*pairs, strict=True))
    return {f"{part.name}, {norm} left in over folded": ratio}


def _cells(name: str, leg: Leg, most: float, moved_bytes: int) -> tuple[str, ...]:
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
