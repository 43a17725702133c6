"""One run of the profiler as one record: what ran, on what, and how long it took each time.

A run is a header and its items. An item is one configuration: measured several times, or failed with its
reason. Samples are kept, and whatever is said of them is computed from them. Values in mappings are plain
JSON; a list is a list there, because JSON knows no tuples.

The format is versioned by its `schema` field, and `json_schema()` describes it.
"""

from __future__ import annotations

import codecs
import hashlib
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec

from harness.adjustments import Adjustment, Fallback
from harness.errors import MissingPrerequisite
from harness.records.card import TierResult
from harness.records.machine import Machine
from harness.records.memory import MemoryByStage, Size
from harness.records.status import Status
from harness.records.telemetry import Telemetry
from harness.registry import FORMAT

SCHEMA = f"{FORMAT}1"

Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class Header(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a run is: its command, its code, its machine, its weights.

    `origins`: where the value of each flag came from (flag, env, .env, example, preset, default, tier).
    `ended_utc` is None until the run is through. `dirty`: whether the code differs from `commit`, and
    `changes` a digest of it where that does not name it.
    `subject`: what was measured, absent where it is the first of `harness.registry`; `dit`, `lm` and
    `lm_backend` are that one's, and empty elsewhere.
    """

    id: str
    started_utc: Moment
    ended_utc: Moment | None = None
    argv: tuple[str, ...]
    mode: str
    commit: str | None
    dirty: bool | None
    package_version: str | None
    machine: Machine = msgspec.field(name="passport")
    source: str  # of the weights
    source_origin: str
    dit: str
    lm: str | None
    lm_backend: str | None
    device: str
    origins: Mapping[str, str]
    versions: Mapping[str, str]
    subject: str | msgspec.UnsetType = msgspec.UNSET
    changes: str | msgspec.UnsetType = msgspec.UNSET

    def continues(self, other: Header) -> bool:
        """Whether what `other` measured need not be measured again: same code, weights and machine."""
        same = (
            *("mode", "commit", "dirty", "changes", "package_version", "subject"),
            *("source", "dit", "lm", "lm_backend", "device"),
        )
        return (
            (self.dirty is False or self.changes is not msgspec.UNSET)
            and all(getattr(self, name) == getattr(other, name) for name in same)
            and self.versions.get("torch") == other.versions.get("torch")
            and self.machine.lasting == other.machine.lasting
        )


class Streamed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a run was heard that was streamed, in milliseconds (`harness.streaming`).

    Times count from the start of the run; what a subject has none of is None. `chunk_latencies_ms`: from each
    chunk to the next. `underruns` and `silence_ms`: of a player at 1x. `offline_error`: the largest, as a
    share of the peak, beside the same audio made at once; None where that is not as long.
    `first_chunk_stages_ms`: what the time to the first chunk is made of; absent where nobody says.
    """

    time_to_first_code_ms: float | None = None
    time_to_latents_ms: float | None = None
    time_to_first_chunk_ms: float
    chunk_latencies_ms: tuple[float, ...]
    underruns: Size
    silence_ms: float
    offline_error: float | None = None
    first_chunk_stages_ms: Mapping[str, float] | msgspec.UnsetType = msgspec.UNSET


class Sample(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One timed run, in seconds. Stages add up to the wall; details are spans inside them.

    `stream`: absent of a run whose audio is there at its end, all at once. `telemetry`: absent where no
    driver tells of a card.
    """

    wall_s: float
    stages_s: Mapping[str, float] = {}
    details_s: Mapping[str, float] = {}
    steps_s: tuple[float, ...] = ()
    first_audio_s: float | None = None
    stream: Streamed | msgspec.UnsetType = msgspec.UNSET
    telemetry: Telemetry | msgspec.UnsetType = msgspec.UNSET

    def seconds(self, stages: Iterable[str]) -> float:
        """Of all of `stages` together; one that did not run takes none."""
        return sum(self.stages_s.get(stage, 0.0) for stage in stages)


class Cold(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What only the first run pays, in seconds."""

    load_s: float
    first_call_s: float | None = None


class AudioFacts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was heard. Peak and RMS are the loudest item's, 1 being full scale."""

    items: Size
    audio_s: float  # of the longest item
    peak: float
    rms: float
    silent: Size  # items


class Input(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file that a request was read from, and what of the request is not the file's: a field's own value.

    `sha256`: of the file's bytes. Name, hash and changes together say what the request was.
    """

    name: str
    sha256: str
    changed: Mapping[str, Any] = {}


class Item(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One configuration and what came of it.

    `key` is `key_of(mode, requested)`. `error` is one line, empty when ok; `exception` what was raised where
    that says it in other words. `memory_bytes` holds the
    sources that exist: peaks (allocated, reserved, driver, rss), and what there is at the end (context,
    spilled, swap), as in `ProcessMemory`. `memory_by_stage` is absent where nobody asked for it. `text` is
    what the language model wrote, `card` what a tier test adds, `input` the file of the request. `rtf`: wall
    seconds per second of audio, lower is better.
    """

    key: str
    mode: str
    requested: Mapping[str, Any]
    effective: Mapping[str, Any] = {}
    adjustments: tuple[Adjustment, ...] = ()
    status: Status
    error: str = ""
    samples: tuple[Sample, ...] = ()
    cold: Cold | None = None
    counts: Mapping[str, Size | float] = {}
    memory_bytes: Mapping[str, Size] = {}
    memory_by_stage: MemoryByStage | msgspec.UnsetType = msgspec.UNSET
    audio: AudioFacts | None = None
    text: Mapping[str, Any] | None = None
    card: TierResult | None = None
    rtf: float | None = None
    fallbacks: tuple[Fallback, ...] = ()
    warnings: tuple[str, ...] = ()
    input: Input | msgspec.UnsetType = msgspec.UNSET
    exception: str | msgspec.UnsetType = msgspec.UNSET

    @property
    def typical(self) -> Sample | None:
        """The sample with the median wall, so that its stages add up; of a middle pair the slower."""
        ordered = sorted(self.samples, key=lambda sample: sample.wall_s)
        return ordered[len(ordered) // 2] if ordered else None

    @property
    def median_s(self) -> float | None:
        """Wall of the typical sample, in seconds."""
        return self.typical.wall_s if self.typical else None

    @property
    def min_s(self) -> float | None:
        """The fastest wall, in seconds."""
        return min((sample.wall_s for sample in self.samples), default=None)

    @property
    def max_s(self) -> float | None:
        """The slowest wall, in seconds."""
        return max((sample.wall_s for sample in self.samples), default=None)

    @property
    def spread(self) -> float | None:
        """From the fastest to the slowest wall, as a share of the median; None for less than two samples."""
        if len(self.samples) < 2 or not self.median_s:
            return None
        walls = [sample.wall_s for sample in self.samples]
        return (max(walls) - min(walls)) / self.median_s


class Profile(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="schema", tag=SCHEMA
):
    """A whole record: `{"schema": SCHEMA, "run": ..., "items": [...]}`."""

    run: Header
    items: tuple[Item, ...] = ()


class _Named(msgspec.Struct):
    """As much of a record as tells which version it is."""

    schema: str = ""


def key_of(mode: str, requested: Mapping[str, Any]) -> str:
    """A name for a configuration that follows from its content, whatever the order of its fields."""
    content = encode([mode, requested], order="deterministic")
    return hashlib.sha256(content).hexdigest()[:16]


def json_schema() -> dict[str, Any]:
    """JSON Schema of a record."""
    return msgspec.json.schema(Profile)


def encode(value: Any, order: Literal["deterministic"] | None = None) -> bytes:
    """`value` as JSON. Bytes of a path that are not text are spelled out, since JSON cannot hold them."""
    try:
        return msgspec.json.encode(value, order=order)
    except UnicodeEncodeError:
        return msgspec.json.encode(_legible(msgspec.to_builtins(value)), order=order)


def _legible(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, dict):
        return {_legible(name): _legible(of) for name, of in value.items()}
    if isinstance(value, (list, tuple)):
        return [_legible(of) for of in value]
    return value


def decode(data: bytes) -> Profile:
    """Read a record.

    Raises MissingPrerequisite with one line when it is cut short, of another version, or none at all.
    """
    data = data.removeprefix(codecs.BOM_UTF8)  # of an editor
    try:
        return msgspec.json.decode(data, type=Profile)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MissingPrerequisite(_why(data, str(error))) from None


def _why(data: bytes, error: str) -> str:
    try:
        schema = msgspec.json.decode(data, type=_Named).schema
    except msgspec.ValidationError:
        schema = ""
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return f"not a whole JSON file ({error}); run the profiler again"
    if schema == SCHEMA:
        return f"not a valid {SCHEMA} record ({error}); run the profiler again"
    if schema.startswith(FORMAT):
        return f"{schema!r} is not the version read here, {SCHEMA}; read it with the code that wrote it"
    return f"no record of this profiler; one begins with the schema {SCHEMA}"
