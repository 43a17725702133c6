"""The stages of a generation, from a plan to saved audio. Each takes what the stages before it returned.

    encode_inputs   recordings -> latents                         spans load_audio, vae_encode
    lm              caption, lyrics -> metadata, audio codes      spans lm_prefill, compile, lm_decode
    text_encode     caption, lyrics, metadata -> text states
    condition       text, timbre, canvas -> conditions        these three: `diffusion.stages`
    compile         shapes not met before -> graphs               also before `vae_decode`
    diffuse         noise -> latents
    vae_decode      latents -> waveforms                          `audio.decoding`
    post            waveforms -> measured items                   these two: `audio.items`
    save            items -> files
    transfer        what a stage takes, from the device that has made it, where parts have their own

Items whose plans came out alike (same words, same length) are one micro-batch of the DiT. Others run one
after another: beyond some fifteen seconds of audio the DiT is bound by arithmetic, so padding unequal items
to one shape would only add work, and an item would come to depend on what it is batched with.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from acestep import components
from acestep.audio import waveform
from acestep.audio.decode import Decoded
from acestep.audio.decoding import Decoding
from acestep.audio.inputs import AudioInputs, encode_inputs
from acestep.audio.items import Items
from acestep.cuts import planned_cuts, user_metadata
from acestep.diffusion import canvas
from acestep.diffusion.batches import Conditioned, Diffused, MicroBatch
from acestep.diffusion.stages import Diffusion
from acestep.effective_plan import EffectivePlan
from acestep.length import cut_fades
from acestep.lm.decode.step import OnCode
from acestep.lm.planner import Plan, Planner
from acestep.result import Audio, Counts
from acestep.text import audio_codes, conditioning
from acestep.text.conditioning import EncodedText
from acestep.text.metadata import Metadata
from acestep.text.prompts import INSTRUMENTAL
from acestep.weights.loading import Models
from harness.adjustments import Fallback
from harness.compiling import Compiled
from harness.memory import MemoryBudget
from harness.spans import span


@dataclass(frozen=True)
class Generated:
    """The items in the order of their seeds, the work they took, what memory did not allow, and what was not
    done as it was asked because of what the language model wrote."""

    audios: tuple[Audio, ...]
    counts: Counts
    fallbacks: tuple[Fallback, ...]
    cuts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Latents:
    """What the stages before the VAE return: what it decodes, and what the items are made of."""

    inputs: AudioInputs
    plan: Plan
    conditioned: Sequence[Conditioned]
    diffused: Sequence[Diffused]

    @property
    def batches(self) -> list[MicroBatch]:
        """The micro-batches, each with its latents in `diffused`."""
        return [part.batch for part in self.conditioned]


class Generation:
    """A plan on loaded models. The methods are the stages; `run` is all of them.

    `seeds`: one per item. The components of the plan are loaded; the caller is in inference mode.
    """

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
        self.diffusion = Diffusion(models, plan, seeds, compiled)
        self.decoding = Decoding(models, plan, budget, compiled)
        self.items = Items(plan, seeds, models.sample_rate)

    def run(self, save_dir: Path | None) -> Generated:
        """Every stage in order; files under `save_dir` when it is given."""
        latents = self.latents()
        return self.finished(latents, self.vae_decode(latents.diffused), save_dir)

    def latents(self, on_code: OnCode | None = None) -> Latents:
        """The stages before the VAE. `on_code`: told how many audio codes are planned, as they come."""
        inputs = self.encode_inputs()
        plan = self.lm(on_code)
        batches = self.micro_batches(plan, inputs)
        texts = self.text_encode(batches)
        with self.models.residency.using(components.DIT):
            conditioned = self.diffusion.condition(batches, texts, inputs)
            self.diffusion.compile(conditioned)
            diffused = self.diffusion.diffuse(conditioned, inputs)
        return Latents(inputs, plan, conditioned, diffused)

    def finished(
        self, latents: Latents, decoded: Sequence[Decoded], save_dir: Path | None, *, streamed: bool = False
    ) -> Generated:
        """The stages after the VAE. What is `streamed` has been heard, and stays as loud as it was."""
        batches = latents.batches
        audios = self.items.post(batches, decoded, latents.inputs, streamed=streamed)
        for item in audios:
            waveform.check_peak(item.peak, item.seed, self.models.dtype)
        audios = self.items.save(audios, save_dir)
        return Generated(
            audios=audios,
            counts=self._counts(latents, decoded),
            fallbacks=(
                *latents.inputs.fallbacks,
                *latents.plan.fallbacks,
                *self.diffusion.passes.captured.fallbacks,
                *(fallback for part in decoded for fallback in part.fallbacks),
            ),
            cuts=tuple(self._cuts(batches, audios, streamed)),
        )

    def _cuts(self, batches: Sequence[MicroBatch], audios: Sequence[Audio], streamed: bool) -> Iterator[str]:
        """A line for each thing that is known only now: it is of what the language model wrote."""
        planned = (batch.metadata for batch in batches)
        yield from planned_cuts(planned, self.plan.instruction, self.models.text_tokenizer)
        shortest_s = min(batch.samples for batch in batches) / self.models.sample_rate
        yield from cut_fades(self.params, shortest_s)
        if streamed:
            yield from _too_loud(audios)

    def intermediates(self) -> dict[str, Tensor]:
        """What the DiT and the VAE return for the first micro-batch, to be compared with another engine's.

        `velocity [B, T, 64]` of the first step, unguided; `latents [B, T, 64]`; `audio [B, 2, samples]` as
        decoded. On the device, or where memory put them.
        """
        inputs = self.encode_inputs()
        batches = self.micro_batches(self.lm(), inputs)[:1]
        texts = self.text_encode(batches)
        with self.models.residency.using(components.DIT):
            conditioned = self.diffusion.condition(batches, texts, inputs)
            self.diffusion.compile(conditioned)
            (part,) = conditioned
            velocity = self.models.ace_step.decoder.velocity(
                self.diffusion.noise(part.batch), part.conditions[0], part.modulation, 0
            )
            (diffused,) = self.diffusion.diffuse(conditioned, inputs)
        (decoded,) = self.vae_decode([diffused])
        return {"velocity": velocity, "latents": diffused.latents, "audio": decoded.audio}

    def encode_inputs(self) -> AudioInputs:
        """Latents of the recordings that the request names."""
        return encode_inputs(self.models, self.budget, self.plan)

    def source_codes(self) -> Tensor:
        """Audio codes `[ceil(T / 5)]` of the recording by itself; needs `components.ENCODING`."""
        inputs = self.encode_inputs()
        if inputs.source is None:
            raise ValueError("plan: has no recording")
        with self.models.residency.using(components.TOKENIZER, components.DETOKENIZER):
            _, codes = canvas.cover(self.models.ace_step, inputs.source, self.models.silence)
        return codes[0, : -(-inputs.frames // canvas.FRAMES_PER_CODE)]

    def lm(self, on_code: OnCode | None = None) -> Plan:
        """Metadata and codes of every item, from the language model or from the request itself."""
        params, plan = self.params, self.plan
        user = user_metadata(params, plan.text_duration_s)
        items = Plan((user,) * len(self.seeds), None, Counts())
        if self.planner and components.LM in plan.components:
            with self.planner.backend.using():
                items = self.planner.plan(
                    params,
                    user,
                    self.seeds,
                    length_s=plan.length_s,
                    max_duration_s=int(plan.setup.max_duration_s),
                    metadata=plan.lm_metadata,
                    codes=plan.lm_codes,
                    on_code=on_code,
                )
        if params.audio_codes:
            codes = torch.tensor(
                audio_codes.parse(params.audio_codes), device=self.models.place(components.CONDITION)
            )
            items = replace(items, codes=(codes,) * len(self.seeds))
        return replace(items, metadata=tuple(map(self._lasting, items.metadata)))

    def _lasting(self, metadata: Metadata) -> Metadata:
        """`metadata` with the length that the text is told, also where no thought has named one."""
        if metadata.duration is not None:
            return metadata
        return replace(metadata, duration=int(self.plan.length_s()))

    def micro_batches(self, plan: Plan, inputs: AudioInputs) -> list[MicroBatch]:
        """Items of the same metadata and length together, in the order of their first."""
        alike: dict[tuple[Metadata, int, int], list[int]] = {}
        for item, metadata in enumerate(plan.metadata):
            codes = None if plan.codes is None else plan.codes[item]
            frames = self._frames(metadata, codes, inputs)
            alike.setdefault((metadata, frames, self._samples(metadata, frames, inputs)), []).append(item)
        return [
            MicroBatch(*key, tuple(items), () if plan.codes is None else tuple(plan.codes[i] for i in items))
            for key, items in alike.items()
        ]

    def _frames(self, metadata: Metadata, codes: Tensor | None, inputs: AudioInputs) -> int:
        """Latent frames of an item; never fewer than the model makes."""
        if inputs.source is not None:
            return inputs.source.shape[1]
        if codes is not None:
            return max(len(codes) * canvas.FRAMES_PER_CODE, canvas.MIN_FRAMES)
        return canvas.latent_frames(self.plan.length_s(metadata.duration))

    def _samples(self, metadata: Metadata, frames: int, inputs: AudioInputs) -> int:
        """Samples of an item: as many as its duration has, of a recording no more than could be read."""
        models = self.models
        samples = round(self.plan.length_s(metadata.duration) * models.sample_rate)
        if inputs.source is None:
            return min(samples, frames * models.hop)
        return min(samples, max(inputs.frames * models.hop, models.sample_rate))  # a second is the shortest

    def text_encode(self, batches: Sequence[MicroBatch]) -> list[list[EncodedText]]:
        """Text states of each micro-batch's prompts."""
        models, params = self.models, self.params
        with models.residency.using(components.TEXT_ENCODER), span("text_encode"):
            return [
                [
                    conditioning.encode_text(
                        models.text_encoder,
                        models.text_tokenizer,
                        instruction=instruction,
                        caption=caption,
                        lyrics=lyrics,
                        language=batch.metadata.language or params.vocal_language,
                        metadata=batch.metadata,
                    )
                    for instruction, caption, lyrics in self._prompts(batch)
                ]
                for batch in batches
            ]

    def _prompts(self, batch: MicroBatch) -> list[tuple[str, str, str]]:
        """Instruction, caption and lyrics: of the task, and of text to music where later steps leave the
        source, or of the source itself where it is edited."""
        params, plan = self.params, self.plan
        caption = batch.metadata.caption or params.caption
        lyrics = INSTRUMENTAL if params.instrumental else params.lyrics
        prompts = [(instruction, caption, lyrics) for instruction in plan.instructions]
        if plan.edits:
            source = params.flow_edit_source_caption, params.flow_edit_source_lyrics
            prompts.append((plan.instruction, *source))
        return prompts

    def vae_decode(self, diffused: Sequence[Diffused]) -> list[Decoded]:
        """Latents to waveforms. Raises BenchError for latents that are not music."""
        return self.decoding.decode([part.latents for part in diffused])

    def _counts(self, latents: Latents, decoded: Sequence[Decoded]) -> Counts:
        batches = latents.batches
        longest = max(batch.frames for batch in batches)
        texts = [text for part in latents.conditioned for text in part.texts]
        return replace(
            latents.plan.counts,
            audio_s=max(batch.samples for batch in batches) / self.models.sample_rate,
            latent_frames=longest,
            dit_tokens=-(-longest // 2),
            encoder_tokens=max(part.encoder_tokens for part in latents.conditioned),
            caption_tokens=max(text.caption for text in texts),
            lyric_tokens=max(text.lyrics for text in texts),
            prompts=len(texts),
            dit_steps=len(self.diffusion.times),
            dit_calls=sum(part.passes for part in latents.diffused),
            vae_tiles=sum(part.tiles for part in decoded),
            vae_tile_frames=decoded[-1].tile_frames,
            vae_level=max(part.level for part in decoded),
            vae_encode_tiles=latents.inputs.tiles,
        )


def _too_loud(audios: Sequence[Audio]) -> list[str]:
    """A line for each item that reaches beyond full scale."""
    reason = "of full scale, which a stream is not turned down for"
    return [f"seed {item.seed}: a peak of {item.peak:.2f} {reason}" for item in audios if item.peak > 1]
