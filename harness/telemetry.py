"""Telemetry of a card while something runs: its energy, and over time power, clocks and throttling.

    with CardSampler("cuda:0") as sampler:
        audios = ...
    sampler.telemetry(songs=2, audio_s=120.0)

A thread of its own asks the driver some times a second, and ends with the run. Without a card of NVIDIA's
there is neither thread nor telemetry. Keep it around what is timed, not inside.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Self

from harness.nvml import Card
from harness.records.telemetry import Reading, Telemetry

EVERY_S = 0.25
KEPT = 60  # readings of a run, at even distances


class CardSampler:
    """Samples the card that torch names `device` while entered. `clock` is for tests."""

    def __init__(self, device: str, every_s: float = EVERY_S, clock: Callable[[], float] = time.monotonic):
        self._device = device
        self._every_s = every_s
        self._clock = clock
        self._readings: list[Reading] = []
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._limit_w: float | None = None
        self._start_j: float | None = None
        self._energy_j: float | None = None
        self._start_s = self._seconds = 0.0

    def __enter__(self) -> Self:
        self._card = Card.of_device(self._device)
        if self._card.found:
            self._limit_w = self._card.power_limit_w
            self._thread = threading.Thread(target=self._sample, name="card-sampler", daemon=True)
            self._start_j, self._start_s = self._card.energy_j, self._clock()
            self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._thread:
            end_j, self._seconds = self._card.energy_j, self._clock() - self._start_s
            if end_j is not None and self._start_j is not None:
                self._energy_j = end_j - self._start_j
            self._stopped.set()
            self._thread.join()
            self._read()  # still warm: the only one of a short run
        self._card.close()

    def telemetry(self, songs: int, audio_s: float) -> Telemetry | None:
        """What was sampled, once left; None without a card. `songs` were made, of `audio_s` together."""
        if self._thread is None:
            return None
        return Telemetry(
            seconds=self._seconds,
            energy_j=self._energy_j,
            joules_per_song=_ratio(self._energy_j, songs),
            joules_per_audio_s=_ratio(self._energy_j, audio_s),
            power_limit_w=self._limit_w,
            throttling=_throttling(self._readings),
            readings=tuple(self._readings[:: -(-len(self._readings) // KEPT)]),
        )

    def _sample(self) -> None:
        while not self._stopped.wait(self._every_s):
            self._read()

    def _read(self) -> None:
        card = self._card
        self._readings.append(
            Reading(
                self._clock() - self._start_s,
                card.power_w,
                card.sm_clock_mhz,
                card.memory_clock_mhz,
                card.temperature_c,
                card.throttling,
            )
        )


def _ratio(energy_j: float | None, of: float) -> float | None:
    return energy_j / of if energy_j is not None and of else None


def _throttling(readings: list[Reading]) -> dict[str, float] | None:
    """Of the readings that tell, the share with each reason."""
    telling = [reading.throttling for reading in readings if reading.throttling is not None]
    counts = Counter(reason for reasons in telling for reason in reasons)
    return {reason: number / len(telling) for reason, number in sorted(counts.items())} if telling else None
