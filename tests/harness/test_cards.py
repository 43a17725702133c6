"""The table of cards: what it says, how a card is found, and how a bad description is refused."""

from __future__ import annotations

import json
import os
import tomllib
from collections import Counter

import pytest

from acestep.gpu_config import POLICIES, tier_for
from harness.accelerators import NOMINAL_GB, snap
from harness.cards import OR_A_FILE, TABLE, cards, example, find, known, read
from harness.errors import MissingPrerequisite, UsageError
from harness.memory import CONTEXT_BYTES, GIB

MINE = {"name": "Mine", "capability": "8.9", "memory_gib": 12, "tflop_per_s": 60, "gb_per_s": 500}


def test_no_two_cards_are_found_by_the_same_name():
    names = Counter(
        name.lower() for card in cards() for name in (f"{card.name} {snap(card.memory_gib)}", *card.aliases)
    )
    assert max(names.values()) == 1
    for card in cards():
        assert find(f"{card.name} ({snap(card.memory_gib):g} GB)") is card
        assert all(find(alias) is card for alias in card.aliases)


def test_figures_are_those_of_graphics_cards():
    for card in cards():
        # Dense 16 bit against memory: no card from Volta to Blackwell is outside 50 to 500 FLOP per byte,
        # nor one without tensor cores outside 10 to 50. In fp32 it has a sixteenth of that or more.
        low, high = (10, 50) if " GTX " in card.name else (50, 500)
        assert low < card.flop_per_s / card.bytes_per_s < high, card
        share = card.fp32_tflop_per_s / card.tflop_per_s
        assert share == 1 if " GTX " in card.name else 1 / 16 <= share <= 0.51, card
        assert snap(card.memory_gib) in NOMINAL_GB, card
        assert (6, 1) <= card.capability <= (12, 0), card
        assert card.source.startswith("NVIDIA"), card


def test_every_tier_that_cards_are_sold_in_has_one():
    # None has between 6 and 8 GB, which would be tier3.
    tiers = {tier_for(snap(card.memory_gib)).tier for card in cards()}
    assert tiers == {"tier1", "tier2", "tier4", "tier5", "tier6a", "tier6b", "unlimited"}


def test_the_example_of_a_size_was_sold_with_it():
    sizes = {size for policy in POLICIES.values() for size in policy.tested_gb}
    assert all(known(example(size), size) for size in sizes)
    assert example(7) == ""


def test_units():
    card = find("rtx4090")
    assert card.memory_bytes == 24 * GIB
    assert card.context_bytes == CONTEXT_BYTES
    assert (card.flop_per_s, card.bytes_per_s) == (165.2e12, 1008e9)
    assert card.launch_s == pytest.approx(4.5e-6)
    assert card.link_bytes_per_s == 25e9
    assert card.capability == (8, 9)


@pytest.mark.parametrize(
    ("name", "bf16", "fp16", "fp32"),
    [
        ("h100-sxm", 989.4, 989.4, 66.9),
        ("rtx3090", 71.0, 71.0, 35.6),
        ("t4", 8.1, 65.0, 8.1),
        ("v100-16gb", 15.7, 125.0, 15.7),
        ("rtx2080ti", 13.4, 53.8, 13.4),
        ("gtx1080ti", 11.3, 11.3, 11.3),
    ],
)
def test_a_rate_is_that_of_what_multiplies_the_format(name, bf16, fp16, fp32):
    rates = [find(name).rate(dtype) for dtype in ("bfloat16", "float16", "float32")]
    assert rates == [bf16, fp16, fp32]


def test_a_line_overrides_its_family_and_a_family_what_is_common():
    assert find("h200").link_gb_per_s == 50
    assert find("rtx a4500").link_gb_per_s == 25
    assert find("rtx a400").link_gb_per_s == 12


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("rtx4090", "GeForce RTX 4090"),
        ("NVIDIA GeForce RTX 4090", "GeForce RTX 4090"),
        (" rtx-4070_ti super", "GeForce RTX 4070 Ti SUPER"),
        ("t4", "Tesla T4"),
        ("a100-80gb", "A100-SXM4-80GB"),
        ("NVIDIA H100 80GB HBM3", "H100 80GB HBM3"),
    ],
)
def test_a_name_is_forgiven_its_spelling(asked, name):
    assert find(asked).name == name


def test_a_name_that_was_sold_twice_wants_its_size():
    assert find("rtx3080-10gb").memory_gib == 10
    assert find("RTX 3080 12GB").memory_gib == 12
    with pytest.raises(UsageError, match=r"several sizes.*3080 \(10 GB\).*3080 \(12 GB\)"):
        find("rtx3080")


@pytest.mark.parametrize(
    ("asked", "near"), [("rtx409", "RTX 4090"), ("h100", "H100 PCIe"), ("", "--device-json")]
)
def test_what_is_not_known_is_refused_with_what_is_near(asked, near):
    with pytest.raises(UsageError, match=f"card: {asked!r} is not known; use e.g. .*{near}"):
        find(asked, OR_A_FILE)
    with pytest.raises(UsageError) as refused:
        find(asked)  # by a command without the flag
    assert "--" not in str(refused.value)


def written(tmp_path, data):
    path = tmp_path / "card.json"
    text = data if isinstance(data, (bytes, str)) else json.dumps(data)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_card_of_ones_own(tmp_path):
    path = written(tmp_path, MINE)
    card = read(path)
    assert (card.memory_gib, card.capability, card.source) == (12.0, (8, 9), str(path))
    assert card.launch_us == find("rtx4090").launch_us
    assert (
        card.rate("float32"),
        read(written(tmp_path, MINE | {"fp32_tflop_per_s": 30})).fp32_tflop_per_s,
    ) == (
        60 / 16,
        30.0,
    )
    full = MINE | {"launch_us": 3, "link_gb_per_s": 10, "context_mib": 300, "source": "me", "aliases": ["m"]}
    card = read(written(tmp_path, full))
    assert (card.launch_us, card.link_gb_per_s, card.context_mib) == (3.0, 10.0, 300.0)
    assert (card.source, card.aliases) == ("me", ("m",))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("{", "not JSON"),
        ("", "not JSON"),
        ("\xe9".encode("latin-1"), "not JSON"),
        ('{"name": "Mine", "name": "Yours"}', "'name' is given twice; keep one of them"),
        (" " * 2**20 + json.dumps(MINE), "over 65,536 bytes are too many"),
        ("[]", "holds a list; use an object"),
        ({"name": "Mine"}, "no capability, no memory_gib, no tflop_per_s, no gb_per_s; a card needs them"),
        (MINE | {"family": []}, "'family' is no key of a card; use name, capability"),
        (MINE | {"memory_gib": 0}, "memory_gib: 0 is not allowed; use a number from 1 to 1024"),
        (MINE | {"tflop_per_s": "60"}, "tflop_per_s: '60' is not allowed; use a number"),
        (json.dumps(MINE | {"gb_per_s": float("nan")}), "gb_per_s: nan is not allowed"),
        (MINE | {"launch_us": True}, "launch_us: True is not allowed"),
        (MINE | {"capability": 8.9}, 'capability: 8.9 is not allowed; use e.g. "8.9"'),
        (MINE | {"capability": "sm_89"}, "capability: 'sm_89' is not allowed"),
        (MINE | {"name": 3}, "name: 3 is not text"),
        (MINE | {"aliases": {"a": 1}}, "aliases: {'a': 1} is not a list"),
    ],
)
def test_a_bad_description_is_refused_by_file_and_key(tmp_path, data, said):
    path = written(tmp_path, data)
    with pytest.raises(UsageError) as refused:
        read(path)
    assert str(refused.value).startswith(f"{str(path)!r}: {said}")
    assert "\n" not in str(refused.value)


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    for path in (tmp_path, tmp_path / "pipe.json"):
        with pytest.raises(UsageError, match="is no file; name a card's JSON file"):
            read(path)


def test_a_file_that_is_not_there_is_a_missing_prerequisite(tmp_path):
    for name in ("nowhere.json", "x" * 300):
        with pytest.raises(MissingPrerequisite, match=r"unreadable \("):
            read(tmp_path / name)


def test_a_file_may_be_a_long_way_down(tmp_path):
    folder = tmp_path / ("x" * 200)
    folder.mkdir()
    assert read(written(folder, MINE)).source.endswith("card.json")


def test_what_the_package_reads_is_packaged():
    project = tomllib.loads((TABLE.parents[1] / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["harness"]
    packaged = {path for pattern in patterns for path in TABLE.parent.glob(pattern)}
    there = {path for path in TABLE.parent.rglob("*.*") if path.suffix not in (".py", ".pyc")}
    assert TABLE in packaged
    assert there == packaged
