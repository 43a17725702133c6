"""The command's `--lm-fits`: which language model fits which card, as a table of predictions in Markdown.

A cell is the peak of a card that has so much memory and plays its tier's part: what the tier parks is parked,
what it quantizes is quantized. Its limits are off: they are what the table is asked about. torch waits until
the file is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from acestep.setup import NONE, Setup
from acestep.subject import PLANNING, SUBJECT
from acestep.tier_options import METADATA
from acestep.tracing import closed_form
from acestep.weights.layout import DEFAULT_DIT, LM_PREFIX, LMS
from acestep.weights.sources import component_config
from harness import cards
from harness.accelerators import Accelerator, torch_build
from harness.dtypes import BF16
from harness.errors import UsageError
from harness.files import regular, writable, write_whole
from harness.memory import GIB
from harness.processes import Processes
from harness.progress import Progress
from harness.quantization import LM_QUANTIZATIONS

SOURCE, LENGTH_S = "synthetic-full", 60.0
SIZES_GB = (8, 12, 16, 24)
BEGIN, END = "<!-- lm-fits:begin -->", "<!-- lm-fits:end -->"
TOO_SMALL = "—"


class Fit(NamedTuple):
    """A language model in a number format, on a card of `size_gb`."""

    lm: str
    quantization: str
    size_gb: float


class Found(NamedTuple):
    """What a card would show at most, None where it is too small, and seconds of the language model."""

    peak_gib: float | None
    lm_s: float


ROWS = [(lm, name) for lm in LMS for name in (NONE, *LM_QUANTIZATIONS)]


def run(file: Path | bool) -> int:
    """Predict, print the table, and put it between its marks in a `file`; returns the exit code.

    Raises UsageError for a file without them, OSError for one that cannot be written.
    """
    if isinstance(file, Path):
        _around(file)  # refused here, not after minutes
        file = writable("--lm-fits", file)
    fits = [Fit(*row, size_gb) for row in ROWS for size_gb in SIZES_GB]
    cells = []
    with Progress(len(fits), len(fits)) as progress, Processes() as processes:
        predicted = iter(processes.map(found, fits))
        for fit in fits:
            progress.step(f"{fit.lm}, {fit.quantization}, {fit.size_gb:g} GB")
            cells.append(next(predicted))
    text = table(cells)
    print(f"{verdict(cells)}\n\n{text}")
    if isinstance(file, Path):
        before, after = _around(file)
        write_whole(file, f"{before}{BEGIN}\n{text}\n{END}{after}".encode())
    return 0


def found(fit: Fit) -> Found:
    """What is predicted. Imports torch."""
    from harness.trace.predict import predict

    card = replace(cards.find(cards.DEFAULT), memory_gib=fit.size_gb)
    setup = Setup.choose(
        SOURCE,
        accelerator=Accelerator("cuda", card.name, card.memory_gib, capability=card.capability),
        lm=fit.lm,
        want_lm=True,
        lm_backend="pt",
        lm_quantization=fit.quantization,
        compile=False,
        no_limits=True,
    )
    plan = SUBJECT.resolve(SUBJECT.request(LENGTH_S, thinking=True, **METADATA), setup)
    cost = predict(SUBJECT, plan, card)
    lm_s = sum(stage.seconds for stage in cost.running if stage.stage in PLANNING)
    return Found(cost.peak_bytes / GIB if cost.fits else None, lm_s)


def weights_gib(lm: str, quantization: str) -> float:
    """Of the language model on a card, without its norms."""
    from harness.nn.config import Qwen3Config

    config = component_config(SOURCE, lm, Qwen3Config)
    scheme = None if quantization == NONE else quantization
    table_bytes = 2 * config.vocab_size * config.hidden_size
    return (closed_form.qwen3_bytes(config, 2, scheme) + table_bytes) / GIB


def table(cells: Sequence[Found]) -> str:
    """The table, of `ROWS` by `SIZES_GB`, and above it what it rests on."""
    build, card = torch_build(), cards.find(cards.DEFAULT)
    lines = [
        f"Predicted {datetime.now(UTC):%Y-%m-%d}, torch {build and build.version}: {LENGTH_S:g} s of "
        f"{DEFAULT_DIT}, planned. Of a {card.name} with so much memory the peak in GiB, context included, "
        "and the seconds of planning at the roofline.",
        "",
        f"| 5 Hz LM | its weights | {' | '.join(f'{size} GB' for size in SIZES_GB)} | planning, s |",
        "|---" * (3 + len(SIZES_GB)) + "|",
    ]
    width = len(SIZES_GB)
    for number, (lm, quantization) in enumerate(ROWS):
        row = cells[number * width : (number + 1) * width]
        peaks = [TOO_SMALL if cell.peak_gib is None else f"{cell.peak_gib:.1f}" for cell in row]
        facts = f"{_short(lm)}, {_kind(quantization)} | {weights_gib(lm, quantization):.1f}"
        lines.append(f"| {facts} | {' | '.join(peaks)} | {row[-1].lm_s:.1f} |")
    return "\n".join(lines)


def verdict(cells: Sequence[Found]) -> str:
    """The largest language model that fits each card, by the cells of `table`."""
    width, largest = len(SIZES_GB), []
    for number, size_gb in enumerate(SIZES_GB):
        fit = [row for row, cell in zip(ROWS, cells[number::width], strict=True) if cell.peak_gib is not None]
        largest.append(
            f"{size_gb} GB: {' in '.join((_short(fit[-1][0]), _kind(fit[-1][1]))) if fit else 'none'}"
        )
    return f"The largest that fits {', '.join(largest)}."


def _short(lm: str) -> str:
    return lm.removeprefix(LM_PREFIX)


def _kind(quantization: str) -> str:
    """The number format of the layers, without how many weights have a scale."""
    return BF16 if quantization == NONE else quantization.partition("_")[0]


def _around(file: Path) -> tuple[str, str]:
    """What of a file is before the table and after it."""
    try:
        text = regular(file).read_text(encoding="utf-8")
        before, begin, rest = text.partition(BEGIN)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--lm-fits: cannot read {str(file)!r} ({error}); name another file") from None
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UsageError(f"--lm-fits: {str(file)!r} has no place for the table; add {BEGIN} and {END}")
    return before, after
