"""What stands around a field of a request and decides whether it has a use: what the rules of `fields` ask.

No torch import here.
"""

from __future__ import annotations

from dataclasses import dataclass

from acestep.diffusion.schedule import BASE_STEPS, TURBO_STEPS, edited, evaluations, schedule, start_at
from acestep.request import DescriptionParams, GenerationConfig, GenerationParams


@dataclass(frozen=True, slots=True)
class Situation:
    """A request and what around it decides which of its fields have a use.

    `length_s`: of the recording as it will be painted, or of the codes; None where the request says the
    length. `painted_whole`: nothing of the recording is kept.
    """

    params: GenerationParams
    turbo: bool
    lm: bool
    length_s: float | None = None
    painted_whole: bool = False

    @property
    def guided(self) -> bool:
        """Whether classifier-free guidance runs in steps at any time."""
        scale = self.params.guidance_scale
        return not self.turbo and (scale is None or scale > 1)

    @property
    def schedule(self) -> list[float]:
        """Times of the whole schedule."""
        params = self.params
        steps = params.inference_steps or (TURBO_STEPS if self.turbo else BASE_STEPS)
        return schedule(steps, params.shift, turbo=self.turbo, timesteps=params.timesteps)

    @property
    def times(self) -> list[float]:
        """Times of the steps that run: a cover may start part of the way, and so may an edit."""
        if self.params.flow_edit_morph:
            return self._edited[0]
        return start_at(self.schedule, self.params.cover_noise_strength)

    @property
    def edits(self) -> int:
        """How many of the steps of an edit follow both songs' words."""
        return self._edited[1]

    @property
    def _edited(self) -> tuple[list[float], int]:
        return edited(self.schedule, self.params.flow_edit_n_min, self.params.flow_edit_n_max)

    @property
    def evaluations(self) -> list[float]:
        """Times at which velocities are asked for."""
        return evaluations(self.times, self.params.infer_method, turbo=self.turbo)

    @property
    def never_guided(self) -> bool:
        """Whether no velocity lies in the interval of guidance."""
        low, high = self.params.cfg_interval_start, self.params.cfg_interval_end
        return not any(low <= time <= high for time in self.evaluations)

    @property
    def moved_bands(self) -> set[str]:
        """Which bands DCW moves: none by a scaler of 0, none in a last step that ends at what it believes,
        and the high one in no step from time 1."""
        params, mode = self.params, self.params.dcw_mode
        moved = self.times if 0.0 in self.evaluations else self.times[:-1]
        low = mode != "high" and params.dcw_scaler and moved
        high = params.dcw_high_scaler if mode == "double" else mode == "high" and params.dcw_scaler
        return {*(["low"] if low else []), *(["high"] if high and any(t < 1 for t in moved) else [])}


@dataclass(frozen=True, slots=True)
class TextSituation:
    """A description: what it asks for is all that decides."""

    params: DescriptionParams


@dataclass(frozen=True, slots=True)
class RunSituation:
    """How a run is made; its parameters alone decide."""

    params: GenerationConfig
