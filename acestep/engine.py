"""The engine: models in memory, serving any number of requests.

    engine = Engine.load("synthetic-tiny", dit="acestep-v15-base")
    result = engine.generate(GenerationParams(caption="slow dub techno", duration=10))

What a request does on its way is `pipeline`; what it may do here is `resolver`. This file is where the two
meet a clock: everything a request needs is loaded before its time starts.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from acestep import resolver
from acestep.diffusion.compiling import Compiled
from acestep.lm.backends.registry import open_backend
from acestep.lm.describe import Description
from acestep.lm.planner import Planner
from acestep.pipeline import ENCODING, Run
from acestep.request import MAX_SEED, DescriptionParams, GenerationConfig, GenerationParams
from acestep.resolver import EffectivePlan
from acestep.result import DescriptionResult, GenerationResult, PlanResult
from acestep.setup import Setup
from acestep.text import audio_codes
from acestep.weights.checkpoint import Source
from acestep.weights.layout import LMS
from acestep.weights.loading import ALWAYS, WITH_LM, Models
from acestep.weights.sources import open_source
from harness.device import (
    describe,
    keep_freed_memory,
    resolve_device,
    resolve_dtype,
    return_freed_memory,
    synchroniser,
)
from harness.errors import MissingPrerequisite
from harness.memory import MemoryBudget, hold_to
from harness.quantization import scheme
from harness.residency import Residency
from harness.spans import record


class Engine:
    """Loaded models on one device. Make one with `Engine.load`; it serves any number of requests."""

    def __init__(
        self,
        models: Models,
        setup: Setup,
        budget: MemoryBudget,
        environment: Mapping[str, Any],
        load_s: float,
        planner: Planner | None = None,
        compiled: Compiled | None = None,
    ):
        self.models = models
        self.setup = setup
        self.planner = planner
        self.budget = budget
        self.environment = environment
        self.load_s = load_s
        self.compiled = compiled
        self._sync = synchroniser(models.device)

    @classmethod
    def load(
        cls,
        source: str | Path | None = None,
        *,
        threads: int | None = None,
        budget: MemoryBudget | None = None,
        **choices: Any,
    ) -> Engine:
        """Load what every request needs; `choices` are those of `Setup.choose`, which says what they mean.

        Raises UsageError, MissingPrerequisite or CheckpointError, each naming what and where.
        """
        return cls.from_setup(Setup.choose(source, **choices), threads=threads, budget=budget)

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

        `preload`: parts of the models to load now (`acestep.weights.loading` names them); None is what a
        generation needs. Others follow when a request first needs them, before its clock starts. `weights`:
        the setup's source, where it is open already.
        """
        start = time.perf_counter()
        if threads:
            torch.set_num_threads(threads)
        place = resolve_device(setup.device)
        if budget is None:  # nobody has seen to a cap
            card = setup.accelerator
            simulated = card.simulated and place.type == "cuda"
            budget = hold_to(place, card.memory_gib) if simulated else MemoryBudget(place)
        return_freed_memory()  # while loading: of what passes through, nothing is needed again
        residency = Residency(place, offload=setup.offload_to_cpu, offload_dit=setup.offload_dit_to_cpu)
        wanted = (*ALWAYS, *(WITH_LM if setup.lm else ())) if preload is None else preload
        weights = weights or open_source(setup.source)
        models = Models.open(
            weights,
            setup.dit,
            place,
            lambda stored: resolve_dtype(setup.dtype, place, stored),
            setup.lm if setup.lm_backend == "pt" else None,
            residency,
            setup.quantization,
        )
        models.need(*(part for part in wanted if part != "lm"))
        planner = None
        if setup.lm:
            backend = open_backend(setup.lm_backend, models, weights, setup.lm)
            planner = Planner(backend, weights.tokenizer(setup.lm))
            if "lm" in wanted:
                backend.load()
        keep_freed_memory(place)
        compiled = Compiled(models.ace_step.decoder) if setup.compile else None
        if sync := synchroniser(place):
            sync()
        environment = {
            "device": str(place),
            "device_name": describe(place),
            "dtype": str(models.dtype).removeprefix("torch."),
            "source": setup.source,
            "source_origin": setup.source_origin,
            "dit": setup.dit,
            "lm": setup.lm,
            "lm_backend": planner.backend.name if planner else None,
            "quantization": scheme(models.ace_step.decoder.layers),
            "compile": compiled is not None,
            "offload": residency.describe(),
            "torch": str(torch.__version__),
            "threads": torch.get_num_threads(),
        }
        load_s = time.perf_counter() - start
        return cls(models, setup, budget, environment, load_s, planner, compiled)

    def resolve(self, params: GenerationParams, config: GenerationConfig | None = None) -> EffectivePlan:
        """What a request would run here."""
        return resolver.resolve(params, config or GenerationConfig(), self.setup)

    def plan(self, params: GenerationParams, config: GenerationConfig | None = None) -> PlanResult:
        """Run the language model's part of a request by itself."""
        plan = self.resolve(params, config)
        run = self._run(plan)
        if self.planner and (plan.lm_metadata or plan.lm_codes):
            self.planner.backend.load()
        with torch.inference_mode(), record(self._sync) as times:
            made = run.planned()
            codes = None if made.codes is None else tuple(row.cpu() for row in made.codes)
        return PlanResult(
            metadata=tuple(asdict(metadata) for metadata in made.metadata),
            codes=codes,
            wall_s=times.wall_s,
            stages_s=times.stages(),
            details_s=times.details(),
            counts=made.counts,
            environment=self.environment,
            warnings=plan.warnings,
        )

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
        run = self._run(plan)
        self._need(run.parts())
        if save_dir is not None or "vae_encoder" in run.parts():
            import soundfile  # noqa: F401  # a third of a second, which is no stage's
            import soxr  # noqa: F401
        self.budget.reset_peak()
        with torch.inference_mode(), record(self._sync) as times:
            audios = run.audio(save_dir)
        silent = [str(item.seed) for item in audios if item.silent]
        told = (f"silent audio for seed {', '.join(silent)}",) if silent else ()
        return GenerationResult(
            audios=audios,
            wall_s=times.wall_s,
            stages_s=times.stages(),
            details_s=times.details(),
            steps_s=tuple(times.samples("diffuse/step")),
            counts=run.counts,
            plan=plan.as_dict(),
            environment=self.environment,
            peak_memory_bytes=self.budget.peak_bytes(),
            fallbacks=tuple(run.fallbacks),
            warnings=(*plan.warnings, *map(str, run.fallbacks), *told),
        )

    def understand(self, params: DescriptionParams) -> DescriptionResult:
        """What a song is, from its audio codes: metadata, caption, lyrics."""
        return self._describe(params, Planner.understand)

    def create(self, params: DescriptionParams) -> DescriptionResult:
        """A song's description from a few words about it."""
        return self._describe(params, Planner.create)

    def format(self, params: DescriptionParams) -> DescriptionResult:
        """A caption and lyrics, rewritten the way the model was trained on them."""
        return self._describe(params, Planner.format)

    def audio_codes(self, path: str | Path) -> str:
        """The codes of a recording, as text: of as much of it as `resolve` lets through.

        Raises MissingPrerequisite when it cannot be read.
        """
        params = GenerationParams(task_type="cover", src_audio=str(path))
        run = self._run(self.resolve(params))
        self.models.need(*ENCODING)
        with torch.inference_mode():
            return audio_codes.join(run.source_codes().tolist())

    def _need(self, parts: Sequence[str]) -> None:
        """Load those of `parts` that are not; the language model may not be one of ours."""
        self.models.need(*(part for part in parts if part != "lm"))
        if "lm" in parts and self.planner:
            self.planner.backend.load()

    def _run(self, plan: EffectivePlan) -> Run:
        seeds = plan.config.seeds
        if seeds is None:
            seeds = tuple(random.randint(0, MAX_SEED) for _ in range(plan.config.batch_size))
        return Run(self.models, self.planner, self.budget, plan, seeds, self.compiled)

    def _describe(
        self, params: DescriptionParams, mode: Callable[[Planner, DescriptionParams], Description]
    ) -> DescriptionResult:
        if self.planner is None:
            raise MissingPrerequisite(f"lm: no language model is loaded; load one, such as {LMS[0]}")
        self.planner.backend.load()
        with torch.inference_mode(), record(self._sync) as times, self.planner.backend.using():
            said = mode(self.planner, params)
        found = said.metadata
        return DescriptionResult(
            caption=found.caption or "",
            lyrics=said.lyrics,
            bpm=found.bpm,
            duration=found.duration,
            keyscale=found.keyscale or "",
            language=found.language or "",
            timesignature=found.timesignature or "",
            genres=found.genres or "",
            instrumental=said.instrumental,
            truncated=said.truncated,
            wall_s=times.wall_s,
            stages_s=times.stages(),
            details_s=times.details(),
            counts=said.counts,
            environment=self.environment,
            warnings=self.setup.warnings,
        )


def generate_music(
    engine: Engine,
    params: GenerationParams,
    config: GenerationConfig | None = None,
    save_dir: Path | None = None,
) -> GenerationResult:
    """Text to music: `engine.generate` under the name of the upstream API."""
    return engine.generate(params, config, save_dir)


def understand_music(engine: Engine, audio_codes: str, **sampling: Any) -> DescriptionResult:
    """`engine.understand` under the name of the upstream API; `sampling` are fields of DescriptionParams."""
    return engine.understand(DescriptionParams(audio_codes=audio_codes, **sampling))


def create_sample(engine: Engine, query: str, instrumental: bool = False, **more: Any) -> DescriptionResult:
    """`engine.create` under the name of the upstream API."""
    return engine.create(DescriptionParams(query=query, instrumental=instrumental, **more))


def format_sample(engine: Engine, caption: str, lyrics: str, **more: Any) -> DescriptionResult:
    """`engine.format` under the name of the upstream API; metadata given in `more` is kept."""
    return engine.format(DescriptionParams(caption=caption, lyrics=lyrics, **more))
