"""The diffusion stages of a generation: condition, compile, diffuse.

The DiT is on the device for all three. What they share is worked out once: the modulation for every item, the
conditions for every micro-batch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from acestep import components
from acestep.diffusion import canvas, flow_edit, sampler, step
from acestep.diffusion.batches import Conditioned, Diffused, MicroBatch, TextTokens
from acestep.diffusion.canvas import Canvas
from acestep.diffusion.dcw import DCW, dcw
from acestep.diffusion.guidance import Guidance
from acestep.diffusion.repaint import Repaint
from acestep.diffusion.step import Passes
from acestep.models.dit import Conditions
from acestep.text import conditioning
from acestep.text.conditioning import EncodedText
from acestep.weights.loading import Models
from harness.captured import Captured
from harness.compiling import Compiled
from harness.graphs import Graphs
from harness.residency import brought
from harness.spans import span
from harness.subject import item_seeds

if TYPE_CHECKING:
    from acestep.audio.inputs import AudioInputs
    from acestep.effective_plan import EffectivePlan


class Diffusion:
    """The DiT on a plan, from text states to latents; the methods are the stages.

    `seeds`: one per item. The components of the plan are loaded; the caller is in inference mode and keeps
    the DiT on the device.
    """

    def __init__(
        self, models: Models, plan: EffectivePlan, seeds: Sequence[int], compiled: Compiled | None = None
    ):
        self.models = models
        self.plan = plan
        self.params = plan.params
        self.seeds = seeds
        self.compiled = compiled
        self.times = plan.times
        self.options = _options(plan, models)
        self.passes = self._passes(Graphs())  # `compile` has them recorded

    def condition(
        self, batches: Sequence[MicroBatch], texts: Sequence[Sequence[EncodedText]], inputs: AudioInputs
    ) -> list[Conditioned]:
        """What the diffusion steps of each micro-batch share."""
        models, model = self.models, self.models.ace_step
        place, dit = models.place(components.CONDITION), models.place(components.DIT)
        batches = [replace(batch, codes=brought(place, *batch.codes)) for batch in batches]
        texts = [[text.on(place) for text in encoded] for encoded in texts]
        null = model.null_condition_emb if self.plan.guided else None
        helpers = (components.TIMBRE, components.TOKENIZER, components.DETOKENIZER)
        used = (name for name in helpers if name in self.plan.components)
        conditioned = []
        with models.residency.using(components.CONDITION, *used), span("condition"):
            times = (*self.times, 0.0) if self.options.correct_last else self.times
            modulation = sampler.modulate(model.decoder, times, models.dtype, dit)
            timbre = self._timbre(inputs)
            for batch, encoded_texts in zip(batches, texts, strict=True):
                batch, task_canvas = self._canvas(batch, inputs)
                silent = canvas.silent(models.silence, batch.frames)
                canvases = [task_canvas, task_canvas if self.params.flow_edit_morph else silent]
                conditions: list[Conditions] = []
                tokens = 0
                read = [TextTokens(text.caption.shape[1], text.lyrics.shape[1]) for text in encoded_texts]
                for text, before in zip(encoded_texts, canvases, strict=False):
                    encoded = conditioning.encode(model, text, timbre)
                    context, encoded = brought(dit, before.context(len(batch.items)), encoded)
                    conditions.append(model.decoder.condition(context, encoded, null))
                    tokens = max(tokens, encoded.shape[1])
                conditioned.append(Conditioned(batch, task_canvas, modulation, conditions, tokens, read))
        return conditioned

    def _timbre(self, inputs: AudioInputs) -> Tensor:
        """One vector per reference clip `[1, N, D]`; that of silence without any."""
        if not inputs.clips:
            return self.models.timbre_of_silence
        return self.models.ace_step.encoder.timbre_encoder(torch.cat(inputs.clips))[None]

    def _canvas(self, batch: MicroBatch, inputs: AudioInputs) -> tuple[MicroBatch, Canvas]:
        """What the DiT is to fill, and the micro-batch with the codes of a recording that is covered."""
        model, silence, task = self.models.ace_step, self.models.silence, self.params.task_type
        if inputs.source is not None and task == "cover":
            filled, codes = canvas.cover(model, inputs.source, silence)
            return replace(batch, codes=(codes[0],) * len(batch.items)), filled
        if inputs.source is not None:
            explicit = self.params.chunk_mask_mode == "explicit"
            return batch, canvas.kept(
                inputs.source, silence, inputs.region, erase=task == "repaint", explicit=explicit
            )
        if batch.codes:
            return batch, canvas.from_codes(model, torch.stack(batch.codes), silence, batch.frames)
        return batch, canvas.silent(silence, batch.frames)

    def compile(self, conditioned: Sequence[Conditioned]) -> None:
        """Graphs for the passes to come: compiled where the engine compiles and has not met their shapes,
        recorded where its device records, but for a single pass.
        """
        dit, uses = self.models.ace_step.decoder, self._uses()
        if self.compiled:
            passes = list(product(conditioned, sorted({guided for _, guided in uses})))
            self.compiled.room(step.bucket(part.conditions[0], guided) for part, guided in passes)
            for part, guided in passes:
                step.warm(self.compiled, dit, part.conditions[0], part.modulation, guided)
        self.passes = self._passes(Graphs.on(self._place, self.plan.setup.graphs))
        repeated = [use for use, passes in uses.items() if passes > 1]
        if not repeated or not self.passes.captured.recording:
            return
        with span("compile"), self._frozen():
            for part in conditioned:
                for which, guided in repeated:
                    self.passes.record(part.conditions[which], part.modulation, guided)

    def _passes(self, graphs: Graphs) -> Passes:
        return Passes(self.models.ace_step.decoder, Captured("diffuse", graphs, self.models.met))

    def _uses(self) -> Counter[tuple[int, bool]]:
        """How many passes run under which of the conditions, guided or not."""
        params, guidance = self.params, self.options.guidance
        guided = [guidance is not None and guidance.active(t) for t in self.plan.evaluations]
        if params.flow_edit_morph:  # as many under either words at steps that edit, then the target's alone
            editing = 2 * params.flow_edit_n_avg * self.plan.edits
            which = [place % 2 if place < editing else 0 for place in range(len(guided))]
        else:
            later_from = self._later_from * (2 if self.options.method == "heun" else 1)
            changes = len(self.plan.instructions) > 1
            which = [int(changes and place >= later_from) for place in range(len(guided))]
        return Counter(zip(which, guided, strict=True))

    @property
    def _later_from(self) -> int:
        """The first step that has left the source."""
        return int(len(self.times) * self.params.audio_cover_strength)

    def _frozen(self) -> AbstractContextManager[object]:
        """Inside nothing may compile."""
        return self.compiled.frozen() if self.compiled else nullcontext()

    def noise(self, batch: MicroBatch) -> Tensor:
        """`[items, T, 64]` in the models' dtype, where diffusion starts; no item's depends on its batch."""
        noise = self._noise(self.seeds, batch)
        variance = self.params.retake_variance
        if not variance:
            return noise
        return sampler.retake(noise, self._noise(self._retake_seeds(), batch), variance)

    def _noise(self, seeds: Sequence[int], batch: MicroBatch) -> Tensor:
        own = [seeds[item] for item in batch.items]
        return sampler.noise(own, batch.frames, self.models.dtype, self._place)

    @property
    def _place(self) -> torch.device:
        return self.models.place(components.DIT)

    def _retake_seeds(self) -> Sequence[int]:
        """One per item: consecutive, as those of a request are."""
        seed = self.params.retake_seed
        assert seed is not None, "a plan has its retake_seed before it runs"
        return item_seeds(seed, len(self.seeds))

    def diffuse(self, conditioned: Sequence[Conditioned], inputs: AudioInputs) -> list[Diffused]:
        """Noise to latents. Conditions are used up, and recordings dropped: the VAE wants the memory."""
        params, times = self.params, self.times
        if inputs.source is not None:
            (source,) = brought(self._place, inputs.source)
            inputs = replace(inputs, source=source)
        repaint = self._repaint(inputs)
        recordings = [self._recording(part, inputs) for part in conditioned]
        diffused = []
        with self.passes.captured, span("diffuse"), self._frozen():
            for part, recording in zip(conditioned, recordings, strict=True):
                if params.flow_edit_morph:
                    diffused.append(self._edited(part, inputs))
                    continue
                x = self.noise(part.batch)
                if recording is not None:
                    x = sampler.blend_start(x, recording, times[0])
                latents, passes = sampler.denoise(
                    self.passes,
                    x,
                    part.conditions[0],
                    part.modulation,
                    times,
                    self.options,
                    later=part.conditions[1] if len(part.conditions) > 1 else None,
                    later_from=self._later_from,
                    repaint=repaint,
                    seeds=[self.seeds[item] for item in part.batch.items],
                )
                diffused.append(Diffused(latents, passes))
                part.conditions.clear()
        return diffused

    def _recording(self, part: Conditioned, inputs: AudioInputs) -> Tensor | None:
        """What noise is blended with, if it is: the recording itself, of codes alone what they stand for."""
        if self.params.cover_noise_strength <= 0:
            return None
        (recording,) = brought(self._place, part.canvas.source if inputs.source is None else inputs.source)
        return recording

    def _edited(self, part: Conditioned, inputs: AudioInputs) -> Diffused:
        """The recording, led from its own words to those of the request."""
        params = self.params
        assert inputs.source is not None
        latents, passes = flow_edit.edit(
            self.passes,
            inputs.source,
            part.conditions[0],
            part.conditions[-1],
            part.modulation,
            self.times,
            self.options,
            edits=self.plan.edits,
            draws=params.flow_edit_n_avg,
            seeds=[self.seeds[item] for item in part.batch.items],
        )
        part.conditions.clear()
        return Diffused(latents, passes)

    def _repaint(self, inputs: AudioInputs) -> Repaint | None:
        """What keeps the recording outside the region; None where all of it is painted."""
        ratio, frames = self.params.repaint_injection_ratio, self.params.repaint_latent_crossfade_frames
        if inputs.source is None or inputs.region is None or ratio is None:
            return None
        return Repaint(inputs.source, inputs.region, ratio, frames or 0, spare_last=self.plan.setup.turbo)


def _options(plan: EffectivePlan, models: Models) -> sampler.Options:
    params = plan.params
    return sampler.Options(
        method=params.infer_method,
        correct_last=0.0 in plan.evaluations,
        guidance=_guidance(plan),
        norm_threshold=params.velocity_norm_threshold,
        ema_factor=params.velocity_ema_factor,
        dcw=_dcw(plan, models),
    )


def _guidance(plan: EffectivePlan) -> Guidance | None:
    params = plan.params
    if not plan.guided:
        return None
    return Guidance(
        params.guidance_scale or 1.0,
        params.guidance_mode,
        params.cfg_interval_start,
        params.cfg_interval_end,
    )


def _dcw(plan: EffectivePlan, models: Models) -> DCW | None:
    params = plan.params
    if not params.dcw_enabled:
        return None
    return dcw(
        params.dcw_mode,
        params.dcw_scaler,
        params.dcw_high_scaler,
        params.dcw_wavelet,
        models.dtype,
        models.place(components.DIT),
    )
