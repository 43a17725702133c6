"""One configuration measured: warmed up at its very shapes, run some times, and summed up as a record.

A failure is a result. What went wrong is reduced to a line after its `except` block, because inside it the
traceback keeps every tensor alive that the next configuration will want.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from acestep.effective_plan import EffectivePlan
from acestep.engine import Engine
from acestep.profiler.flags import TEXT_MODES
from acestep.profiler.matrix import Row
from acestep.profiler.streaming import Listener, heard
from acestep.request import DescriptionParams
from acestep.result import Counts, DescriptionResult, GenerationResult
from harness.errors import BenchError, MissingPrerequisite, UsageError
from harness.memory import MemoryBudget
from harness.oom import Failure, classify
from harness.process_memory import ProcessAccount
from harness.records import making
from harness.records.schema import AudioFacts, Cold, Item, Sample, key_of
from harness.scratch import scratch_folder

DESCRIBED = (
    *("caption", "lyrics", "bpm", "duration", "keyscale", "language", "timesignature", "genres"),
    *("instrumental", "truncated"),
)


@dataclass(frozen=True, slots=True)
class Measured:
    """A configuration that ran: every timed result, and how long the first call took where it was timed."""

    results: list[Any]
    first_call_s: float | None


@dataclass(frozen=True, slots=True)
class Bench:
    """An engine, and how often it is asked. Without `warmup` the first call is kept apart as cold.

    `before`: told of each run, before its clock starts.
    """

    engine: Engine
    warmup: bool
    repeats: int
    before: Callable[[str], object] = lambda what: None

    def music(self, mode: str, row: Row) -> Item:
        """Generate, files included. Raises UsageError and MissingPrerequisite; other failures are items."""
        plan = row.plan
        measured = self._try(lambda: self._generate(plan))
        if isinstance(measured, Failure):
            return making.item(mode, row.requested, self.engine, plan, measured)
        facts = self._of_music(measured)
        return making.item(mode, row.requested, self.engine, plan, measured.results, **facts)

    def stream(self, mode: str, row: Row, chunk_s: float) -> Item:
        """Generate as a stream, without files. Raises and fails as `music` does."""
        requested = row.requested | {"chunk_s": chunk_s}
        listener = Listener(self.engine, row.plan, chunk_s, self._memory_bytes)
        measured = self._try(listener)
        if isinstance(measured, Failure):
            return making.item(mode, requested, self.engine, row.plan, measured)
        results = [run.result for run in measured.results]
        facts = self._of_music(Measured(results, measured.first_call_s))
        item = making.item(mode, requested, self.engine, row.plan, results, **facts)
        return heard(item, measured.results)

    def _generate(self, plan: EffectivePlan) -> GenerationResult:
        with scratch_folder() as folder:
            return self.engine.run(plan, folder)

    def text(self, mode: str, params: DescriptionParams) -> Item:
        """Describe music. Raises and fails as `music` does."""
        requested = asdict(params)
        facts = {
            "key": key_of(mode, requested),
            "mode": mode,
            "requested": requested,
            "effective": dict(self.engine.environment),
        }
        measured = self._try(lambda: self.describe(mode, params))
        if isinstance(measured, Failure):
            return Item(**facts, **making.failed(measured))
        last: DescriptionResult = measured.results[-1]
        return Item(
            **facts,
            status="ok",
            samples=tuple(
                Sample(wall_s=r.wall_s, stages_s=r.stages_s, details_s=r.details_s) for r in measured.results
            ),
            cold=Cold(load_s=self.engine.load_s, first_call_s=measured.first_call_s),
            counts=asdict(last.counts),
            memory_bytes=self._memory_bytes(),
            text={name: getattr(last, name) for name in DESCRIBED},
            warnings=last.warnings,
        )

    def describe(self, mode: str, params: DescriptionParams) -> DescriptionResult:
        """One call of the engine in a text mode."""
        return getattr(self.engine, TEXT_MODES[mode])(params)

    def unguided_lm_s(self, plan: EffectivePlan) -> float:
        """Seconds of the language model's part of a plan without guidance: what the rows of the other branch
        add cannot be seen inside a pass that runs both."""
        plain = replace(plan, params=replace(plan.params, lm_cfg_scale=1.0))
        runs = self.warmup + self.repeats
        seconds = []
        for number in range(1, runs + 1):
            self.before(f"planning without guidance, {number} of {runs}")
            seconds.append(_lm_s(self.engine.run_lm(plain).stages_s))
        seconds = sorted(seconds[self.warmup :])
        return seconds[len(seconds) // 2]

    def _try(self, work: Callable[[], Any]) -> Measured | Failure:
        failure = None
        try:
            return self._run(work)
        except (UsageError, MissingPrerequisite):
            raise
        except BenchError as error:
            return Failure("other", type(error).__name__, str(error))
        except Exception as error:
            failure = classify(error)
        gc.collect()
        return failure

    def _run(self, work: Callable[[], Any]) -> Measured:
        self.engine.budget.reset_peak()
        MemoryBudget("cpu").reset_peak()  # of the process, whatever the engine is on
        first_call_s = None
        if self.warmup:
            self.before("warm-up")
            first_call_s = work().wall_s
        results = []
        for number in range(1, self.repeats + 1):
            self.before(f"run {number} of {self.repeats}")
            results.append(work())
        return Measured(results, first_call_s)

    def _of_music(self, measured: Measured) -> dict[str, Any]:
        last: GenerationResult = measured.results[-1]
        silent = sum(audio.silent for audio in last.audios)
        return {
            "status": "invalid" if silent else "ok",
            "error": f"{silent} of {len(last.audios)} items are silent" if silent else "",
            "cold": Cold(load_s=self.engine.load_s, first_call_s=measured.first_call_s),
            "memory_bytes": self._memory_bytes(),
            "audio": AudioFacts(
                items=len(last.audios),
                audio_s=last.counts.audio_s,
                peak=max(audio.peak for audio in last.audios),
                rms=max(audio.rms for audio in last.audios),
                silent=silent,
            ),
        }

    def _memory_bytes(self) -> dict[str, int]:
        """Peaks since the first run, from each source the device has, and what is there at the end."""
        budget, device = self.engine.budget, self.engine.models.device
        with ProcessAccount(str(device), budget) as account:
            process = account.read()
        of_allocator = {"allocated": budget.peak_allocated_bytes(), "reserved": budget.peak_bytes()}
        sizes = {
            **({} if device.type == "cpu" else of_allocator),
            "driver": process.driver_peak_bytes,
            "context": process.context_bytes,
            "spilled": process.spilled_bytes,
            "rss": process.rss_peak_bytes,
            "swap": process.swap_bytes,
        }
        return {source: size for source, size in sizes.items() if size is not None}


def counts_of(item: Item) -> Counts:
    """The counts of an item as the engine's record."""
    return Counts(**item.counts)  # type: ignore[arg-type]


def _lm_s(stages_s: Mapping[str, float]) -> float:
    return stages_s.get("lm_prefill", 0.0) + stages_s.get("lm_decode", 0.0)
