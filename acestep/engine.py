"""The engine: models in memory, and the path from a request to audio.

    request -> planner (5 Hz LM) -> text encode -> condition -> diffuse -> VAE decode -> post -> save

Each arrow is a stage whose time is recorded; `_generate` reads in the order the work runs.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from acestep import audio, conditioning, decode, diffusion
from acestep.device import describe, keep_freed_memory, resolve_device, resolve_dtype, synchroniser
from acestep.errors import MissingPrerequisite
from acestep.lm.planner import Plan, user_metadata
from acestep.loading import Models
from acestep.memory import MemoryBudget, tile_frames
from acestep.request import MAX_SEED, GenerationConfig, GenerationParams
from acestep.result import Audio, Counts, GenerationResult, PlanResult
from acestep.sources import LMS, choose_source, open_source
from acestep.spans import record, span

DEFAULT_LM = LMS[0]


class Engine:
    """Loaded models on one device. Make one with `Engine.load`; it serves any number of requests."""

    def __init__(self, models: Models, budget: MemoryBudget, environment: Mapping[str, Any], load_s: float):
        self.models = models
        self.budget = budget
        self.environment = environment
        self.load_s = load_s
        self._sync = synchroniser(models.device)

    @classmethod
    def load(
        cls,
        source: str | Path | None = None,
        *,
        device: str = "auto",
        dtype: str = "auto",
        lm: str | None = DEFAULT_LM,
        threads: int | None = None,
        budget: MemoryBudget | None = None,
    ) -> Engine:
        """Load the models text to music needs, and the language model `lm` unless it is None.

        Raises UsageError, MissingPrerequisite or CheckpointError, each naming what and where.
        """
        start = time.perf_counter()
        if threads:
            torch.set_num_threads(threads)
        place = resolve_device(device)
        keep_freed_memory(place)
        name, origin = choose_source(source, accelerator=place.type != "cpu")
        opened = open_source(name)
        models = Models.load(opened, place, lambda stored: resolve_dtype(dtype, place, stored), lm)
        if sync := synchroniser(place):
            sync()
        environment = {
            "device": str(place),
            "device_name": describe(place),
            "dtype": str(models.dtype).removeprefix("torch."),
            "source": name,
            "source_origin": origin,
            "lm": lm,
            "lm_backend": models.planner.backend if models.planner else None,
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
        }
        return cls(models, budget or MemoryBudget(place), environment, time.perf_counter() - start)

    def plan(self, params: GenerationParams, config: GenerationConfig | None = None) -> PlanResult:
        """Run the language model's part of a request by itself."""
        seeds = _seeds(config or GenerationConfig())
        with torch.inference_mode(), record(self._sync) as times:
            plan = self._plan(params, seeds)
            codes = None if plan.codes is None else tuple(plan.codes.cpu())
        return PlanResult(
            metadata=(asdict(plan.metadata),) * len(seeds),
            codes=codes,
            wall_s=times.wall_s,
            stages_s=times.stages(),
            details_s=times.details(),
            counts=plan.counts,
            environment=self.environment,
        )

    def generate(
        self, params: GenerationParams, config: GenerationConfig | None = None, save_dir: Path | None = None
    ) -> GenerationResult:
        """Generate `config.batch_size` items; write them under `save_dir` when it is given.

        Raises MissingPrerequisite when the request needs what is not loaded, AceStepError when the
        result is not music (NaN, all zero).
        """
        config = config or GenerationConfig()
        seeds = _seeds(config)
        self.budget.reset_peak()
        with torch.inference_mode(), record(self._sync) as times:
            plan = self._plan(params, seeds)
            latents, counts = self._diffuse(params, plan, seeds)
            waves, tiles = self._decode(latents)
            audios = self._finish(waves, seeds, config, save_dir, asdict(plan.metadata))
        silent = [str(item.seed) for item in audios if item.silent]
        return GenerationResult(
            audios=audios,
            wall_s=times.wall_s,
            stages_s=times.stages(),
            details_s=times.details(),
            steps_s=tuple(times.samples("diffuse/step")),
            counts=_merge(plan.counts, counts, vae_tiles=tiles),
            plan={},
            environment=self.environment,
            peak_memory_bytes=self.budget.peak_bytes(),
            warnings=(f"silent audio for seed {', '.join(silent)}",) if silent else (),
        )

    def _plan(self, params: GenerationParams, seeds: tuple[int, ...]) -> Plan:
        planner = self.models.planner
        if planner:
            return planner.plan(params, seeds)
        if params.thinking:
            raise MissingPrerequisite(
                f"thinking: no language model is loaded; load one, such as {DEFAULT_LM}"
            )
        return Plan(user_metadata(params), None, Counts())

    def _diffuse(
        self, params: GenerationParams, plan: Plan, seeds: tuple[int, ...]
    ) -> tuple[Tensor, dict[str, Any]]:
        models = self.models
        frames = conditioning.latent_frames(params.duration or 30)
        if plan.codes is not None:
            frames = max(plan.codes.shape[1] * conditioning.FRAMES_PER_CODE, conditioning.MIN_FRAMES)
        with span("text_encode"):
            text = conditioning.encode_text(
                models.text_encoder,
                models.text_tokenizer,
                params,
                plan.metadata,
                from_codes=plan.codes is not None,
            )
        with span("condition"):
            dit = models.ace_step.decoder
            times = diffusion.schedule(params.inference_steps or 8, params.shift)
            modulation = diffusion.modulate(dit, times, models.dtype, models.device)
            encoded = conditioning.encode(models.ace_step, text, models.timbre)
            hint = None if plan.codes is None else conditioning.hints(models.ace_step, plan.codes)
            context = conditioning.context(models.silence, frames, len(seeds), hint)
            conditions = dit.condition(context, encoded)
            noise = diffusion.noise(seeds, frames, models.dtype, models.device)
        with span("diffuse"):
            latents = diffusion.denoise(dit, noise, conditions, modulation, times)
        return latents, {
            "audio_s": frames / conditioning.FRAMES_PER_SECOND,
            "latent_frames": frames,
            "dit_tokens": conditions.context.shape[1],
            "encoder_tokens": encoded.shape[1],
            "dit_steps": len(times),
        }

    def _decode(self, latents: Tensor) -> tuple[Tensor, int]:
        with span("vae_decode"):
            audio.check_latents(latents)
            tile = tile_frames(self.budget.free_bytes())
            return decode.decode(self.models.vae, latents, tile, self.models.hop)

    def _finish(
        self,
        waves: Tensor,
        seeds: tuple[int, ...],
        config: GenerationConfig,
        save_dir: Path | None,
        metadata: Mapping[str, Any],
    ) -> tuple[Audio, ...]:
        items = []
        with span("post"):
            waves = audio.protect(waves).cpu()
            measured = [audio.levels(wave) for wave in waves]
        with span("save"):
            for wave, seed, (peak, rms) in zip(waves, seeds, measured, strict=True):
                silent = audio.is_silent(peak, rms)
                path = None
                if save_dir is not None and not silent:
                    path = save_dir / f"seed-{seed}.{config.audio_format}"
                    audio.save(wave, path, self.models.sample_rate)
                items.append(Audio(wave, self.models.sample_rate, seed, peak, rms, silent, path, metadata))
        return tuple(items)


def generate_music(
    engine: Engine,
    params: GenerationParams,
    config: GenerationConfig | None = None,
    save_dir: Path | None = None,
) -> GenerationResult:
    """Text to music: `engine.generate` under the name of the upstream API."""
    return engine.generate(params, config, save_dir)


def _seeds(config: GenerationConfig) -> tuple[int, ...]:
    return config.seeds or tuple(random.randint(0, MAX_SEED) for _ in range(config.batch_size))


def _merge(counts: Counts, found: Mapping[str, Any], **more: int) -> Counts:
    return replace(counts, **found, **more)
