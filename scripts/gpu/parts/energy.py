"""Joules of a song, by the counter that NVML has of cards from Volta on."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from functools import partial

from harness.accelerators import ask_card
from harness.errors import MissingPrerequisite
from harness.memory import hand_back
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
    import pynvml

    index = int(task.device.partition(":")[2] or 0)

    def read() -> float:
        milli = ask_card(
            index, os.environ.get("CUDA_VISIBLE_DEVICES"), pynvml.nvmlDeviceGetTotalEnergyConsumption
        )
        if milli is None:
            raise MissingPrerequisite("NVML counts no joules on this card")
        return milli / 1000

    read()
    return read
