"""One configuration measured: warm up at its very shapes, run it some times, and say what came of it.

A failure is a result. What went wrong is reduced to a line after its `except` block, because inside it the
traceback keeps every tensor alive that the next configuration will want.
"""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from acestep.engine import Engine
from acestep.request import DescriptionParams, GenerationConfig, GenerationParams
from acestep.result import Counts, DescriptionResult, GenerationResult
from harness.errors import BenchError, MissingPrerequisite, UsageError
from harness.oom import Failure, classify
from harness.records import making
from harness.records.schema import AudioFacts, Cold, Item, Sample, key_of

TEXT_MODES = {"understand": "understand", "create_sample": "create", "format_sample": "format"}


@dataclass(frozen=True, slots=True)
class Measured:
    """A configuration that ran: every timed result, and how long the first call took where it was timed."""

    results: list[Any]
    first_call_s: float | None


@dataclass(frozen=True, slots=True)
class Bench:
    """An engine, and how often it is asked. Without `warmup` the first call is kept apart as cold."""

    engine: Engine
    warmup: bool
    repeats: int

    def music(self, mode: str, params: GenerationParams, config: GenerationConfig) -> Item:
        """Generate, files included. Raises UsageError and MissingPrerequisite; other failures are items."""
        plan = self.engine.resolve(params, config)
        requested = asdict(params) | asdict(config)
        with tempfile.TemporaryDirectory() as folder:
            outcome = self._tried(lambda: self.engine.run(plan, Path(folder)))
        if isinstance(outcome, Failure):
            return making.item(mode, requested, self.engine, plan, outcome)
        return making.item(mode, requested, self.engine, plan, outcome.results, **self._of_music(outcome))

    def words(self, mode: str, params: DescriptionParams) -> Item:
        """Put music into words. Raises and fails as `music` does."""
        requested = asdict(params)
        configuration = {
            "key": key_of(mode, requested),
            "mode": mode,
            "requested": requested,
            "effective": dict(self.engine.environment),
        }
        outcome = self._tried(lambda: self.describe(mode, params))
        if isinstance(outcome, Failure):
            return Item(**configuration, status=making.STATUS[outcome.kind], error=outcome.message)
        last: DescriptionResult = outcome.results[-1]
        fields = ("caption", "lyrics", "bpm", "duration", "keyscale", "language", "timesignature", "genres")
        return Item(
            **configuration,
            status="ok",
            samples=tuple(
                Sample(wall_s=r.wall_s, stages_s=r.stages_s, details_s=r.details_s) for r in outcome.results
            ),
            cold=Cold(load_s=self.engine.load_s, first_call_s=outcome.first_call_s),
            counts=asdict(last.counts),
            memory_bytes=self._memory_bytes(),
            text={name: getattr(last, name) for name in (*fields, "instrumental", "truncated")},
            warnings=last.warnings,
        )

    def describe(self, mode: str, params: DescriptionParams) -> DescriptionResult:
        """One call of the engine in a mode of words."""
        return getattr(self.engine, TEXT_MODES[mode])(params)

    def unguided_plan_s(self, params: GenerationParams, config: GenerationConfig) -> float:
        """Seconds of planning the same request without guidance: what the rows of the other branch add
        cannot be seen inside a pass that runs both."""
        plain = replace(params, lm_cfg_scale=1.0)
        if self.warmup:
            self.engine.plan(plain, config)
        walls = sorted(_planning_s(self.engine.plan(plain, config).stages_s) for _ in range(self.repeats))
        return walls[len(walls) // 2]

    def _tried(self, work: Callable[[], Any]) -> Measured | Failure:
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
        first = work()
        if self.warmup:
            return Measured([work() for _ in range(self.repeats)], first.wall_s)
        return Measured([first, *(work() for _ in range(self.repeats - 1))], None)

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
        """Peaks since the first run, from each source the device has."""
        budget = self.engine.budget
        if self.engine.models.device.type == "cpu":
            return {"rss": budget.peak_bytes()}
        return {"allocated": budget.peak_allocated_bytes(), "reserved": budget.peak_bytes()}


def counts_of(item: Item) -> Counts:
    """The counts of an item as the engine's record."""
    return Counts(**item.counts)  # type: ignore[arg-type]


def _planning_s(stages_s: Mapping[str, float]) -> float:
    return stages_s.get("lm_prefill", 0.0) + stages_s.get("lm_decode", 0.0)
