"""The graphics cards we know: memory, peaks, link. A card is data (`cards.toml`), or described in a file.

A stage on a card takes at least its arithmetic at the card's peak, its traffic at the memory's, its copies at
the link's, its launches one by one and a little for each kernel. Where the figures come from and what they
hold for is said in `cards.toml`; whether a run fits is asked of `memory_bytes` less `context_bytes`.

    >>> find("rtx 4090").memory_gib
    24

A card of one's own is a JSON object (`read`). These keys are needed; the others are those of `Card`:

    {"name": "My card", "capability": "8.9", "memory_gib": 12, "tflop_per_s": 60, "gb_per_s": 500}

`fp32_tflop_per_s` is a sixteenth of `tflop_per_s` where it is not said, as on an A100: the least there is.

No torch import here.
"""

from __future__ import annotations

import difflib
import functools
import json
import re
import tomllib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from harness import checks, dtypes
from harness.accelerators import MAX_GB, snap
from harness.errors import MissingPrerequisite, UsageError
from harness.memory import GIB
from harness.reading import decode

TABLE = Path(__file__).with_name("cards.toml")
DEFAULT = "RTX 4090"  # whose speed predictions are for, where none is named
MIB = 2**20
MOST_BYTES = 2**16  # of a description
MOST_CHARS = 200
MOST_ALIASES = 20
NEAREST = 5
OR_A_FILE = ", or --device-json FILE"  # of commands that have the flag
LEAST_FP32 = 1 / 16  # of a card's rate, where nobody says what it is in fp32
RANGES = {
    "memory_gib": (1, MAX_GB),
    "tflop_per_s": (0.01, 1e6),
    "fp32_tflop_per_s": (1e-4, 1e6),
    "gb_per_s": (1, 1e6),
    "launch_us": (0, 1e4),
    "kernel_us": (0, 1e4),
    "link_gb_per_s": (0.01, 1e5),
    "context_mib": (0, 65_536),
}


@dataclass(frozen=True, slots=True)
class Card:
    """One card; the fields are the keys of `cards.toml`, decimal units unless they say GiB or MiB."""

    name: str  # as the driver says, without the vendor's
    capability: tuple[int, int]  # of CUDA
    memory_gib: float
    tflop_per_s: float  # of tensor cores, summed in fp32
    fp32_tflop_per_s: float
    gb_per_s: float
    launch_us: float
    kernel_us: float
    link_gb_per_s: float
    context_mib: float
    source: str
    aliases: tuple[str, ...] = ()

    @property
    def memory_bytes(self) -> int:
        return int(self.memory_gib * GIB)

    @property
    def context_bytes(self) -> int:
        """What a process holds outside PyTorch's allocator."""
        return int(self.context_mib * MIB)

    @property
    def flop_per_s(self) -> float:
        return self.tflop_per_s * 1e12

    @property
    def fp32_flop_per_s(self) -> float:
        return self.fp32_tflop_per_s * 1e12

    def rate(self, dtype: str) -> float:
        """TFLOP a second of products in `dtype`, under torch's name."""
        on_tensor_cores = dtypes.on_tensor_cores(dtype, self.capability)
        return self.tflop_per_s if on_tensor_cores else self.fp32_tflop_per_s

    @property
    def bytes_per_s(self) -> float:
        return self.gb_per_s * 1e9

    @property
    def launch_s(self) -> float:
        return self.launch_us * 1e-6

    @property
    def kernel_s(self) -> float:
        """What a kernel takes that has next to nothing to do."""
        return self.kernel_us * 1e-6

    @property
    def link_bytes_per_s(self) -> float:
        return self.link_gb_per_s * 1e9


@functools.cache
def cards() -> tuple[Card, ...]:
    """Every card of the table, in its order."""
    rows: list[Card] = []
    for family in _table()["family"]:
        shared = {key: value for key, value in family.items() if key != "cards"}
        rows += [described(shared | row, TABLE.name) for row in family["cards"]]
    return tuple(rows)


def find(name: str, or_else: str = "") -> Card:
    """The card called `name`, with or without vendor, brand, spaces and dashes; by an alias as well.

    A name that was sold in two sizes wants one of them: `rtx3080-10gb`. Raises UsageError with the nearest
    names, and what else there is to do.
    """
    wanted = _key(name)
    matches = [card for card in cards() if wanted in _keys(card)]
    if len(matches) == 1:
        return matches[0]
    what = "was sold in several sizes" if matches else "is not known"
    near = matches or sorted(cards(), key=lambda card: _distance(wanted, card))[:NEAREST]
    names = ", ".join(map(_sized, near))
    raise UsageError(f"card: {checks.shown(name)} {what}; use e.g. {names}{or_else}")


def known(name: str, memory_gib: float) -> Card | None:
    """The card that its driver calls `name`, of this memory; None where the table has none."""
    keys = {_key(name), _key(f"{name} ({snap(memory_gib):g} GB)")}
    matches = [card for card in cards() if keys & _keys(card)]
    sized = [card for card in matches if snap(card.memory_gib) == snap(memory_gib)]
    return sized[0] if sized else None


def example(size_gb: float) -> str:
    """The short name of a card that was sold with this much; empty where the table names none."""
    return _table()["examples"].get(f"{size_gb:g}", "")


def of_size(size_gb: float) -> str:
    """A size of cards as a reader knows it, `8 GB (RTX 4060)`; the size alone where no example has it."""
    card = example(size_gb)
    return f"{size_gb:g} GB ({card})" if card else f"{size_gb:g} GB"


def read(path: Path) -> Card:
    """The card that a JSON file describes.

    Raises MissingPrerequisite when the file cannot be read, UsageError when it is not a card's.
    """
    where = repr(str(path))
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise UsageError(f"{where}: is no file; name a card's JSON file")
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise MissingPrerequisite(
            f"{where}: unreadable ({error.strerror}); name a card's JSON file"
        ) from None
    if len(data) > MOST_BYTES:
        raise UsageError(f"{where}: over {MOST_BYTES:,} bytes are too many; name a card's JSON file")
    try:
        row = json.loads(decode(data), object_pairs_hook=functools.partial(_object, where))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where}: not JSON: {error}") from None
    if not isinstance(row, dict):
        raise UsageError(f"{where}: holds a {type(row).__name__}; use an object with a card's keys")
    return described({"source": str(path)[-MOST_CHARS:]} | row, where)


def _object(where: str, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object. A key that is there twice has no one meaning."""
    for key, times in Counter(key for key, _ in pairs).items():
        if times > 1:
            raise UsageError(f"{where}: {checks.shown(key)} is given twice; keep one of them")
    return dict(pairs)


@functools.cache
def _table() -> dict[str, Any]:
    return tomllib.loads(TABLE.read_text(encoding="utf-8"))


def described(row: Mapping[str, Any], where: str) -> Card:
    """The card of a row that may leave out what the table has for all. Raises UsageError naming the key."""
    keys = [field.name for field in fields(Card)]
    row = {"aliases": [], **_table()["common"], **row}
    if "fp32_tflop_per_s" not in row and isinstance(rate := row.get("tflop_per_s"), (int, float)):
        row["fp32_tflop_per_s"] = rate * LEAST_FP32
    if unknown := [key for key in row if key not in keys]:
        raise UsageError(f"{where}: {checks.shown(unknown[0])} is no key of a card; use {', '.join(keys)}")
    if missing := [key for key in keys if key not in row and key != "fp32_tflop_per_s"]:
        raise UsageError(f"{where}: no {', no '.join(missing)}; a card needs them")
    for key, (low, high) in RANGES.items():
        checks.within(f"{where}: {key}", row[key], low, high)
    numbers: dict[str, Any] = {key: float(row[key]) for key in RANGES}
    capability = row["capability"]
    if not (isinstance(capability, str) and re.fullmatch(r"[0-9]{1,2}\.[0-9]", capability)):
        raise UsageError(f'{where}: capability: {checks.shown(capability)} is not allowed; use e.g. "8.9"')
    major, minor = map(int, capability.split("."))
    texts = {key: checks.text(f"{where}: {key}", row[key], MOST_CHARS) for key in ("name", "source")}
    aliases = checks.sequence(f"{where}: aliases", row["aliases"], MOST_ALIASES)
    aliases = tuple(checks.text(f"{where}: aliases", alias, MOST_CHARS) for alias in aliases)
    return Card(capability=(major, minor), aliases=aliases, **texts, **numbers)


def _sized(card: Card) -> str:
    return f"{card.name} ({snap(card.memory_gib):g} GB)"


def _keys(card: Card) -> set[str]:
    return {_key(name) for name in (card.name, _sized(card), *card.aliases)}


def _key(name: str) -> str:
    return re.sub("nvidia|geforce|tesla|[^a-z0-9]", "", name.lower())


def _distance(key: str, card: Card) -> float:
    return min(1 - difflib.SequenceMatcher(None, key, other).ratio() for other in _keys(card))
