"""Card sizes to classes to tiers, and the limits each tier has."""

import dataclasses
import itertools
import math

import pytest
from fake_nvml import FakeGPU, FakeNVML
from hypothesis import given
from hypothesis import strategies as st

from acestep import gpu_config
from acestep.gpu_config import config_for, describe, tier_for
from acestep.request import GenerationConfig, GenerationParams
from acestep.resolver import resolve
from acestep.setup import Setup
from harness import accelerators
from harness.accelerators import Accelerator, detect, snap
from harness.errors import MissingPrerequisite, UsageError
from harness.memory import GIB


def tier_of(reported_gib: float) -> str:
    return config_for(Accelerator("cuda", "card", reported_gib)).tier


# What real cards report, and budgets one may ask for: 29 of them by name, ten more nominal sizes.
REPORTED = {
    "tier1": [3.81, 3.94, 4.0],
    "tier2": [5.66, 5.80, 6.0],
    "tier3": [7.0],
    "tier4": [7.44, 7.66, 7.8, 8.0, 9.65, 10.57, 10.91],
    "tier5": [11.2, 11.63, 11.9, 12.0, 14.0],
    "tier6a": [14.56, 14.75, 15.7, 15.93, 16.0],
    "tier6b": [19.55, 19.98, 20.0, 21.66],
    "unlimited": [21.99, 22.03, 23.6, 23.99, 24.0, 31.3, 32.0, 44.39, 48.0, 80.0, 139.8],
}


def test_there_are_39_sizes():
    assert sum(map(len, REPORTED.values())) == 39


@pytest.mark.parametrize(("tier", "reported_gib"), [(t, r) for t, sizes in REPORTED.items() for r in sizes])
def test_a_reported_size_gets_its_tier(tier, reported_gib):
    assert tier_of(reported_gib) == tier


@pytest.mark.parametrize(
    ("class_gb", "below", "at", "above"),
    [
        (0, "tier1", "tier1", "tier1"),
        (4, "tier1", "tier1", "tier2"),
        (6, "tier2", "tier2", "tier3"),
        (8, "tier3", "tier4", "tier4"),
        (12, "tier4", "tier5", "tier5"),
        (16, "tier5", "tier6a", "tier6a"),
        (20, "tier6a", "tier6b", "tier6b"),
        (24, "tier6b", "unlimited", "unlimited"),
    ],
)
def test_tier_boundaries(class_gb, below, at, above):
    assert [tier_for(class_gb + d).tier for d in (-0.01, 0, 0.01)] == [below, at, above]


@pytest.mark.parametrize(("smaller", "nominal"), list(itertools.pairwise((1, *accelerators.NOMINAL_GB))))
def test_snap_boundaries(smaller, nominal):
    """A size snaps up from 90.8 % of it, unless the next smaller nominal size already takes it."""
    lowest, highest = max(0.908 * nominal, 1.005 * smaller), 1.005 * nominal
    assert [snap(x) for x in (lowest + 0.01, nominal, highest - 0.01)] == [nominal] * 3
    assert snap(lowest - 0.01) != nominal
    assert snap(highest + 0.01) != nominal


@given(st.floats(0.1, 300))
def test_snap_is_stable_and_close(reported_gib):
    once = snap(reported_gib)
    assert snap(once) == once
    assert reported_gib / 1.005 <= once <= reported_gib / 0.908


@given(st.floats(0.1, 300), st.floats(0.1, 300))
def test_a_larger_card_never_gets_a_lower_tier(a, b):
    names = [config.tier for config in gpu_config.TIERS]
    small, large = sorted((a, b))
    assert names.index(tier_of(small)) <= names.index(tier_of(large))


def test_not_a_number_is_refused():
    with pytest.raises(UsageError):
        tier_for(math.nan)


# The published table: seconds and batch as (with LM, without LM), sizes with the default, load by
# default, (offload, DiT offload), quantization. A change here is a change of policy.
INT8 = "int8_weight_only"
SMALL, MEDIUM, LARGE = ("0.6B",), ("0.6B", "1.7B"), ("0.6B", "1.7B", "4B")
PUBLISHED = {
    "tier1": ((180, 180), (1, 1), (), None, False, (True, True), INT8),
    "tier2": ((360, 360), (1, 1), (), None, False, (True, True), INT8),
    "tier3": ((240, 360), (1, 2), SMALL, "0.6B", False, (True, True), INT8),
    "tier4": ((240, 360), (2, 4), SMALL, "0.6B", False, (True, True), INT8),
    "tier5": ((240, 360), (2, 4), MEDIUM, "1.7B", True, (True, False), INT8),
    "tier6a": ((480, 480), (4, 8), LARGE, "1.7B", True, (True, False), INT8),
    "tier6b": ((480, 480), (4, 8), LARGE, "1.7B", True, (False, False), None),
    "unlimited": ((600, 600), (8, 8), LARGE, "4B", True, (False, False), None),
}


# Upstream's own of 2026, which keep their 4B for cards from 20 GB.
PUBLISHED_2026 = {
    "tier1": ((240, 360), (1, 1), (), None, False, (True, True), INT8),
    "tier2": ((480, 600), (1, 1), (), None, False, (True, True), INT8),
    "tier3": ((480, 600), (2, 2), SMALL, "0.6B", True, (True, True), INT8),
    "tier4": ((480, 600), (2, 4), SMALL, "0.6B", True, (True, True), INT8),
    "tier5": ((480, 600), (4, 4), MEDIUM, "1.7B", True, (True, False), INT8),
    "tier6a": ((480, 600), (4, 8), MEDIUM, "1.7B", True, (True, False), INT8),
    "tier6b": ((480, 480), (8, 8), LARGE, "1.7B", True, (False, False), None),
    "unlimited": ((600, 600), (8, 8), LARGE, "4B", True, (False, False), None),
}
# Of either: (offload, quantization) of an XL DiT, None where there is none.
PUBLISHED_XL = {
    **dict.fromkeys(("tier1", "tier2", "tier3", "tier4")),
    "tier5": (True, INT8),
    "tier6a": (True, None),
    "tier6b": (False, None),
    "unlimited": (False, None),
}


@pytest.mark.parametrize(
    ("policy", "published", "needs_offload"),
    [("guide", PUBLISHED, {"tier6a"}), ("upstream-2026", PUBLISHED_2026, {"tier6b"})],
)
def test_the_published_tables(policy, published, needs_offload):
    tiers = gpu_config.POLICIES[policy].tiers
    shipped = {
        c.tier: (
            (c.max_duration_with_lm_s, c.max_duration_s),
            (c.max_batch_with_lm, c.max_batch),
            c.lm_sizes,
            c.default_lm,
            c.load_lm,
            (c.offload_to_cpu, c.offload_dit_to_cpu),
            c.quantization,
        )
        for c in tiers
    }
    assert shipped == published
    assert {c.tier: c.xl for c in tiers} == PUBLISHED_XL
    assert gpu_config.LM_MEMORY_GB == {"0.6B": 3, "1.7B": 8, "4B": 12}
    assert all(c.compile and c.lm_backend == "vllm" for c in tiers)
    assert {c.tier for c in tiers if c.lm_needs_offload} == needs_offload


@pytest.mark.parametrize(
    ("class_gb", "tier"),
    [(4, "tier1"), (6, "tier2"), (8, "tier3"), (12, "tier4"), (15.4, "tier5"), (16, "tier6a"),
     (19.9, "tier6a"), (20, "tier6b"), (24, "tier6b"), (48, "unlimited")],
)  # fmt: skip
def test_tiers_of_upstream_begin_above_where_the_guides_do(class_gb, tier):
    assert tier_for(class_gb, "upstream-2026").tier == tier
    assert max(gpu_config.policy("upstream-2026").tested_gb) == 48


def test_a_policy_that_is_none_is_refused():
    with pytest.raises(UsageError, match="policy: 'theirs' is not allowed; use one of guide, upstream-2026"):
        tier_for(8, "theirs")


def card(size_gb: float) -> Accelerator:
    return Accelerator("cuda", "card", size_gb, capability=(8, 9))


def xl(size_gb: float, **choices) -> Setup:
    return Setup.choose(
        "synthetic-full", accelerator=card(size_gb), compile=False, dit="acestep-v15-xl-base", **choices
    )


def test_what_a_tier_does_with_xl():
    """None on the small ones, told, refused when strict, done without limits; then the table's."""
    setup = xl(8)
    assert setup.dit == "acestep-v15-base" and [change.field for change in setup.adjustments] == ["dit"]
    with pytest.raises(
        UsageError, match=r"dit: acestep-v15-xl-base is over the limit of 8 GB \(RTX 4060\).*\(strict\)"
    ):
        xl(8, strict=True)
    free = xl(8, no_limits=True)
    assert (free.dit, free.adjustments, free.quantization) == ("acestep-v15-xl-base", (), INT8)
    assert xl(8, strict=True, no_limits=True) == dataclasses.replace(free, strict=True)
    for size_gb, offload, quantization in ((12, True, INT8), (16, True, None), (20, False, None)):
        setup = xl(size_gb, strict=True)
        found = setup.dit, setup.offload_to_cpu, setup.quantization
        assert found == ("acestep-v15-xl-base", offload, quantization)
    assert xl(16, quantization=INT8).quantization == INT8  # a choice is over any table


def test_without_the_2b_of_its_kind_xl_is_refused_where_the_tier_has_none(tmp_path, monkeypatch):
    monkeypatch.setattr("acestep.choices.smaller_dit", lambda *_: None)
    with pytest.raises(MissingPrerequisite, match="has no 2B of its kind; add it, or give --no-limits"):
        xl(8)


def test_a_policy_is_in_the_plan_and_nothing_without_a_card():
    setup = Setup.choose("synthetic-full", accelerator=card(8), compile=False, policy="upstream-2026")
    assert (setup.lm, setup.max_duration_s) == ("acestep-5Hz-lm-0.6B", 480)  # loaded from tier 3 on
    plan = resolve(GenerationParams(duration=500.0), GenerationConfig(), setup)
    assert plan.as_dict()["policy"] == "upstream-2026" and plan.params.duration == 480
    assert plan.as_dict()["card"].endswith("8 GB (RTX 4060), tier3 of upstream-2026")
    cpu = Setup.choose("synthetic-tiny", accelerator=Accelerator("cpu", "CPU", 16.0), policy="upstream-2026")
    assert cpu.limits is None and any(note.startswith("policy: ") for note in cpu.notes)


def test_default_lm_is_a_checkpoint_name():
    assert tier_for(8).default_lm_name == "acestep-5Hz-lm-0.6B"
    assert tier_for(4).default_lm_name is None


@pytest.mark.parametrize(("device", "backend"), [("mps", "mlx"), ("cpu", "pt")])
def test_without_cuda_limits_stay_and_tricks_go(device, backend):
    config = config_for(Accelerator(device, "x", 16.0, simulated=True))
    assert (config.tier, config.max_batch, config.lm_backend) == ("tier6a", 8, backend)
    assert not (config.compile or config.quantization or config.offload_to_cpu or config.offload_dit_to_cpu)


def test_a_cpu_has_the_lowest_limits_whatever_its_memory():
    config = config_for(Accelerator("cpu", "CPU", 512.0))
    assert (config.tier, config.max_duration_s, config.class_gb) == ("tier1", 180, 0)


def test_describe_shows_the_whole_path():
    card = Accelerator("cuda", "RTX 4060", 7.66)
    assert describe(card) == "RTX 4060: 7.66 GiB → 8 GB (RTX 4060), tier4"
    assert describe(Accelerator("cpu", "CPU", 16.0)) == "CPU: 16.00 GiB → tier1"
    assert "(MAX_CUDA_VRAM)" in describe(Accelerator("cpu", "CPU", 16.0, simulated=True))


@pytest.mark.parametrize(
    ("size", "tier"), [("4", "tier1"), ("7.66", "tier4"), ("12", "tier5"), ("24", "unlimited")]
)
def test_max_cuda_vram_goes_through_the_same_rule(size, tier):
    found = detect("cpu", environ={"MAX_CUDA_VRAM": size})
    assert found.simulated
    assert config_for(found).tier == tier


@pytest.mark.parametrize("size", ["", " "])
def test_an_empty_max_cuda_vram_is_none(size):
    assert not detect("cpu", environ={"MAX_CUDA_VRAM": size}).simulated


@pytest.mark.parametrize("size", ["8GB", "0", "-1", "nan", "inf", "8_0", "16384", "٨", "0x8", "1e9", "8 0"])
def test_a_bad_max_cuda_vram_is_a_usage_error(size):
    with pytest.raises(UsageError, match="MAX_CUDA_VRAM") as caught:
        detect("cpu", environ={"MAX_CUDA_VRAM": size})
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


def test_devices_are_known_or_refused():
    assert detect("cpu", environ={}).device == "cpu"
    for device in ("gpu", "cuda:", "cuda:x", "cuda:٠", "cuda:99999999999", "cpu:0", ""):
        with pytest.raises(UsageError, match="device"):
            detect(device, environ={})
    with pytest.raises(MissingPrerequisite):
        detect("cuda:0", environ={"CUDA_VISIBLE_DEVICES": ""})


@pytest.fixture
def one_card(monkeypatch):
    """NVML with a single 8 GB card, known by index 0 and by a UUID."""
    FakeNVML(monkeypatch, FakeGPU(name="RTX 4060", uuid="GPU-1234", total_bytes=int(7.66 * GIB)))


@pytest.mark.parametrize("visible", [None, "0", "GPU-1234", "3,0", "3, GPU-1234"])
def test_a_card_is_found_through_nvml(one_card, visible):
    environ = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    found = detect("cuda:1" if visible and "," in visible else "auto", environ)
    assert (found.device, found.name, config_for(found).tier) == ("cuda", "RTX 4060", "tier4")


@pytest.mark.parametrize(
    ("device", "visible"),
    [("cuda:1", None), *(("cuda", hidden) for hidden in ("", "-1", "²", "٠", "0_0")), ("cuda:1", "0")],
)
def test_a_hidden_or_absent_card_is_missing(one_card, device, visible):
    with pytest.raises(MissingPrerequisite, match=device):
        detect(device, {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible})
