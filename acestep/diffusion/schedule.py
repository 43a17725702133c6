"""The schedule: times of the diffusion steps from 1 (noise) down towards 0 (music), without the final 0.

    t = s·u / (s·u + 1 - u),   u = 1 - i/N,   i = 0 .. N-1

A shift s above 1 spends more of the N steps near the noise, where a song takes shape. Turbo models were
distilled on three of these schedules, eight steps each, and know only their twenty times. No torch here: a
schedule is part of a plan, and plans are made before anything is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence

TURBO_STEPS = 8
BASE_STEPS = 50
TURBO_SHIFTS = (1.0, 2.0, 3.0)
MOST_TURBO_TIMES = 20
TIE_DIGITS = 9  # distances that differ by less are equal


def schedule(steps: int, shift: float, *, turbo: bool, timesteps: Sequence[float] = ()) -> list[float]:
    """Strictly falling times in (0, 1]: `steps` of them, or `timesteps` where given (falling, too).

    Turbo: at 8 steps the shift snaps to the nearest of 1, 2 and 3. Any other count is an extension of ours
    (upstream clamps to 8) and takes the formula as it is. Of `timesteps` the first 20 are used, each
    snapped to the nearest known time; those that snap to the same one become one step, not a step of no
    length.

    Base: any count, shift and times. The formula is evaluated in double precision and rounded where it is
    used. Upstream evaluates it in the model dtype, where already the grid u rounds and some of 50 bf16 steps
    have no length; that defect is not reproduced. What bf16 can tell apart is still a limit of the model: at
    shift 3, times begin to coincide at 97 steps.
    """
    if timesteps:
        times = [t for t in timesteps if t > 0]
        return _snapped(times) if turbo else times
    if turbo and steps == TURBO_STEPS:
        shift = nearest(shift, TURBO_SHIFTS)
    return _shifted(steps, shift)


def start_at(times: Sequence[float], noise_strength: float) -> list[float]:
    """The rest of a schedule that starts at its time nearest to `1 - noise_strength`; 0 starts at the top.

    A cover that begins part of the way keeps that much of its source (`diffusion.blend_start`).
    """
    first = nearest(1 - noise_strength, times)
    return [t for t in times if t <= first]


def evaluations(times: Sequence[float], method: str, *, turbo: bool) -> list[float]:
    """Times of the DiT's forward passes over a schedule, falling: `heun` has a second one where a step ends.

    The last step ends at 0. As in upstream, a base model is asked there, too, and a distilled one is not: it
    lands on the data.
    """
    if method != "heun":
        return [*times]
    ends = times[1:] if turbo else [*times[1:], 0.0]
    return sorted((*times, *ends), reverse=True)


def edited(times: Sequence[float], n_min: float, n_max: float) -> tuple[list[float], int]:
    """Times of the steps that flow-edit runs of a schedule, and how many of them, the first, edit.

    It skips a share `n_min` of the steps, and edits until a share `n_max` of them lies behind it, rounded
    down to whole steps.
    """
    first, end = int(len(times) * n_min), int(len(times) * n_max)
    return [*times[first:]], end - first


def _shifted(steps: int, shift: float) -> list[float]:
    """The formula times N above and below, so that of a whole shift each time is a quotient of whole numbers:
    as near to it as a float is, and equal to the same number where an interval of guidance names it."""
    return [shift * k / (shift * k + (steps - k)) for k in range(steps, 0, -1)]  # k = N - i


def _snapped(times: Sequence[float]) -> list[float]:
    """Times a turbo model knows, nearest to the first 20 given."""
    known = [t for shift in TURBO_SHIFTS for t in _shifted(TURBO_STEPS, shift)]
    return list(dict.fromkeys(nearest(t, known) for t in times[:MOST_TURBO_TIMES]))


def nearest(value: float, known: Sequence[float]) -> float:
    """The one of `known` that is closest to `value`; of two, the first, however their distances round."""
    return min(known, key=lambda other: round(abs(other - value), TIE_DIGITS))
