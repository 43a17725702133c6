"""What a card did while something ran, as its driver tells: energy, power, clocks, and what held it back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, NamedTuple

from msgspec import Meta

from harness.nvml import SLOWED

Seconds = Annotated[float, Meta(ge=0, le=1e9)]
Joules = Annotated[float, Meta(ge=0, le=1e12)]
Watts = Annotated[float, Meta(ge=0, le=1e6)]
Megahertz = Annotated[int, Meta(ge=0, le=10**6)]
Celsius = Annotated[int, Meta(ge=-300, le=10**4)]
Share = Annotated[float, Meta(ge=0, le=1)]
Reason = Annotated[str, Meta(max_length=100)]


class Reading(NamedTuple):
    """The card at one moment: seconds since the start, then what the driver tells. None: it does not."""

    t_s: Seconds
    power_w: Watts | None
    sm_clock_mhz: Megahertz | None
    memory_clock_mhz: Megahertz | None
    temperature_c: Celsius | None
    throttling: tuple[Reason, ...] | None  # why clocks are below those asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Telemetry:
    """A card over a run. None is what its driver does not tell, never zero.

    `energy_j`: of the whole card by its own counter, idle power included; it moves in steps of some tens of
    milliseconds. Joules per song, and per second of audio of all songs together. `power_limit_w`: the one in
    force. `throttling`: of all readings the share with a reason, by reason; `readings`: some of them.
    """

    seconds: Seconds
    energy_j: Joules | None = None
    joules_per_song: Joules | None = None
    joules_per_audio_s: Joules | None = None
    power_limit_w: Watts | None = None
    throttling: Mapping[Reason, Share] | None = None
    readings: tuple[Reading, ...] = ()

    @property
    def mean_w(self) -> float | None:
        """Energy over time."""
        return self.energy_j / self.seconds if self.energy_j is not None and self.seconds else None


def warnings(runs: Iterable[Telemetry]) -> tuple[str, ...]:
    """That the card was slower than it can be, by the worst of `runs`; one at its power limit is at work."""
    slowed: dict[str, float] = {}
    for run in runs:
        for reason, share in (run.throttling or {}).items():
            if reason in SLOWED:
                slowed[reason] = max(share, slowed.get(reason, 0.0))
    return (f"the card was throttled: {shares(slowed)} of the time",) if slowed else ()


def shares(throttling: Mapping[str, float]) -> str:
    """Reasons with their shares of the time, in words."""
    return ", ".join(f"{reason} {share:.0%}" for reason, share in throttling.items())
