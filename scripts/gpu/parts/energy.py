"""Joules of a song, by the counter that NVML has of cards from Volta on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial

from harness.errors import MissingPrerequisite
from harness.memory import hand_back
from harness.nvml import Card
from scripts.gpu.parts.songs import NO_LM, open_engine, setup_of, song
from scripts.gpu.steps import Measured, Step, Task


def steps(task: Task) -> Iterator[Step]:
    for size in (None, *task.sizes.lm_sizes[:2]):
        duration_s = task.sizes.duration_s
        yield Step(f"{size or NO_LM}, {duration_s:g} s", partial(_joules, task, size))
        hand_back()


def _joules(task: Task, size: str | None) -> Measured:
    read = counter(task)
    setup = setup_of(task, size, compile=False)
    row = song(setup, task.sizes.duration_s)
    engine = open_engine(setup)
    engine.run(row.plan)
    return measure(lambda: engine.run(row.plan), read, row.plan.length_s(), task.sizes.energy_s)


def measure(
    run: Callable[[], object],
    read: Callable[[], float],
    audio_s: float,
    least_s: float,
    clock: Callable[[], float] = time.monotonic,
) -> Measured:
    """Songs until they took `least_s`: the counter moves in steps of some tens of milliseconds."""
    start_j, start_s, songs = read(), clock(), 0
    while songs == 0 or clock() - start_s < least_s:
        run()
        songs += 1
    joules, seconds = read() - start_j, clock() - start_s
    values = {
        "songs": songs,
        "joules_per_song": joules / songs,
        "joules_per_audio_s": joules / songs / audio_s,
    }
    return Measured(values | {"mean_w": joules / seconds, "seconds_per_song": seconds / songs})


def counter(task: Task) -> Callable[[], float]:
    """What reads the card's joules. Raises MissingPrerequisite where nothing counts them."""
    task.need_cuda("joules")
    card = Card.of_device(task.device)

    def read() -> float:
        if (energy_j := card.energy_j) is None:
            raise MissingPrerequisite("NVML counts no joules on this card")
        return energy_j

    read()
    return read
