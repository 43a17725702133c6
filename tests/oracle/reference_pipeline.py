"""What a request comes to, a second time and plainly: everything around the networks.

From the formulas, one item, one step and one evaluation at a time, nothing kept for the next one. Nothing of
`acestep.diffusion`, `acestep.pipeline` or `acestep.audio` is used. The networks themselves are the engine's:
each is held to an oracle of its own in this folder, as are prompts and text encoding.

Shapes: T latent frames, 25 per second; N samples, 48,000 per second. A latent is `[1, T, 64]`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pywt
import torch
from torch import Tensor

from tests.oracle.reference_scene import INSTRUCTIONS, RATE, Scene

FRESH = 0x9E3779B9  # the bits of a seed to flip for the noise that is drawn inside the steps: ours alone
TURBO_SHIFTS = (1, 2, 3)


def nearest(value: float, known: Sequence[float]) -> float:
    return min(known, key=lambda other: abs(other - value))


def shifted(steps: int, shift: float) -> list[float]:
    fractions = [1 - i / steps for i in range(steps)]
    return [shift * u / (1 + (shift - 1) * u) for u in fractions]


class Reference(Scene):
    """A request's latents and waveform. Methods are small so that a test can spoil one of them."""

    def __init__(self, models: Any, params: Any, seed: int, wave: Tensor | None = None):
        super().__init__(models, params, wave)
        self.seed = seed
        self.fresh = torch.Generator().manual_seed(seed ^ FRESH)

    # Times.

    def whole_schedule(self) -> list[float]:
        p = self.p
        steps = p.inference_steps or (8 if self.turbo else 50)
        if p.timesteps:
            given = [t for t in p.timesteps if t > 0]
            known = [t for shift in TURBO_SHIFTS for t in shifted(8, shift)]
            return [nearest(t, known) for t in given] if self.turbo else given
        return shifted(steps, nearest(p.shift, TURBO_SHIFTS) if self.turbo and steps == 8 else p.shift)

    def times(self) -> list[float]:
        times = self.whole_schedule()
        if self.p.cover_noise_strength > 0:
            times = times[times.index(nearest(1 - self.p.cover_noise_strength, times)) :]
        return times

    # Noise.

    def drawn(self, generator: torch.Generator) -> Tensor:
        return torch.randn(1, self.frames, 64, generator=generator)

    def noise(self) -> Tensor:
        noise, w = self.drawn(torch.Generator().manual_seed(self.seed)), self.p.retake_variance
        if w > 0:
            other = self.drawn(torch.Generator().manual_seed(self.p.retake_seed))
            noise = math.cos(math.pi / 2 * w) * noise + math.sin(math.pi / 2 * w) * other
        return noise

    def blended_with(self) -> Tensor:
        """What a cover's noise is blended with: the recording itself, not its codes."""
        return self.source() if self.clean is None else self.clean

    # Guidance.

    def velocity(self, x: Tensor, t: float, conditions: Any, state: dict, corrector: bool = False) -> Tensor:
        """The guided velocity at time t, its length limited; `state` holds the momentum of APG."""
        p, dit = self.p, self.model.decoder
        modulation = dit.modulate(torch.tensor([t]))
        if self.scale() > 1 and p.cfg_interval_start <= t <= p.cfg_interval_end:
            c, u = dit.velocities(x, conditions, modulation, 0)
            mode = p.guidance_mode
            if corrector:
                mode = self.corrector_mode(t)
            v = getattr(self, mode)(c.double(), u.double(), x.double(), t, state).float()
        else:
            v = dit.velocity(x, conditions, modulation, 0)
        return self.limited(v, x)

    def corrector_mode(self, t: float) -> str:
        """Angles want a time to divide by; momentum is the steps' own."""
        return "adg" if self.p.guidance_mode == "adg" and t > 0 else "cfg"

    def limited(self, v: Tensor, x: Tensor) -> Tensor:
        r = self.p.velocity_norm_threshold
        return v * min(1.0, float(r * x.norm() / v.norm())) if r > 0 else v

    def smoothed(self, v: Tensor, before: Tensor | None) -> Tensor:
        a = self.p.velocity_ema_factor
        return v if before is None or a == 0 else (1 - a) * v + a * before

    def cfg(self, c: Tensor, u: Tensor, x: Tensor, t: float, state: dict) -> Tensor:
        return u + self.scale() * (c - u)

    def apg(self, c: Tensor, u: Tensor, x: Tensor, t: float, state: dict) -> Tensor:
        d = state["momentum"] = c - u - 0.75 * state.get("momentum", 0)
        d = d * (2.5 / d.norm(dim=1, keepdim=True)).clamp(max=1)
        unit = c / c.norm(dim=1, keepdim=True)
        return c + (self.scale() - 1) * (d - (d * unit).sum(1, keepdim=True) * unit)

    def adg(self, c: Tensor, u: Tensor, x: Tensor, t: float, state: dict) -> Tensor:
        clean, none = x - t * c, x - t * u
        cosine = (clean * none).sum(-1) / (clean.norm(dim=-1) * none.norm(dim=-1))
        angle = torch.acos(cosine.clamp(-1 + 1e-6, 1 - 1e-6))[..., None]
        turn = ((max(self.scale() - 1, 0) + 1e-3) * angle).clamp(max=3.14 / 6)
        d = clean - none
        d = d - (d * none).sum(-1, keepdim=True) / (none.square().sum(-1, keepdim=True) + 1e-8) * none
        return (x - turn.cos() * clean - turn.sin() / angle.sin() * d) / t

    # Steps.

    def latents(self) -> Tensor:
        """`[1, T, 64]`, as the sampler leaves them."""
        if self.p.flow_edit_morph:
            return self.edited()
        times, noise, state, before = self.times(), self.noise(), {}, None
        x = noise
        if self.p.cover_noise_strength > 0:
            x = times[0] * noise + (1 - times[0]) * self.blended_with()
        conditions = self.conditions(self.instruction(), self.source())
        for step, t in enumerate(times):
            if step == int(len(times) * self.p.audio_cover_strength):
                conditions = self.conditions(INSTRUCTIONS["text2music"], self.silence(self.frames))
            t_next = times[step + 1] if step + 1 < len(times) else 0.0
            v = self.smoothed(self.velocity(x, t, conditions, state), before)
            data = x - t * v
            x, before = self.stepped(x, v, t, t_next, conditions, state)
            x = self.corrected(x, data, t)
            x = self.put_back(x, noise, t_next, step, len(times))
        return self.crossfaded(x)

    def stepped(self, x: Tensor, v: Tensor, t: float, t_next: float, conditions: Any, state: dict) -> tuple:
        """The next latents, and the velocity that led there."""
        if self.p.infer_method == "sde":
            data = x - t * v
            return (t_next * self.drawn(self.fresh) + (1 - t_next) * data if t_next > 0 else data), v
        if self.p.infer_method == "heun" and self.corrects_at(t_next):
            ahead = self.velocity(x - (t - t_next) * v, t_next, conditions, state, corrector=True)
            v = (v + self.smoothed(ahead, v)) / 2
        return x - (t - t_next) * v, v

    def corrects_at(self, t_next: float) -> bool:
        """Base models correct the last step as well, at time 0."""
        return t_next > 0 or not self.turbo

    def corrected(self, x: Tensor, data: Tensor, t: float) -> Tensor:
        """Differential correction in the wavelet domain (arXiv 2604.16044)."""
        p = self.p
        if not p.dcw_enabled:
            return x
        if p.dcw_mode == "pix":
            return x + p.dcw_scaler * (x - data)
        low = 0.0 if p.dcw_mode == "high" else t * p.dcw_scaler
        high = 0.0 if p.dcw_mode == "low" else (1 - t) * p.dcw_high_scaler
        if p.dcw_mode == "high":
            high = (1 - t) * p.dcw_scaler
        (x_low, x_high), (y_low, y_high) = (
            pywt.dwt(each.double().numpy(), p.dcw_wavelet, mode="zero", axis=1) for each in (x, data)
        )
        bands = x_low + low * (x_low - y_low), x_high + high * (x_high - y_high)
        inverse = pywt.idwt(*bands, p.dcw_wavelet, mode="zero", axis=1)
        return torch.from_numpy(inverse[:, : self.frames].astype(np.float32))

    # Repainting.

    def repainting(self) -> tuple[float, int, float]:
        """Share of the steps put back, frames of the crossfade, seconds of the splice's."""
        p, kept = self.p, 1 - self.p.repaint_strength
        ratio, frames, seconds = {
            "aggressive": (0.0, 0, 0.0),
            "conservative": (1.0, 25, 0.05),
            "balanced": (kept, round(25 * kept), 0.05 * kept),
        }[p.repaint_mode]
        named = p.repaint_injection_ratio, p.repaint_latent_crossfade_frames, p.repaint_wav_crossfade_sec
        return tuple(a if b is None else b for a, b in zip((ratio, frames, seconds), named, strict=True))

    def put_back(self, x: Tensor, noise: Tensor, t_next: float, step: int, steps: int) -> Tensor:
        """What is kept, on the recording's own path; a turbo model's last step is left as it is."""
        if not self.region or step >= round(self.repainting()[0] * steps):
            return x
        if self.turbo and step == steps - 1:
            return x
        kept = t_next * noise + (1 - t_next) * self.clean
        kept[:, slice(*self.region)] = x[:, slice(*self.region)]
        return kept

    def ramps(self, size: int, first: int, last: int, width: int) -> Tensor:
        """One in `[first, last)`, and on either side a line from 0 to 1 as long as there is room for."""
        share = np.zeros(size)
        share[first:last] = 1
        left, right = min(width, first), min(width, size - last)
        share[first - left : first] = np.linspace(0, 1, left + 2)[1:-1]
        share[last : last + right] = np.linspace(1, 0, right + 2)[1:-1]
        return torch.from_numpy(share).float()

    def crossfaded(self, x: Tensor) -> Tensor:
        if not self.region or self.repainting()[1] == 0:
            return x
        share = self.ramps(self.frames, *self.region, self.repainting()[1])[:, None]
        return share * x + (1 - share) * self.clean

    def spliced(self, audio: Tensor) -> Tensor:
        """The recording's own samples outside the region."""
        unasked = self.p.repaint_wav_crossfade_sec is None
        if not self.region or (self.p.repaint_mode == "aggressive" and unasked):
            return audio
        samples = min(audio.shape[1], self.wave.shape[1])
        first, last = round(self.start * RATE), min(round(self.end * RATE), samples)
        share = self.ramps(samples, first, last, int(self.repainting()[2] * RATE))
        spliced = share * audio[:, :samples] + (1 - share) * self.wave[:, :samples]
        return torch.cat((spliced, audio[:, samples:]), dim=1)

    # From one song to another.

    def edited(self) -> Tensor:
        """The recording, moved by what the words change of the velocity; past the edit, denoised."""
        p, times = self.p, [*self.times(), 0.0]
        steps = len(times) - 1
        first, last = int(steps * p.flow_edit_n_min), int(steps * p.flow_edit_n_max)
        words = {"caption": p.flow_edit_source_caption, "lyrics": p.flow_edit_source_lyrics}
        target = self.conditions(self.instruction(), self.source())
        origin = self.conditions(self.instruction(), self.source(), **words)
        states: list[dict] = [{}, {}]
        before: list[Tensor | None] = [None, None]
        edit, x, generator = self.clean, None, torch.Generator().manual_seed(self.seed)
        for step in range(first, steps):
            t, t_next = times[step], times[step + 1]
            if step < last:
                means = self.means(edit, t, (origin, target), states, generator)
                before = [self.smoothed(mean, last_one) for mean, last_one in zip(means, before, strict=True)]
                edit = edit - (t - t_next) * (before[1] - before[0])
                continue
            if x is None:
                x = edit + t * (self.drawn(generator) - self.clean)
            before[1] = self.smoothed(self.velocity(x, t, target, states[1]), before[1])
            x = x - (t - t_next) * before[1]
        return edit if x is None else x

    def means(self, edit: Tensor, t: float, conditions: tuple, states: list, generator: Any) -> list[Tensor]:
        """Velocities under either words, averaged over draws, each from the same momentum."""
        sums, momenta = [0, 0], [[], []]
        for _ in range(self.p.flow_edit_n_avg):
            noised = (1 - t) * self.clean + t * self.drawn(generator)
            for side, x in enumerate((noised, edit + noised - self.clean)):
                state = dict(states[side])
                sums[side] = (
                    sums[side] + self.velocity(x, t, conditions[side], state) / self.p.flow_edit_n_avg
                )
                momenta[side].append(state)
        for side, drawn in enumerate(momenta):
            if "momentum" in drawn[0]:
                states[side]["momentum"] = sum(s["momentum"] for s in drawn) / len(drawn)
        return sums

    # From latents to a waveform.

    def audio(self, latents: Tensor) -> Tensor:
        """`[2, N]` of what the sampler left."""
        p = self.p
        latents = latents * p.latent_rescale + p.latent_shift
        audio = self.models.vae.decoder(latents.transpose(1, 2))[0]
        audio = audio[:, : round(self.samples_s() * RATE)]
        audio = self.spliced(audio / max(float(audio.abs().max()), 1.0))
        peak = float(audio.abs().max())
        if p.enable_normalization and peak >= 1e-6:
            audio = audio * (10 ** (p.normalization_db / 20) / peak)
        for seconds, flip in ((p.fade_in_duration, False), (p.fade_out_duration, True)):
            samples = min(round(seconds * RATE), audio.shape[1])
            curve = torch.ones(audio.shape[1])
            curve[:samples] = torch.linspace(0, 1, samples)
            audio = audio * (curve.flip(0) if flip else curve)
        return audio

    def samples_s(self) -> float:
        return len(self.codes) / 5 if self.codes else self.seconds()
