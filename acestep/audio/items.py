"""The stages `post` and `save` of a generation: waveforms to measured items, and items to files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from acestep.audio import finishing, waveform, writing
from acestep.audio.decode import Decoded
from acestep.audio.inputs import AudioInputs
from acestep.diffusion.batches import MicroBatch
from acestep.result import Audio
from acestep.text import audio_codes
from harness.spans import span

if TYPE_CHECKING:
    from acestep.effective_plan import EffectivePlan


class Items:
    """The items of a plan, one per seed, at `sample_rate`."""

    def __init__(self, plan: EffectivePlan, seeds: Sequence[int], sample_rate: int):
        self.plan = plan
        self.params = plan.params
        self.seeds = seeds
        self.sample_rate = sample_rate

    def post(
        self,
        batches: Sequence[MicroBatch],
        decoded: Sequence[Decoded],
        inputs: AudioInputs,
        *,
        streamed: bool = False,
    ) -> tuple[Audio, ...]:
        """Waveforms to finished items on the host, in the order of their seeds.

        An item that reaches beyond full scale is turned down, but where it is `streamed`: it has been heard.
        """
        audios: dict[int, Audio] = {}
        with span("post"):
            for batch, waves in zip(batches, decoded, strict=True):
                audio = waves.audio[..., : batch.samples]
                kept = self._spliced((audio if streamed else waveform.protect(audio)).cpu(), inputs)
                codes = [audio_codes.join(row.tolist()) for row in batch.codes] or [""] * len(batch.items)
                for item, wave, text in zip(batch.items, kept, codes, strict=True):
                    finished, peak, rms, silent = finishing.finish(wave, self.params, self.sample_rate)
                    audios[item] = Audio(
                        tensor=finished,
                        sample_rate=self.sample_rate,
                        seed=self.seeds[item],
                        peak=peak,
                        rms=rms,
                        silent=silent,
                        metadata=asdict(batch.metadata),
                        codes=text,
                    )
        return tuple(audios[item] for item in range(len(self.seeds)))

    def piece(self, waves: Tensor, start: int, samples: int, inputs: AudioInputs) -> Tensor:
        """What `post` makes of the piece `waves [B, 2, n]` of a stream, from `start` of `samples` in all."""
        fades = finishing.fades(self.params, self.sample_rate)
        return finishing.faded(self._spliced(waves, inputs, start, samples), *fades, start, samples)

    def _spliced(self, waves: Tensor, inputs: AudioInputs, start: int = 0, samples: int = 0) -> Tensor:
        """Outside a painted region the recording itself, where it is to be put back."""
        crossfade_s = self.params.repaint_wav_crossfade_sec
        if inputs.wave is None or inputs.wave_region is None or crossfade_s is None:
            return waves
        crossfade = int(crossfade_s * self.sample_rate)  # whole samples, as upstream counts them
        return finishing.spliced(waves, inputs.wave, inputs.wave_region, crossfade, start, samples)

    def save(self, audios: Sequence[Audio], save_dir: Path | None) -> tuple[Audio, ...]:
        """Items to new files of `save_dir` where there is one, named by their seeds; no silent ones."""
        with span("save"):
            return tuple(self._saved(audio, save_dir) for audio in audios)

    def _saved(self, audio: Audio, save_dir: Path | None) -> Audio:
        if save_dir is None or audio.silent:
            return audio
        stem = save_dir / f"seed-{audio.seed}"
        path, contents = writing.save(audio.tensor, stem, audio.sample_rate, self.plan.config)
        return replace(audio, path=path, contents=contents)
