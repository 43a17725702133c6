"""What has to hold, each with a control that has to fail: pieces, lengths, numbers, weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from harness.nn.folded import stored_shapes
from harness.parity import compare
from harness.progress import Progress
from subjects.rvc import networks, weights
from subjects.rvc.bench.legs import Side
from subjects.rvc.bench.report import Report, absent
from subjects.rvc.bench.sides import Sides
from subjects.rvc.bench.synthesis import inputs, pieced
from subjects.rvc.check import problem_of
from subjects.rvc.chunks import chunks, is_cut
from subjects.rvc.config import SAMPLE_RATE
from subjects.rvc.conversion import output_samples
from subjects.rvc.engine import Engine
from subjects.rvc.layout import RMVPE
from subjects.rvc.models.rmvpe import RMVPE as Network
from subjects.rvc.plan import resolve
from subjects.rvc.request import LENGTHS, request
from subjects.rvc.weights import SYNTHESIZER

ALL = "all"
EXACT, NEAR = 1e-5, 1e-4  # of the relative RMS: in pieces, in another number format
FRAMES = (1, 31, 32, 33, 4_095, 4_096, 4_097)
CHUNK = 2_048  # frames of RMVPE's U-Net
RADIUS = 50  # of the mock, in frames
SIMPLE = (1_000, 31_999, 32_000, 32_001, 64_000, 100_000)
ONE_PIECE = "one piece, its context included, is the whole: no control"
CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Check:
    """What was held, and what its control, which has to fail, came to: None where there is none."""

    name: str
    holds: bool
    trips: bool | None
    told: str

    @property
    def passes(self) -> bool:
        """It holds, and its control, if any, does not."""
        return self.holds and self.trips is not False

    def __str__(self) -> str:
        control = {True: "ok", False: "NO CONTROL", None: "n/a"}
        state = control[self.trips] if self.holds else "FAILED"
        return f"{state:<11}{self.name}\n{'':<11}{self.told}"


def run(sides: Sides, report: Report, which: str, lengths: tuple[int, ...]) -> int:
    """Check; returns the exit code: 1 where something does not hold, or a control does. Raises BenchError."""
    one = Side.of(sides)
    tests: dict[str, Callable[[], Iterator[Check]]] = {
        "chunking": lambda: chunking(one, lengths),
        "chunking-simple": simple,
        "pipeline": lambda: pipeline(one),
        "parity": lambda: parity(one),
        "weights": lambda: loaded(one),
    }
    report.note(checks=[], failed=[])
    names = tests if which == ALL else (which,)
    with Progress(len(names), len(names)) as progress:
        for name in names:
            progress.step(name)
            for check in tests[name]():
                report.add(str(check), checks=[asdict(check)], failed=[] if check.passes else [check.name])
    absent(sides.absent)
    return 1 if report.figures["failed"] else 0


@torch.inference_mode()
def chunking(one: Side, lengths: tuple[int, ...]) -> Iterator[Check]:
    """RMVPE's U-Net in pieces and one GRU is the whole; without context, it is not. So is synthesis."""
    network: Network = weights.network(
        weights.open_source(one.setup), one.setup.configs, RMVPE, CPU, torch.float32
    )
    for frames in lengths:
        on_grid = -(-frames // network.grid) * network.grid
        mel = 2 * torch.randn(1, on_grid, one.setup.configs.rmvpe.mels, generator=_lot()) - 4
        piece = min(CHUNK, max(on_grid // (2 * network.grid), 1) * network.grid)
        whole = network.features(mel)
        pieces = network.features_chunked(mel, piece)
        exact = compare(network.salience(whole), network.salience(pieces)).relative_rms
        blind = compare(whole, network.features_chunked(mel, piece, (0, 0))).relative_rms
        cut = is_cut(on_grid, piece, network.context, network.grid)
        yield Check(
            f"pitch of {frames:,} frames in pieces of {piece:,}",
            exact <= EXACT,
            blind > EXACT if cut else None,
            f"relative RMS {exact:.1e}; without context {blind:.1e}" if cut else ONE_PIECE,
        )
    config, frames = one.setup.configs.synthesizer, 80
    synthesizer = weights.network(
        weights.open_source(one.setup), one.setup.configs, SYNTHESIZER, CPU, torch.float32
    )
    drawn = inputs(config, frames)
    exact = compare(synthesizer(*drawn), pieced(synthesizer, *drawn, frames=20)).relative_rms
    z, har, g = torch.randn(1, frames, config.inter, generator=_lot()), drawn[-1], synthesizer.voice(drawn[3])
    whole = synthesizer.dec(z, har, g)
    blind = compare(whole, synthesizer.dec.chunked(z, har, g, 20, context=0)).relative_rms
    figures = f"relative RMS {exact:.1e}; the generator without context {blind:.1e}"
    yield Check(f"synthesis of {frames} frames in pieces of 20", exact <= EXACT, blind > EXACT, figures)


def simple() -> Iterator[Check]:
    """Without weights: pieces cover all frames in order, on the grid; a moving average over them is exact."""
    grid, size = 32, 32_000
    for length in SIMPLE:
        on_grid = -(-length // grid) * grid
        pieces = [*chunks(on_grid, size, (2 * grid, 2 * grid), grid)]
        ends = [0, *(piece.end for piece in pieces)]
        covers = ends[-1] == on_grid and [piece.start for piece in pieces] == ends[:-1]
        aligned = all(not n % grid for piece in pieces for n in (piece.first, piece.start))
        x = torch.randn(on_grid, generator=_lot(), dtype=torch.float64)
        whole = _average(x)
        exact, blind = (
            compare(whole, torch.cat([_average(x[p.first : p.last])[p.kept] for p in cut])).max_abs
            for cut in (pieces, [*chunks(on_grid, size, (0, 0), grid)])
        )
        yield Check(
            f"{length:,} frames in {len(pieces)} pieces of {size:,}",
            covers and aligned and exact < 1e-12,
            blind > 1e-3 if len(pieces) > 1 else None,
            f"a moving average is off by {exact:.0e}; without context {blind:.0e}"
            if len(pieces) > 1
            else ONE_PIECE,
        )


def pipeline(one: Side) -> Iterator[Check]:
    """A conversion is finite, heard, and as long as the published pipeline's, or as the input."""
    engine = Engine.from_setup(one.setup)
    for length in LENGTHS:
        plan = resolve(request(0.5, length=length), one.setup)
        result = engine.run(plan)
        rate = one.setup.configs.synthesizer.sample_rate
        expected = output_samples(plan.samples, [], rate, plan.exact)
        other = output_samples(plan.samples, [], rate, not plan.exact)
        samples = result.waves.shape[-1]
        problem = problem_of(result, plan)
        figures = problem or f"{samples:,} samples of {plan.samples / SAMPLE_RATE:g} s, all finite"
        yield Check(f"conversion, length {length}", problem is None, samples == expected != other, figures)


@torch.inference_mode()
def parity(one: Side) -> Iterator[Check]:
    """Each network in fp32 is what it is in fp64; with a row of its last matrix doubled it is not."""
    frames = 32 if one.setup.source.startswith("synthetic-tiny") else 16
    for name, part in networks.of(one.setup).items():
        drawn = part.inputs(frames, _lot())
        reference = part.run(part.build(CPU, torch.float64), *(_as(value, torch.float64) for value in drawn))
        network = part.build(CPU, torch.float32)
        near = compare(reference, part.run(network, *drawn)).relative_rms
        *_, matrix = (parameter for parameter in network.parameters() if parameter.dim() > 1)
        matrix[0] *= 2
        changed = compare(reference, part.run(network, *drawn)).relative_rms
        figures = f"relative RMS of fp32 against fp64 {near:.1e}; with a row doubled {changed:.1e}"
        yield Check(name, near <= NEAR, changed > NEAR, figures)


def loaded(one: Side) -> Iterator[Check]:
    """Names and shapes of every network are the file's, none missing and none over."""
    source, configs = weights.open_source(one.setup), one.setup.configs
    for name in weights.NETWORKS:
        expected = stored_shapes(weights.empty(name, configs))
        held = weights.Fitted(source.weights(name), expected)
        network = weights.network(source, configs, name, CPU, torch.float32)
        finite = all(bool(parameter.isfinite().all()) for parameter in network.parameters())
        count = sum(parameter.numel() for parameter in network.parameters())
        same = dict(held.shapes()) == expected
        shorter = dict(held.shapes()) == dict([*expected.items()][1:])
        figures = f"{len(expected)} tensors of the file, {count:,} parameters in memory"
        yield Check(name, same and finite, not shorter, figures)


def _lot() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _average(x: Tensor) -> Tensor:
    """The mean of the places within `RADIUS`, zeros beyond the ends."""
    sums = torch.nn.functional.pad(x, (RADIUS + 1, RADIUS)).cumsum(0)
    return (sums[2 * RADIUS + 1 :] - sums[: -2 * RADIUS - 1]) / (2 * RADIUS + 1)


def _as(value: Tensor, dtype: torch.dtype) -> Tensor:
    return value.to(dtype) if value.is_floating_point() else value
