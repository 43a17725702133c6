"""Calibrations: what predictions rest on, measured on real cards, one file a card (`python -m scripts.gpu`).

    found = find(card)
    found.measured, str(found)      # "calibrated on NVIDIA H200, driver ...", or "uncalibrated"

No rule of PyTorch's gives what a process holds outside its allocator, the workspace of cuBLAS, and that of
cuDNN's convolutions, in copies of their input. These hold for cards of one compute capability. Rates, and
times of launches and kernels, are the very card's. Where nobody has measured, rules stand in.

A file may come from anybody. One that is not right is left out, and every prediction says so with its reason:
it is never the end of one. `read` raises instead, for whoever sends a file. No torch import here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from re import sub
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from harness import cards
from harness.accelerators import snap
from harness.cards import Card
from harness.errors import UsageError
from harness.files import regular
from harness.text import harmless

FOLDER = Path(__file__).resolve().parents[2] / "calibrations"  # of a checkout, and beside installed packages
FORMAT = "acestep-calibration/1"
UNCALIBRATED = "uncalibrated"
MAX_BYTES = 2**16

Text = Annotated[str, Meta(min_length=1, max_length=200, pattern="^[ -~]*$")]
Capability = Annotated[str, Meta(pattern=r"^[0-9]{1,2}\.[0-9]$")]
Day = Annotated[str, Meta(pattern="^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]
Extent = Annotated[int, Meta(ge=1, le=2**31)]  # of a matrix
Bytes = Annotated[int, Meta(ge=0, le=2**40)]
Teraflop = Annotated[float, Meta(ge=1e-6, le=1e6)]
Gigabyte = Annotated[float, Meta(ge=1e-6, le=1e6)]
Microseconds = Annotated[float, Meta(ge=0, le=1e4)]


class Product(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A matrix product `[rows, inner] @ [inner, columns]`, whose matrices no cache holds between calls."""

    rows: Extent
    inner: Extent
    columns: Extent
    tflop_per_s: Teraflop
    gb_per_s: Gigabyte  # of the operands and the result, each once


class Copy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A copy within the card's memory, bytes read and written."""

    bytes: Bytes
    gb_per_s: Gigabyte


class Peaks(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a card that `cards.toml` does not have does at most, and who says so."""

    tflop_per_s: Teraflop
    gb_per_s: Gigabyte
    source: Text


class Calibration(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="format", tag=FORMAT
):
    """Measured on one card of `capability` ("9.0"), under a driver and versions of torch and cuDNN.

    Units are in the names, decimal unless they say MiB or GiB. `launch_us`: a kernel launched from Python;
    `kernel_us`: a small one inside a CUDA graph. `described`: of a card that `cards.toml` does not have.
    """

    card: Text  # as the driver says
    capability: Capability
    memory_gib: Annotated[float, Meta(ge=1, le=1024)]
    date: Day
    driver: Text
    torch: Text
    cudnn: Text
    dtype: Text  # of the products
    context_mib: Annotated[float, Meta(ge=0, le=65_536)]
    blas_bytes: Bytes
    convolution_copies: Annotated[float, Meta(ge=0, le=1e3)]
    launch_us: Microseconds
    kernel_us: Microseconds
    to_card_gb_per_s: Gigabyte
    to_host_gb_per_s: Gigabyte
    products: Annotated[tuple[Product, ...], Meta(min_length=1, max_length=64)]
    copies: Annotated[tuple[Copy, ...], Meta(min_length=1, max_length=64)]
    described: Peaks | None = None

    def __str__(self) -> str:
        return f"calibrated on {self.card}, driver {self.driver}, torch {self.torch}, {self.date}"

    def of(self, card: Card) -> bool:
        """Whether it was measured on `card`, whatever part of its memory is used."""
        return _slug(self.card) == _slug(card.name)


class Found(NamedTuple):
    """What was measured for a card, None where nothing was, and what of the folder cannot be used."""

    measured: Calibration | None
    left_out: Sequence[str] = ()

    def __str__(self) -> str:
        """What a prediction rests on."""
        out = f" ({'; '.join(self.left_out)})" if self.left_out else ""
        return f"{self.measured or UNCALIBRATED}{out}"


def find(card: Card, folder: Path | None = None) -> Found:
    """What was measured on `card`, else on the nearest of its capability: the same name, then the latest."""
    usable, left_out = [], []
    for path in sorted((folder or FOLDER).glob("*.json")):
        try:
            usable.append(read(path))
        except UsageError as error:
            left_out.append(f"left out {error}")
    alike = [one for one in usable if one.capability == "{}.{}".format(*card.capability)]
    own = file_name(card.name, card.memory_gib)

    def nearness(one: Calibration) -> tuple[bool, bool, str]:
        return file_name(one.card, one.memory_gib) == own, one.of(card), one.date

    return Found(max(alike, key=nearness, default=None), left_out)


def read(path: Path) -> Calibration:
    """The calibration in a file. Raises UsageError in one line: file, field, what is allowed."""
    try:
        with regular(path).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{path.name}: cannot be read: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise UsageError(f"{path.name}: over {MAX_BYTES:,} bytes are no calibration")
    try:
        measured = msgspec.json.decode(data, type=Calibration)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{path.name}: {_why(error)}") from None
    if path.name != (name := file_name(measured.card, measured.memory_gib)):
        raise UsageError(f"{path.name}: is of {measured.card}, whose file is {name}")
    known = cards.known(measured.card, measured.memory_gib)
    if known is None and measured.described is None:
        raise UsageError(f"{path.name}: card: cards.toml has none of this name; add it there, or `described`")
    if known and measured.capability != (its := "{}.{}".format(*known.capability)):
        raise UsageError(f"{path.name}: capability: {measured.capability} is not {known.name}'s, {its}")
    return measured


def _why(error: Exception) -> str:
    """The field and what is allowed there, of what msgspec says."""
    expected, at, place = harmless(str(error)).partition(" - at `$")
    if not at:
        return expected if isinstance(error, msgspec.ValidationError) else f"no JSON: {expected}"
    return f"{place.strip('`.') or 'the file'}: {expected}"


def file_name(card: str, memory_gib: float) -> str:
    """The file of a card by its driver's name and size, such as `h200-141gb.json`."""
    return f"{_slug(card)}-{snap(memory_gib):g}gb.json"


def _slug(name: str) -> str:
    return sub("[^a-z0-9.]+", "-", name.lower().removeprefix("nvidia ")).strip("-")
