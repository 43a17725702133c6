"""The engine: models in memory, serving any number of requests.

    engine = Engine.load("synthetic-tiny", dit="acestep-v15-base")
    result = engine.generate(GenerationParams(caption="slow dub techno", duration=10))

What a request may do here is decided by `resolver`; the stages that it runs are those of `pipeline`. Here
they are timed: everything a request needs is loaded before its clock starts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from acestep import components, environment, placement, resolver
from acestep.assembly import compiled_of, models_of, planner_of
from acestep.audio import writing
from acestep.defaults import CHUNK_S
from acestep.effective_plan import EffectivePlan
from acestep.lm.decode.step import OnCode
from acestep.lm.describe import Description
from acestep.lm.planner import Planner
from acestep.pipeline import Generated, Generation
from acestep.request import DescriptionParams, GenerationConfig, GenerationParams, drawn_seed
from acestep.result import DescriptionResult, GenerationResult, PlanResult
from acestep.setup import Setup
from acestep.streaming import Run, Stream
from acestep.text import audio_codes
from acestep.weights.checkpoint import Source
from acestep.weights.loading import Models
from acestep.weights.sources import open_source
from harness.compiling import Compiled
from harness.device import synchroniser
from harness.engine import LoadedEngine, loading
from harness.errors import MissingPrerequisite
from harness.memory import MemoryBudget, budget_of
from harness.records.telemetry import Telemetry, warnings
from harness.spans import Times, record
from harness.telemetry import CardSampler


class Engine(LoadedEngine[Models, Setup]):
    """Loaded models on one device. Make one with `Engine.load`; it serves any number of requests."""

    choose = Setup.choose

    def __init__(
        self,
        *loaded: Any,
        planner: Planner | None = None,
        compiled: Compiled | None = None,
        beside: Mapping[torch.device, MemoryBudget] = MappingProxyType({}),
    ):
        """`loaded`: as of `LoadedEngine`; `beside`: the memory of the devices that parts are on instead."""
        super().__init__(*loaded)
        self.planner = planner
        self.compiled = compiled
        self.budgets = {self.models.device: self.budget, **beside}
        self._sync = synchroniser(*self.budgets)

    @property
    def environment(self) -> Mapping[str, Any]:
        """What it runs on and with, for records. Where parts have devices of their own: which part was where,
        read back from the weights, and the peak of each device since the last run began."""
        if not self.setup.placed:
            return self._environment
        return {**self._environment, **environment.placed(self.models, self.budgets)}

    @classmethod
    def from_setup(
        cls,
        setup: Setup,
        *,
        threads: int | None = None,
        budget: MemoryBudget | None = None,
        preload: Sequence[str] | None = None,
        weights: Source | None = None,
    ) -> Engine:
        """Load what a setup says. Raises as `load` does.

        `preload`: names of the components to load now (`acestep.components`); None is what most generations
        need. Others follow when a request first needs them, before its clock starts. `weights`: the setup's
        source, where it is open already.
        """
        names = placement.components_of(setup.placed, setup.device)
        with loading(setup.device, names.values(), threads=threads) as loads:
            device, places = loads.device, dict(zip(names, loads.beside, strict=True))
            if budget is None:  # nobody has seen to a cap
                budget = budget_of(setup.accelerator, device)
            beside = {
                places[each.part]: budget_of(each.accelerator, places[each.part]) for each in setup.placed
            }
            weights = weights or open_source(setup.source)
            models = models_of(setup, device, weights, places)
            compiled = compiled_of(setup, models)
            planner = planner_of(setup, models, weights, compiled)
            _load(models, planner, components.usual(bool(setup.lm)) if preload is None else preload)
        described = environment.described(setup, models, planner)
        loaded = models, setup, budget, described, loads.seconds
        return cls(*loaded, planner=planner, compiled=compiled, beside=beside)

    def resolve(self, params: GenerationParams, config: GenerationConfig | None = None) -> EffectivePlan:
        """What a request would run here."""
        return resolver.resolve(params, config or GenerationConfig(), self.setup)

    def generate(
        self, params: GenerationParams, config: GenerationConfig | None = None, save_dir: Path | None = None
    ) -> GenerationResult:
        """`run` what a request comes to here. Raises UsageError or MissingPrerequisite for one that cannot be
        served."""
        return self.run(self.resolve(params, config), save_dir)

    def run(self, plan: EffectivePlan, save_dir: Path | None = None) -> GenerationResult:
        """Generate the items of a plan of this setup; write them under `save_dir` when it is given.

        Raises MissingPrerequisite for a recording that cannot be read, BenchError when the result is not
        music (NaN, all zero).
        """
        generation = self._ready(plan, saves=save_dir is not None)
        sampler = CardSampler(str(self.models.device))
        with sampler, torch.inference_mode(), record(self._sync) as times:
            generated = generation.run(save_dir)
        audio_s = sum(item.tensor.shape[-1] / item.sample_rate for item in generated.audios)
        telemetry = sampler.telemetry(len(generated.audios), audio_s)
        return self._result(generation.plan, generated, times, telemetry)

    def stream(
        self,
        params: GenerationParams,
        config: GenerationConfig | None = None,
        *,
        chunk_s: float = CHUNK_S,
        on_code: OnCode | None = None,
    ) -> Stream:
        """`run_stream` what a request comes to here. Raises UsageError or MissingPrerequisite for one that
        cannot be served."""
        return self.run_stream(self.resolve(params, config), chunk_s=chunk_s, on_code=on_code)

    def run_stream(
        self, plan: EffectivePlan, *, chunk_s: float = CHUNK_S, on_code: OnCode | None = None
    ) -> Stream:
        """The items of a plan of this setup in chunks of `chunk_s` seconds, each as soon as it is decoded.

        They are what `run` returns but for the level: a stream is not divided by a peak still to come.
        `on_code(count)` is told of planned audio codes, with 1 first. What a stream cannot do is told
        (`resolver.streamed`). Raises UsageError for a `chunk_s` out of range; the stream raises as `run`.
        """
        generation = self._ready(resolver.streamed(plan, chunk_s))
        chunk_samples = round(chunk_s * self.models.sample_rate)
        finish = partial(self._result, generation.plan)
        return Stream(Run(generation, chunk_samples, self._sync, finish, on_code))

    def _ready(self, plan: EffectivePlan, *, saves: bool = False) -> Generation:
        """The stages of a plan, with the libraries that they need; peaks of memory begin here."""
        generation = self.generation(plan)
        if saves or components.VAE_ENCODER in plan.components:
            writing.load_libraries(plan.config.audio_format)
        for budget in self.budgets.values():
            budget.reset_peak()
        return generation

    def _result(
        self, plan: EffectivePlan, generated: Generated, times: Times, telemetry: Telemetry | None = None
    ) -> GenerationResult:
        silent = ", ".join(str(item.seed) for item in generated.audios if item.silent)
        silence = (f"silent audio for seed {silent}",) if silent else ()
        throttled = warnings([telemetry]) if telemetry else ()
        return GenerationResult(
            **self._measured(times),
            audios=generated.audios,
            steps_s=tuple(times.samples("diffuse/step")),
            counts=generated.counts,
            plan=plan.as_dict(),
            peak_memory_bytes=self.budget.peak_bytes(),
            fallbacks=generated.fallbacks,
            warnings=(*plan.warnings, *map(str, generated.fallbacks), *generated.cuts, *silence, *throttled),
            telemetry=telemetry,
        )

    def generation(self, plan: EffectivePlan, loaded: Sequence[str] | None = None) -> Generation:
        """The stages of a plan, its components loaded, for who looks at what is between them.

        `loaded`: the components to load, where not all stages are to run. Raises CheckpointError or
        MissingPrerequisite for one that cannot be loaded.
        """
        self._need(plan.components if loaded is None else loaded)
        seeds = plan.config.seeds
        if seeds is None:
            seeds = tuple(drawn_seed() for _ in range(plan.config.batch_size))
        if plan.params.retake_variance and plan.params.retake_seed is None:
            plan = plan.retaken(drawn_seed())
        of_vae = self.budgets[self.models.place(components.VAE)]
        return Generation(self.models, self.planner, of_vae, plan, seeds, self.compiled)

    def plan(self, params: GenerationParams, config: GenerationConfig | None = None) -> PlanResult:
        """`run_lm` what a request comes to here. Raises as `generate` does."""
        return self.run_lm(self.resolve(params, config))

    def run_lm(self, plan: EffectivePlan) -> PlanResult:
        """The language model's part of a plan by itself."""
        generation = self.generation(plan, [name for name in plan.components if name == components.LM])
        with torch.inference_mode(), record(self._sync) as times:
            items = generation.lm()
            codes = None if items.codes is None else tuple(row.cpu() for row in items.codes)
        return PlanResult(
            **self._measured(times),
            metadata=tuple(asdict(metadata) for metadata in items.metadata),
            codes=codes,
            counts=items.counts,
            warnings=(*plan.warnings, *map(str, items.fallbacks)),
        )

    def audio_codes(self, path: str | Path) -> str:
        """`encode` as much of a recording as this setup lets through."""
        return self.encode(resolver.resolve_recording(str(path), self.setup))

    def encode(self, plan: EffectivePlan) -> str:
        """The audio codes of a plan's recording, as text.

        Raises MissingPrerequisite when it cannot be read.
        """
        generation = self.generation(plan, components.ENCODING)
        with torch.inference_mode():
            return audio_codes.join(generation.source_codes().tolist())

    def understand(self, params: DescriptionParams) -> DescriptionResult:
        """What a song is, from its audio codes: metadata, caption, lyrics."""
        return self._describe(params, "understand")

    def create(self, params: DescriptionParams) -> DescriptionResult:
        """A song's description from a few words about it."""
        return self._describe(params, "create")

    def format(self, params: DescriptionParams) -> DescriptionResult:
        """A caption and lyrics, rewritten the way the model was trained on them."""
        return self._describe(params, "format")

    def _describe(self, params: DescriptionParams, mode: str) -> DescriptionResult:
        if self.planner is None:
            raise MissingPrerequisite(f"lm: {self.setup.no_lm}")
        params, changes = resolver.resolve_description(params, mode, self.setup)
        self._need(components.TEXT)
        with torch.inference_mode(), record(self._sync) as times, self.planner.backend.using():
            description: Description = getattr(self.planner, mode)(params)
        metadata = description.metadata
        return DescriptionResult(
            **self._measured(times),
            caption=metadata.caption or "",
            lyrics=description.lyrics,
            bpm=metadata.bpm,
            duration=metadata.duration,
            keyscale=metadata.keyscale or "",
            language=metadata.language or "",
            timesignature=metadata.timesignature or "",
            genres=metadata.genres or "",
            instrumental=description.instrumental,
            truncated=description.truncated,
            counts=description.counts,
            warnings=(*self.setup.warnings, *map(str, changes)),
        )

    def _need(self, names: Sequence[str]) -> None:
        """Load what of `names` is not loaded; `environment` then says of it, too, what it is in."""
        before = len(self.models.loaded)
        _load(self.models, self.planner, names)
        if len(self.models.loaded) > before:
            self._environment = {**self._environment, **environment.formats(self.models)}


def _load(models: Models, planner: Planner | None, names: Sequence[str]) -> None:
    """Load the components that are not loaded; the language model, if there is one, through its backend."""
    for name in names:
        if name != components.LM:
            models.need(name)
        elif planner:
            planner.backend.load()
