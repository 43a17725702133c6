"""One input measured on a loaded engine: warmed up, run some times, and summed up as a record."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec.structs import replace

from harness.errors import BenchError, MissingPrerequisite, UsageError
from harness.oom import Failure, classify
from harness.records import making
from harness.records.memory import Boundary, MemoryByStage
from harness.records.schema import AudioFacts, Cold, Item, Sample
from harness.streaming import Arrivals, largest_error, unequal
from subjects.qwen3_tts.config import SAMPLE_RATE
from subjects.qwen3_tts.plan import Plan
from subjects.qwen3_tts.subject import SUBJECT

if TYPE_CHECKING:
    from subjects.qwen3_tts.engine import Engine
    from subjects.qwen3_tts.result import Result

MODE = "bench"
PEAKS = ("rss_peak_bytes", "allocated_peak_bytes", "reserved_bytes", "driver_peak_bytes")  # of a boundary


class Ran(NamedTuple):
    """One run: its result, the peaks of memory in it, and of a stream how it came and how far it is from what
    is made at once."""

    result: Result
    peaks_bytes: Mapping[str, int]
    arrivals: Arrivals | None = None
    error: float | None = None

    def sample(self) -> Sample:
        """As it is recorded."""
        sample = making.sample(self.result)
        if self.arrivals is None or self.error is None:
            return sample
        stages_s = self.result.first_chunk_stages_s
        return making.streamed(sample, self.arrivals, self.error, first_chunk_stages_s=stages_s)


@dataclass(frozen=True, slots=True)
class Bench:
    """An engine, and how often it is asked. The first of no warm-ups is a sample like the others.

    `before`: told of each run, before its clock starts.
    """

    engine: Engine
    warmup: int
    iterations: int
    streaming: bool
    before: Callable[[str], object] = lambda what: None

    def item(self, plan: Plan, requested: Mapping[str, Any]) -> Item:
        """The record of `plan` run so many times. Raises UsageError and MissingPrerequisite; else it says."""
        runs = self._runs(plan)
        if isinstance(runs, Failure):
            return making.item(MODE, requested, self.engine, plan, runs)
        warm, timed = runs[: self.warmup], runs[self.warmup :]
        last = timed[-1].result
        problem = SUBJECT.check(last, plan) or _unequal(timed, plan)
        item = making.item(
            MODE,
            requested,
            self.engine,
            plan,
            [run.result for run in timed],
            status="invalid" if problem else "ok",
            error=problem,
            cold=Cold(load_s=self.engine.load_s, first_call_s=warm[0].result.wall_s if warm else None),
            memory_bytes={
                name: max(run.peaks_bytes[name] for run in timed) for name in timed[-1].peaks_bytes
            },
            audio=AudioFacts(
                items=len(last.audios),
                audio_s=last.counts.audio_s,
                peak=max(audio.peak for audio in last.audios),
                rms=max(audio.rms for audio in last.audios),
                silent=sum(audio.silent for audio in last.audios),
            ),
        )
        return replace(item, samples=tuple(run.sample() for run in timed))

    def once(self, plan: Plan) -> Ran:
        """One run."""
        if not self.streaming:
            return Ran(self.engine.run(plan), self.engine.peaks_bytes())
        stream = self.engine.stream(plan)
        chunks = [*stream]
        peaks_bytes = self.engine.peaks_bytes()
        assert stream.result
        whole = [audio.tensor for audio in self.engine.decoded(plan, stream.result.codes)]
        return Ran(stream.result, peaks_bytes, Arrivals.of(chunks, SAMPLE_RATE), largest_error(chunks, whole))

    def memory(self, plan: Plan) -> MemoryByStage:
        """Memory where each stage ends, in a run of its own."""
        with self.engine.stage_memory() as seen:
            self.once(plan)
        return merged(seen.found())

    def _runs(self, plan: Plan) -> list[Ran] | Failure:
        """Every run, the first ones to warm up; or what kept them from it."""
        runs = []
        try:
            for number in range(self.warmup + self.iterations):
                late = number - self.warmup
                self.before(f"run {late + 1} of {self.iterations}" if late >= 0 else "warm-up")
                runs.append(self.once(plan))
            return runs
        except (UsageError, MissingPrerequisite):
            raise
        except BenchError as error:
            return Failure("other", type(error).__name__, str(error))
        except Exception as error:
            return classify(error)


def _unequal(runs: Sequence[Ran], plan: Plan) -> str:
    """Why streams are not what is made at once, which they are to be but where context is decoded again."""
    errors = [run.error for run in runs if run.error is not None]
    if not errors or plan.request.context is not None:
        return ""
    return unequal(max(errors), runs[-1].result.environment["dtype"])


def merged(memory: MemoryByStage) -> MemoryByStage:
    """One boundary for each stage, which ends once a frame: the last figures, and the highest peaks."""
    stages: dict[str, list[Boundary]] = {}
    for one in memory.boundaries:
        stages[one.stage] = [*stages.pop(one.stage, ()), one]
    return replace(memory, boundaries=tuple(map(_highest, stages.values())))


def _highest(ends: Sequence[Boundary]) -> Boundary:
    by_stage = MemoryByStage(boundaries=tuple(ends), rss_source="")
    return replace(ends[-1], **{name: by_stage.most(name) for name in PEAKS})
