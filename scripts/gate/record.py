"""The record of a gate run: one JSON file, from which the table, the job summary and the comment are made.

    record = read(Path(".asv/gate.json"))

A record may come from anybody: a pull request's own code writes it. What is read is held against the types
below, with the size and range of every field, and is data to whoever shows it. The standard library is all
that is needed, so that it can be read where nothing is installed.
"""

from __future__ import annotations

import json
import math
import types
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from harness.errors import UsageError
from harness.files import regular, write_whole

FORMAT, VERSION = "acestep-gate", 1
PATH = Path(".asv/gate.json")
MAX_BYTES = 4 * 2**20  # of the file

Verdict = Literal["slower", "cannot tell", "not measured", "faster", "same"]
EXIT: dict[str, int] = {"same": 0, "faster": 0, "slower": 1, "cannot tell": 2, "not measured": 2}


class Most(NamedTuple):
    """The largest number of characters of a text, or of items of a tuple."""

    length: int


class Range(NamedTuple):
    """Bounds of a number, both allowed."""

    low: float
    high: float


Name = Annotated[str, Most(200)]
Text = Annotated[str, Most(2000)]
Sha = Annotated[str, Most(64)]
Count = Annotated[int, Range(0, 10**6)]
Amount = Annotated[float, Range(0, 1e24)]
Ratio = Annotated[float, Range(0, 1e9)]
Seconds = Annotated[float, Range(0, 1e7)]
Load = Annotated[float, Range(0, 1e5)]


@dataclass(frozen=True, slots=True)
class Commit:
    """One side. `working_tree`: the files as they are, on top of commit `sha`."""

    sha: Sha
    title: Name
    working_tree: bool = False


@dataclass(frozen=True, slots=True)
class Machine:
    """Where both sides were measured. Loads are of one minute; `throttled`: whether processor or
    card was held below its clock meanwhile, None where that is not known."""

    name: Name
    cpu: Name
    cores: Count
    gpu: Name
    torch: Name
    load_before: Load | None
    load_during: Load | None  # the highest that was seen
    throttled: bool | None


@dataclass(frozen=True, slots=True)
class Series:
    """One number of one cell on both sides.

    `base`, `head`: medians, in `unit`. `ratio`: head over base, with its interval from `ratio_low` to
    `ratio_high`. `detectable`: the smallest slowdown that would have shown at this noise (0.1 is 10 %). An
    `exact` series has neither noise nor samples. What was not measured has None, and a `reason`.
    """

    benchmark: Name
    params: Annotated[tuple[tuple[Name, Name], ...], Most(16)]
    stage: Name
    component: Name
    unit: Name
    kind: Literal["exact", "timed"]
    verdict: Verdict
    base: Amount | None = None
    head: Amount | None = None
    ratio: Ratio | None = None
    ratio_low: Ratio | None = None
    ratio_high: Ratio | None = None
    detectable: Ratio | None = None
    samples_base: Count = 0
    samples_head: Count = 0
    reason: Text = ""

    @property
    def name(self) -> str:
        """As asv writes it."""
        values = ", ".join(value for _, value in self.params)
        return f"{self.benchmark}({values})" if values else self.benchmark


@dataclass(frozen=True, slots=True)
class Fit:
    """A predicted verdict of one card that changed. `base`, `head`: "fits" or "out of memory"."""

    case: Name
    tier_gb: Annotated[float, Range(0, 1e5)]
    base: Name
    head: Name


@dataclass(frozen=True, slots=True)
class Record:
    """A whole run. `command` measures the same again; `started` is UTC, ISO 8601."""

    base: Commit
    head: Commit
    verdict: Verdict
    machine: Machine
    source: Name  # of the weights that were timed
    started: Annotated[str, Most(40)]
    seconds: Seconds
    budget_s: Seconds
    rounds: Count
    threshold: Ratio  # a timed series is slower beyond 1 + this
    exact_threshold: Ratio
    series: Annotated[tuple[Series, ...], Most(5000)]
    fits: Annotated[tuple[Fit, ...], Most(500)]
    notes: Annotated[tuple[Text, ...], Most(100)]
    command: Text
    format: Literal["acestep-gate"] = FORMAT
    version: Literal[1] = VERSION


def write(path: Path, record: Record) -> None:
    """Write `record` whole, or not at all. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(asdict(record), indent=1, allow_nan=False).encode())


def read(path: Path) -> Record:
    """Read a record. Raises UsageError, which names the first field that is wrong."""
    try:
        with regular(path).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{str(path)!r} cannot be read: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise UsageError(f"{str(path)!r} is over {MAX_BYTES:,} bytes; it is no record of the gate")
    return parse(data)


def parse(data: bytes) -> Record:
    """The record that `data` holds. Raises UsageError, which names the first field that is wrong."""
    try:
        content = json.loads(data, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise UsageError("record: it is no JSON; run the gate again") from None
    return _checked(Record, content, "record")


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _checked(kind: Any, value: Any, where: str) -> Any:
    """`value` as a `kind`, which it is held against. Raises UsageError about the place `where`."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _bounded(_checked(arguments[0], value, where), arguments[1], where)
    if origin is Literal:
        if value in arguments and type(value) in map(type, arguments):
            return value
        raise _wrong(where, f"is none of {', '.join(map(str, arguments))}")
    if origin in (Union, types.UnionType):
        return None if value is None else _checked(arguments[0], value, where)
    if origin is tuple:
        return _items(arguments, value, where)
    if is_dataclass(kind):
        return _object(kind, value, where)
    if kind is float and type(value) is int:
        value = float(value) if abs(value) < 2**53 else math.inf
    if type(value) is not kind:
        raise _wrong(where, f"is no {kind.__name__}")
    return value


def _bounded(value: Any, bound: Most | Range, where: str) -> Any:
    if isinstance(bound, Most) and len(value) > bound.length:
        raise _wrong(where, f"is longer than {bound.length:,}")
    if isinstance(bound, Range) and not bound.low <= value <= bound.high:
        raise _wrong(where, f"is not from {bound.low:g} to {bound.high:g}")
    return value


def _items(arguments: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    """A tuple of any number of one kind, `tuple[X, ...]`, or of one value of each."""
    if not isinstance(value, list):
        raise _wrong(where, "is no list")
    kinds = (arguments[0],) * len(value) if arguments[-1] is ... else arguments
    if len(value) != len(kinds):
        raise _wrong(where, f"has not {len(kinds)} items")
    pairs = enumerate(zip(kinds, value, strict=True))
    return tuple(_checked(kind, one, f"{where}[{i}]") for i, (kind, one) in pairs)


def _object(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise _wrong(where, "is no object")
    hints = get_type_hints(kind, include_extras=True)
    if value.keys() != hints.keys():
        missing, unknown = hints.keys() - value.keys(), value.keys() - hints.keys()
        what = f"has no {min(missing)}" if missing else f"has {len(unknown)} fields too many"
        raise _wrong(where, what)
    return kind(**{one.name: _checked(hints[one.name], value[one.name], f"{where}.{one.name}")
                   for one in fields(kind)})  # fmt: skip


def _wrong(where: str, what: str) -> UsageError:
    return UsageError(f"{where} {what}; it is no record of this gate, version {VERSION}")
