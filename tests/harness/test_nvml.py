"""The driver's account of cards: each figure in its unit, None for each that it does not tell."""

from __future__ import annotations

import os
import sys

import pytest
from fake_nvml import GIB, FakeGPU, FakeNVML

from harness import nvml
from harness.nvml import REASONS, SLOWED, Card

FIGURES = {
    "name": "NVIDIA H200",
    "uuid": "GPU-1",
    "driver": "580.65",
    "capability": (9, 0),
    "mig": False,
    "total_bytes": 150_754_820_096,
    "used_bytes": 3 * GIB,
    "process_bytes": 3 * GIB,
    "energy_j": 12.5,
    "power_w": 350.0,
    "power_limit_w": 699.5,
    "sm_clock_mhz": 1980,
    "memory_clock_mhz": 3201,
    "temperature_c": 41,
    "throttling": (),
}
# What of the card each figure is told by.
SOURCES = {
    "mig": "mig", "total_bytes": "total_bytes", "process_bytes": "processes", "energy_j": "energy_mj",
    "power_w": "power_mw", "power_limit_w": "limit_mw", "sm_clock_mhz": "sm_mhz",
    "memory_clock_mhz": "memory_mhz", "temperature_c": "temperature_c", "throttling": "reasons",
    "capability": "capability", "name": "name", "uuid": "uuid",
}  # fmt: skip


@pytest.fixture
def gpu() -> FakeGPU:
    gpu = FakeGPU(energy_mj=12_500)
    gpu.holds(3 * GIB)
    return gpu


@pytest.fixture
def driver(monkeypatch, gpu) -> FakeNVML:
    return FakeNVML(monkeypatch, FakeGPU(uuid="GPU-0"), gpu)


def figures(card: Card) -> dict:
    return {name: getattr(card, name) for name in FIGURES}


def test_a_card_in_our_units_and_then_the_driver_is_let_go(driver):
    with Card.of_device("cuda:1") as card:
        assert card.found and figures(card) == FIGURES and driver.held == 1
    assert driver.held == 0 and not card.found and set(figures(card).values()) == {None}


@pytest.mark.parametrize("figure", SOURCES)
def test_what_the_driver_does_not_tell_is_none_and_the_rest_is_told(driver, gpu, figure):
    setattr(gpu, SOURCES[figure], None)
    lost = {figure, "used_bytes"} if figure == "total_bytes" else {figure}
    with Card("1") as card:
        assert figures(card) == {name: None if name in lost else value for name, value in FIGURES.items()}


@pytest.mark.parametrize("device", ["cpu", "mps", "virtual", "predicted", "cuda:2", "cuda:1000000"])
def test_of_no_card_nothing_is_told(driver, device):
    with Card.of_device(device) as card:
        assert not card.found and set(figures(card).values()) == {None}
    assert driver.held == 0


def test_without_a_driver_or_its_library_nothing_is_told_and_nothing_fails(driver, monkeypatch):
    driver.driver = None
    with Card.of_device("cuda") as card:
        assert set(figures(card).values()) == {None}
    assert (nvml.count(), nvml.visible({})) == (None, [])
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with Card.of_device("cuda") as card:
        assert set(figures(card).values()) == {None}
    assert (nvml.count(), nvml.visible({}), driver.held) == (None, [], 0)


@pytest.mark.parametrize(
    ("visible", "names", "second"),
    [
        (None, ["0", "1"], "1"),
        ("1, 0", ["1", "0"], "0"),
        ("GPU-1", ["GPU-1"], None),
        ("", [], None),
        ("-1", [], None),
    ],
)
def test_cards_are_those_that_cuda_may_use(driver, visible, names, second):
    environ = {} if visible is None else {nvml.VISIBLE_VARIABLE: visible}
    assert (nvml.visible(environ), nvml.name_of(1, environ)) == (names, second)
    assert driver.held == 0


def test_a_card_is_found_by_its_uuid(driver):
    with Card("GPU-1") as card, Card("GPU-2") as other, Card("²") as nothing:
        assert card.energy_j == 12.5 and not other.found and not nothing.found


def test_the_driver_counts_this_process_alone(driver, gpu):
    gpu.processes = {1: 9 * GIB, os.getpid(): GIB}
    with Card("1") as card:
        assert card.process_bytes == GIB
        gpu.processes = {1: 9 * GIB}  # as in a container
        assert card.process_bytes is None
        gpu.holds(None)  # as on Windows
        assert card.process_bytes is None


@pytest.mark.parametrize("old", [False, True])
def test_each_reason_has_a_name_by_either_name_of_the_question(driver, gpu, old):
    gpu.old_driver = old
    with Card("1") as card:
        for bit, reason in REASONS.items():
            gpu.reasons = bit | 0x001  # and idle
            assert card.throttling == (reason,)
        gpu.reasons = 0x004 | 0x040
        assert card.throttling == ("power cap", "thermal slowdown by the hardware")
    assert {*REASONS.values()} > SLOWED and "power cap" not in SLOWED
