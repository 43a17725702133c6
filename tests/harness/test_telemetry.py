"""Telemetry of a card: joules by the counter, throttling by its share, and no thread without a card."""

from __future__ import annotations

import threading
import time

import pytest
from fake_nvml import FakeGPU, FakeNVML

from harness.records.telemetry import Reading, Telemetry, shares, warnings
from harness.telemetry import KEPT, CardSampler

NEVER_S = 3600.0  # the readings are those that a test asks for, and the one at the end


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def gpu(monkeypatch) -> FakeGPU:
    gpu = FakeGPU(energy_mj=7_000_000)
    FakeNVML(monkeypatch, gpu)
    return gpu


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name == "card-sampler"}


def test_joules_are_a_difference_of_the_counter(gpu):
    clock = Clock()
    with CardSampler("cuda", NEVER_S, clock) as sampler:
        clock.now_s += 4
        gpu.energy_mj += 1_200_000
    of = sampler.telemetry(songs=2, audio_s=120.0)
    assert of == Telemetry(
        seconds=4.0,
        energy_j=1200.0,
        joules_per_song=600.0,
        joules_per_audio_s=10.0,
        power_limit_w=699.5,
        throttling={},
        readings=(Reading(4.0, 350.0, 1980, 3201, 41, ()),),
    )
    assert of.mean_w == 300.0 and warnings([of]) == ()


def test_what_is_not_counted_or_not_made_has_no_joules(gpu):
    with CardSampler("cuda", NEVER_S) as sampler:
        gpu.energy_mj += 5000
    nothing = sampler.telemetry(0, 0.0)
    assert (nothing.energy_j, nothing.joules_per_song, nothing.joules_per_audio_s) == (5.0, None, None)
    gpu.energy_mj = gpu.power_mw = gpu.limit_mw = gpu.reasons = gpu.sm_mhz = None  # as before Volta
    with CardSampler("cuda", NEVER_S) as sampler:
        pass
    of = sampler.telemetry(1, 10.0)
    assert (of.energy_j, of.joules_per_song, of.mean_w, of.power_limit_w, of.throttling) == (None,) * 5
    assert of.readings[0][1:] == (None, None, 3201, 41, None) and warnings([of]) == ()


@pytest.mark.parametrize("device", ["cpu", "mps", "virtual", "cuda:1"])
def test_without_a_card_there_is_neither_thread_nor_telemetry(gpu, device):
    with CardSampler(device) as sampler:
        assert threads() == set()
    assert sampler.telemetry(1, 10.0) is None


def test_without_a_driver_there_is_none_either(monkeypatch):
    FakeNVML(monkeypatch, FakeGPU()).driver = None
    with CardSampler("cuda") as sampler:
        assert threads() == set()
    assert sampler.telemetry(1, 10.0) is None


def test_the_thread_samples_and_ends_with_the_run_however_that_ends(gpu):
    with pytest.raises(KeyboardInterrupt), CardSampler("cuda", 0.001) as sampler:
        assert threads()
        deadline = time.monotonic() + 60
        while len(sampler._readings) < 3 and time.monotonic() < deadline:
            time.sleep(0.001)
        raise KeyboardInterrupt
    assert threads() == set() and len(sampler._readings) >= 4
    assert sampler.telemetry(1, 10.0).seconds > 0


def test_throttling_is_a_share_of_readings_and_a_card_at_its_power_limit_is_at_work(gpu):
    with CardSampler("cuda", NEVER_S) as sampler:
        for reasons in (0x0, 0x4, 0x4 | 0x40):
            gpu.reasons = reasons
            sampler._read()
        gpu.reasons = None  # a reading that does not tell is none of them
    of = sampler.telemetry(1, 10.0)
    hot, cap = "thermal slowdown by the hardware", "power cap"
    assert of.throttling == {cap: pytest.approx(2 / 3), hot: pytest.approx(1 / 3)}
    assert [one.throttling for one in of.readings] == [(), (cap,), (cap, hot), None]
    assert warnings([of, Telemetry(seconds=1.0, throttling={hot: 0.1})]) == (
        f"the card was throttled: {hot} 33% of the time",
    )
    assert warnings([Telemetry(seconds=1.0, throttling={cap: 1.0})]) == ()
    assert shares({cap: 0.5, hot: 1.0}) == f"{cap} 50%, {hot} 100%"


@pytest.mark.parametrize("number", [1, KEPT, KEPT + 1, 10 * KEPT])
def test_a_long_run_keeps_some_of_its_readings_and_counts_all(gpu, number):
    clock = Clock()
    with CardSampler("cuda", NEVER_S, clock) as sampler:
        for second in range(number - 1):
            clock.now_s = 100.0 + second
            gpu.reasons = 0x4 if second % 2 else 0
            sampler._read()
        gpu.reasons, clock.now_s = 0, 100.0 + number
    of = sampler.telemetry(1, 10.0)
    assert KEPT / 2 < len(of.readings) <= KEPT or len(of.readings) == number < KEPT
    assert of.throttling.get("power cap", 0.0) == pytest.approx(((number - 1) // 2) / number)
