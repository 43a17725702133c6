"""Known peaks by name, and measured ones by a clock that is made up."""

from __future__ import annotations

import pytest

from acestep.profiler.devices import best_s, lookup, measure
from harness.cards import cards
from harness.errors import UsageError


@pytest.mark.parametrize(
    ("name", "tflop_per_s", "gb_per_s"),
    [
        ("NVIDIA H200", 989.4, 4800),
        ("H200", 989.4, 4800),
        ("nvidia  geforce rtx 4090 ", 165.2, 1008),
        ("NVIDIA GeForce RTX 4070 Ti", 80.2, 504),
        ("NVIDIA A100-SXM4-80GB", 312.0, 2039),
        ("Tesla T4", 65.0, 320),
    ],
)
def test_known_devices(name, tflop_per_s, gb_per_s):
    peaks = lookup(name, dtype="float16")
    assert peaks
    assert peaks.flop_per_s == pytest.approx(tflop_per_s * 1e12)
    assert peaks.bytes_per_s == pytest.approx(gb_per_s * 1e9)
    assert peaks.origin


@pytest.mark.parametrize(
    "name",
    [
        "",
        "NVIDIA GeForce RTX 407",
        "NVIDIA GeForce RTX 4070 Ti Laptop GPU",
        "RTX 4090",
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "NVIDIA GeForce RTX 4090 D",
        "NVIDIA H200 MIG 1g.18gb",
        "NVIDIA A100",
        "NVIDIA A10G",
        "Apple GPU",
        "AMD EPYC 9654",
    ],
)
def test_what_only_resembles_a_known_device_is_unknown(name):
    assert lookup(name) is None


def test_a_name_that_was_sold_twice_needs_its_memory():
    name = "NVIDIA GeForce RTX 3080"
    assert lookup(name) is None
    assert lookup(name, 20.0) is None
    ten, twelve = lookup(name, 9.65), lookup(name, 11.99)
    assert ten
    assert twelve
    assert ten.flop_per_s < twelve.flop_per_s


def test_memory_is_not_asked_for_where_it_changes_nothing():
    name = "NVIDIA GeForce RTX 4060 Ti"
    assert lookup(name) == lookup(name, 7.66) == lookup(name, 15.7)


def test_a_peak_is_that_of_the_runs_format():
    rates = {dtype: lookup("Tesla T4", dtype=dtype) for dtype in ("bfloat16", "float16", "float32")}
    assert {dtype: peaks and peaks.flop_per_s for dtype, peaks in rates.items()} == {
        "bfloat16": pytest.approx(8.1e12),
        "float16": pytest.approx(65e12),
        "float32": pytest.approx(8.1e12),
    }


def test_every_card_of_the_table_is_known_by_its_name_and_memory():
    for card in cards():
        peaks = lookup(f"NVIDIA {card.name}", card.memory_gib, "float16")
        assert peaks
        assert (peaks.flop_per_s, peaks.bytes_per_s) == (card.flop_per_s, card.bytes_per_s)


def test_the_fastest_call_counts_but_never_the_first():
    now, calls = [0.0], []

    def work():
        now[0] += [0.01, 5.0, 3.0, 4.0][len(calls)]
        calls.append("work")

    assert best_s(work, lambda: None, lambda: now[0], repeats=3) == 3.0
    assert len(calls) == 4


def test_the_device_is_idle_around_every_call():
    order: list[str] = []
    best_s(lambda: order.append("work"), lambda: order.append("wait"), lambda: 0.0, repeats=1)
    assert order == ["wait", "work", "wait"] * 2


def test_measuring_says_so():
    peaks = measure("cpu", "float32", edge=32, copied_bytes=1 << 12)
    assert peaks.flop_per_s > 0
    assert peaks.bytes_per_s > 0
    assert peaks.origin == "measured here, float32"


def test_an_unknown_device_is_refused():
    with pytest.raises(UsageError, match="device"):
        measure("abacus")
