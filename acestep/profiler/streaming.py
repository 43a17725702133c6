"""A request profiled as a stream: what a player hears of it, and whether that is what is made at once.

No torch import before something runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec import UNSET
from msgspec.structs import replace

from acestep.profiler.tables import NONE, facts_block
from acestep.result import GenerationResult
from harness.records import making
from harness.records.schema import Item, Sample, Streamed
from harness.streaming import Arrivals, largest_error, quantile, unequal

if TYPE_CHECKING:
    from torch import Tensor

    from acestep.effective_plan import EffectivePlan
    from acestep.engine import Engine

LATENCIES = {"p50": 0.5, "p95": 0.95, "worst": 1.0}


@dataclass(frozen=True, slots=True)
class Heard:
    """One run of a stream: its result, what a player hears of it, and its `largest_error`."""

    result: GenerationResult
    arrivals: Arrivals
    first_code_s: float | None
    latents_s: float | None
    memory_bytes: Mapping[str, int]
    error: float

    @property
    def wall_s(self) -> float:
        return self.result.wall_s

    def sample(self, sample: Sample) -> Sample:
        """The sample of its result, with what was heard."""
        return making.streamed(
            sample, self.arrivals, self.error, first_code_s=self.first_code_s, latents_s=self.latents_s
        )


class Listener:
    """Streams a plan as often as it is called, each time beside the same plan made at once.

    That is made when the first stream has ended, so that a cold one is the stream. `memory_bytes` tells the
    peaks of what ran last.
    """

    def __init__(
        self,
        engine: Engine,
        plan: EffectivePlan,
        chunk_s: float,
        memory_bytes: Callable[[], Mapping[str, int]],
    ):
        self._engine = engine
        self._plan = plan
        self._chunk_s = chunk_s
        self._memory_bytes = memory_bytes
        self._offline: list[Tensor] = []

    def __call__(self) -> Heard:
        """Stream once. Raises as `Engine.run` does."""
        self._plan = self._engine.generation(self._plan).plan  # what it leaves to chance is drawn once
        stream = self._engine.run_stream(self._plan, chunk_s=self._chunk_s)
        chunks = [*stream]
        memory_bytes = self._memory_bytes()
        if not self._offline:
            self._offline = [audio.tensor for audio in self._engine.run(self._plan).audios]
        result = stream.result
        assert result
        return Heard(
            result=result,
            arrivals=Arrivals.of(chunks, result.audios[0].sample_rate),
            first_code_s=stream.first_code_s,
            latents_s=stream.latents_s,
            memory_bytes=memory_bytes,
            error=largest_error(chunks, self._offline),
        )


def heard(item: Item, runs: Sequence[Heard]) -> Item:
    """The item of the results of `runs`, as they were heard. It is invalid where they should be another."""
    samples = tuple(run.sample(sample) for run, sample in zip(runs, item.samples, strict=True))
    item = replace(item, samples=samples, memory_bytes=dict(runs[-1].memory_bytes))
    problem = unequal(max(run.error for run in runs), runs[-1].result.environment["dtype"])
    return replace(item, status="invalid", error=problem) if problem else item


def table(item: Item, chunk_s: float, width: int) -> str:
    """What a player hears of the typical run, for a terminal of `width` columns."""
    stream = item.typical.stream if item.typical else UNSET
    assert isinstance(stream, Streamed)
    gaps_ms = stream.chunk_latencies_ms
    latencies = (f"{name} {_ms(quantile(gaps_ms, share))}" for name, share in LATENCIES.items())
    silence = f", {_ms(stream.silence_ms)} of silence" if stream.underruns else ""
    facts = {
        "First code": _ms(stream.time_to_first_code_ms),
        "Latents": _ms(stream.time_to_latents_ms),
        "First chunk": _ms(stream.time_to_first_chunk_ms),
        "Chunks": f"{len(gaps_ms) + 1} of {chunk_s:g} s",
        "From one to the next": ", ".join(latencies) if gaps_ms else NONE,
        "Underruns at 1x": f"{stream.underruns}{silence}",
        "As made at once": _equality(item.error, stream.offline_error),
    }
    return facts_block("STREAM", facts, width)


def _equality(problem: str, error: float | None) -> str:
    if problem or error is None:
        return f"no: {problem}"
    return f"yes, but for {error:.1g} of the peak" if error else "yes, bit for bit"


def _ms(value_ms: float | None) -> str:
    return NONE if value_ms is None else f"{value_ms:,.1f} ms"
