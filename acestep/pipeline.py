"""One request on its way through the stages, from its plan to saved audio.

    listen      recordings -> latents                          load_audio, vae_encode
    planned     caption, lyrics -> metadata, audio codes       lm_prefill, lm_decode
    read        caption, lyrics, metadata -> text states       text_encode
    condition   text, timbre, canvas -> what the DiT sees      condition
    compile     shapes not met before -> graphs                compile
    diffuse     noise -> latents                               diffuse
    decode      latents -> waveforms                           vae_decode
    finish      waveforms -> files                             post, save

Items whose plans came out alike (same words, same length) are one batch of the DiT. Others run one after
another: beyond some fifteen seconds of audio the DiT is bound by arithmetic, so padding unequal items
to one shape would only add work, and an item would come to depend on what it is batched with.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from acestep.audio import waveform as audio
from acestep.audio.decode import decode
from acestep.audio.inputs import AudioInputs, encode_inputs
from acestep.diffusion import canvas
from acestep.diffusion import sampler as diffusion
from acestep.diffusion.canvas import Canvas
from acestep.diffusion.compiling import Compiled
from acestep.diffusion.guidance import Guidance
from acestep.diffusion.schedule import start_at
from acestep.lm.planner import Plan, Planner
from acestep.models.dit import Conditions
from acestep.request import DEFAULT_DURATION_S
from acestep.resolver import EffectivePlan
from acestep.result import Audio, Counts
from acestep.tasks import instruction
from acestep.text import audio_codes, conditioning
from acestep.text.metadata import Metadata
from acestep.text.prompts import INSTRUMENTAL
from acestep.weights.loading import ALWAYS, Models
from harness.adjustments import Fallback
from harness.memory import MemoryBudget
from harness.spans import span

ENCODING = ("vae_encoder", "tokenizer", "detokenizer")  # a recording to its codes
CONDITIONING = {"timbre", "tokenizer", "detokenizer"}  # what may help the condition encoder


@dataclass
class Group:
    """Items that share words and length, and what the stages have made of them."""

    metadata: Metadata
    frames: int
    items: list[int] = field(default_factory=list)  # places in the request's batch
    codes: list[Tensor] = field(default_factory=list)  # [n] per item, or none at all
    texts: list[conditioning.EncodedText] = field(default_factory=list)
    canvas: Canvas | None = None
    conditions: list[Conditions] = field(default_factory=list)
    latents: Tensor | None = None  # [items, T, 64]
    waves: Tensor | None = None  # [items, 2, samples]


class Run:
    """One request: each method is a stage, and leaves what it made for the next."""

    def __init__(
        self,
        models: Models,
        planner: Planner | None,
        budget: MemoryBudget,
        plan: EffectivePlan,
        seeds: Sequence[int],
        compiled: Compiled | None = None,
    ):
        self.models = models
        self.planner = planner
        self.budget = budget
        self.plan = plan
        self.params = plan.params
        self.seeds = seeds
        self.compiled = compiled
        self.counts = Counts()
        self.fallbacks: list[Fallback] = []
        self.inputs = AudioInputs()
        self.groups: list[Group] = []
        self.times = start_at(plan.times, plan.params.cover_noise_strength)

    def parts(self) -> tuple[str, ...]:
        """Models this request runs."""
        params, plan = self.params, self.plan
        covers = params.task_type == "cover"
        needs = {
            "lm": plan.lm_metadata or plan.lm_codes,
            "vae_encoder": params.src_audio or params.reference_audio,
            "timbre": params.reference_audio,
            "tokenizer": covers and params.src_audio,
            "detokenizer": covers or params.audio_codes or plan.lm_codes,
        }
        return (*ALWAYS, *(part for part, needed in needs.items() if needed))

    def audio(self, save_dir: Path | None) -> tuple[Audio, ...]:
        """Every stage in order; files under `save_dir` when it is given."""
        self.encode_inputs()
        self.group(self.planned())
        self.read()
        with self.models.residency.using("dit"):
            self.condition()
            self.compile()
            self.diffuse()
        self.decode()
        return self.finish(save_dir)

    def encode_inputs(self) -> None:
        """Recordings to latents."""
        self.inputs = encode_inputs(self.models, self.budget, self.plan)
        self.fallbacks += self.inputs.fallbacks

    def source_codes(self) -> Tensor:
        """Audio codes `[ceil(T / 5)]` of the recording by itself; needs `ENCODING`."""
        self.encode_inputs()
        assert self.inputs.source is not None
        with self.models.residency.using("tokenizer", "detokenizer"):
            _, codes = canvas.cover(self.models.ace_step, self.inputs.source, self.models.silence)
        return codes[0, : -(-self.inputs.frames // canvas.FRAMES_PER_CODE)]

    def planned(self) -> Plan:
        """Metadata and codes of every item, from the language model or from the request itself."""
        params, plan = self.params, self.plan
        user = Metadata(
            bpm=params.bpm,
            duration=None if params.duration is None else int(params.duration),
            keyscale=params.keyscale or None,
            timesignature=params.timesignature or None,
        )
        made = Plan((user,) * len(self.seeds), None, Counts())
        if self.planner and (plan.lm_metadata or plan.lm_codes):
            with self.planner.backend.using():
                made = self.planner.plan(
                    params,
                    user,
                    self.seeds,
                    duration_s=params.duration,
                    max_duration_s=int(plan.setup.max_duration_s),
                    metadata=plan.lm_metadata,
                    codes=plan.lm_codes,
                )
        if params.audio_codes:
            given = torch.tensor(audio_codes.parse(params.audio_codes), device=self.models.device)
            made = replace(made, codes=(given,) * len(self.seeds))
        return made

    def group(self, made: Plan) -> None:
        """Put items of the same words and length together."""
        self.counts = replace(made.counts, vae_encode_tiles=self.inputs.tiles)
        alike: dict[tuple[Metadata, int], Group] = {}
        for item, metadata in enumerate(made.metadata):
            codes = None if made.codes is None else made.codes[item]
            key = metadata, self._frames(metadata, codes)
            group = alike.setdefault(key, Group(*key))
            group.items.append(item)
            if codes is not None:
                group.codes.append(codes)
        self.groups = list(alike.values())

    def _frames(self, metadata: Metadata, codes: Tensor | None) -> int:
        """Latent frames of an item; never fewer than the model makes."""
        if self.inputs.source is not None:
            return self.inputs.source.shape[1]
        if codes is not None:
            return max(len(codes) * canvas.FRAMES_PER_CODE, canvas.MIN_FRAMES)
        return canvas.latent_frames(self.params.duration or metadata.duration or DEFAULT_DURATION_S)

    def read(self) -> None:
        """Words to text states. What leaves its source on the way is read as text to music as well."""
        models, params = self.models, self.params
        sentences = [self.plan.instruction]
        if params.audio_cover_strength < 1:
            sentences.append(instruction("text2music"))
        with models.residency.using("text_encoder"), span("text_encode"):
            for group in self.groups:
                group.texts = [
                    conditioning.encode_text(
                        models.text_encoder,
                        models.text_tokenizer,
                        instruction=instruction,
                        caption=group.metadata.caption or params.caption,
                        lyrics=INSTRUMENTAL if params.instrumental else params.lyrics,
                        language=group.metadata.language or params.vocal_language,
                        metadata=group.metadata,
                    )
                    for instruction in sentences
                ]

    def condition(self) -> None:
        """Everything the diffusion steps share."""
        models, model = self.models, self.models.ace_step
        null = model.null_condition_emb if self.plan.guided else None
        also = CONDITIONING.intersection(self.parts())
        with models.residency.using("condition", *also), span("condition"):
            self.modulation = diffusion.modulate(model.decoder, self.times, models.dtype, models.device)
            timbre = self._timbre()
            for group in self.groups:
                group.canvas = self._canvas(group)
                canvases = [group.canvas, canvas.silent(models.silence, group.frames)]
                for text, before in zip(group.texts, canvases, strict=False):
                    encoded = conditioning.encode(model, text, timbre)
                    context = before.context(len(group.items))
                    group.conditions.append(model.decoder.condition(context, encoded, null))
                    self.counts = replace(
                        self.counts, encoder_tokens=max(self.counts.encoder_tokens, encoded.shape[1])
                    )

    def _timbre(self) -> Tensor:
        """One vector per reference clip `[1, N, D]`; that of silence without any."""
        if not self.inputs.clips:
            assert self.models.timbre_of_silence is not None
            return self.models.timbre_of_silence
        return self.models.ace_step.encoder.timbre_encoder(torch.cat(self.inputs.clips))[None]

    def _canvas(self, group: Group) -> Canvas:
        """What the DiT is given to fill."""
        models, task = self.models, self.params.task_type
        if self.inputs.source is not None and task == "cover":
            made, codes = canvas.cover(models.ace_step, self.inputs.source, models.silence)
            group.codes = [codes[0]] * len(group.items)
            return made
        if self.inputs.source is not None:
            return canvas.kept(
                self.inputs.source, models.silence, self.inputs.region, erase=task == "repaint"
            )
        if group.codes:
            return canvas.from_codes(models.ace_step, torch.stack(group.codes), models.silence, group.frames)
        return canvas.silent(models.silence, group.frames)

    def _guidance(self) -> Guidance | None:
        params = self.params
        if not self.plan.guided:
            return None
        return Guidance(
            params.guidance_scale or 1.0,
            params.guidance_mode,
            params.cfg_interval_start,
            params.cfg_interval_end,
        )

    def compile(self) -> None:
        """Graphs for the steps to come, where the engine compiles and has not met their shapes."""
        if self.compiled is None:
            return
        guidance = self._guidance()
        kinds = {guidance is not None and guidance.active(t) for t in self.times}
        for group in self.groups:
            for guided in sorted(kinds):
                self.compiled.warm(group.conditions[0], self.modulation, guided)

    def diffuse(self) -> None:
        """Noise to latents."""
        models, params = self.models, self.params
        times, guidance = self.times, self._guidance()
        frozen = self.compiled.frozen if self.compiled else nullcontext
        with span("diffuse"), frozen():
            for group in self.groups:
                seeds = [self.seeds[item] for item in group.items]
                x = diffusion.noise(seeds, group.frames, models.dtype, models.device)
                if group.canvas and params.cover_noise_strength > 0:
                    x = diffusion.blend_start(x, group.canvas.source, times[0])
                group.latents, passes = diffusion.denoise(
                    models.ace_step.decoder,
                    x,
                    group.conditions[0],
                    self.modulation,
                    times,
                    method=params.infer_method,
                    guidance=guidance,
                    later=group.conditions[1] if len(group.conditions) > 1 else None,
                    later_from=int(len(times) * params.audio_cover_strength),
                    repaint=self._repaint(group),
                    seeds=seeds,
                )
                self._count(dit_calls=passes)
                group.conditions.clear()  # they hold views of the weights, which are to leave the device
        longest = max(group.frames for group in self.groups)
        self.counts = replace(
            self.counts,
            audio_s=longest / canvas.FRAMES_PER_SECOND,
            latent_frames=longest,
            dit_tokens=-(-longest // 2),
            dit_steps=len(times),
        )

    def _repaint(self, group: Group) -> diffusion.Repaint | None:
        params = self.params
        if params.task_type != "repaint" or self.inputs.source is None or group.canvas is None:
            return None
        return diffusion.Repaint(
            self.inputs.source,
            group.canvas.mask,
            params.repaint_injection_ratio,
            params.repaint_crossfade_frames,
        )

    def decode(self) -> None:
        """Latents to waveforms."""
        models = self.models
        with models.residency.using("vae"):
            for group in self.groups:
                assert group.latents is not None
                with span("vae_decode"):
                    audio.check_latents(group.latents)
                    done = decode(models.vae.decoder, group.latents, models.hop, self.budget)
                group.waves = done.audio
                self.fallbacks += done.fallbacks
                self._count(vae_tiles=done.tiles)
                level = max(self.counts.vae_level, done.level)
                self.counts = replace(self.counts, vae_level=level, vae_tile_frames=done.tile_frames)

    def finish(self, save_dir: Path | None) -> tuple[Audio, ...]:
        """Waveforms to measured and saved items, in the order of their seeds."""
        finished: dict[int, Audio] = {}
        for group in self.groups:
            assert group.waves is not None
            with span("post"):
                waves = audio.protect(group.waves).cpu()
                measured = [audio.levels(wave) for wave in waves]
                codes = [audio_codes.join(row.tolist()) for row in group.codes] or [""] * len(waves)
            with span("save"):
                for item, wave, (peak, rms), text in zip(group.items, waves, measured, codes, strict=True):
                    made = Audio(
                        tensor=wave,
                        sample_rate=self.models.sample_rate,
                        seed=self.seeds[item],
                        peak=peak,
                        rms=rms,
                        silent=audio.is_silent(peak, rms),
                        metadata=asdict(group.metadata),
                        codes=text,
                    )
                    finished[item] = self._saved(made, save_dir)
        return tuple(finished[item] for item in range(len(self.seeds)))

    def _saved(self, made: Audio, save_dir: Path | None) -> Audio:
        if save_dir is None or made.silent:
            return made
        path = save_dir / f"seed-{made.seed}.{self.plan.config.audio_format}"
        audio.save(made.tensor, path, made.sample_rate)
        return replace(made, path=path)

    def _count(self, **done: int) -> None:
        added = {name: getattr(self.counts, name) + count for name, count in done.items()}
        self.counts = replace(self.counts, **added)
