"""What a memory budget answers, with and without a cap."""

import mmap
from dataclasses import replace
from types import SimpleNamespace

import pytest

from acestep.audio.tile_size import VAE_CHUNK, VAE_ON_CPU, VAEOverrides, tile_frames, vae_overrides
from harness import memory
from harness.accelerators import Accelerator
from harness.errors import UsageError
from harness.memory import GIB, MemoryBudget, budget_of, hand_back, hold_to

MIB = 2**20


@pytest.mark.parametrize(
    ("free_gib", "frames"),
    [(0, 64), (0.499, 64), (0.5, 128), (0.999, 128), (1, 256), (2.499, 256), (2.5, 512), (80, 512)],
)
def test_tile_ladder(free_gib, frames):
    assert tile_frames(int(free_gib * GIB)) == frames
    assert tile_frames(int(2 * free_gib * GIB), element_bytes=4) == frames


@pytest.mark.parametrize(
    ("environ", "overrides"),
    [
        ({}, VAEOverrides(None, False)),
        ({VAE_CHUNK: "", VAE_ON_CPU: ""}, VAEOverrides(None, False)),
        ({VAE_CHUNK: "19", VAE_ON_CPU: "0"}, VAEOverrides(19, False)),
        ({VAE_CHUNK: "1024", VAE_ON_CPU: "1"}, VAEOverrides(1024, True)),
    ],
)
def test_what_the_environment_says_of_decoding(environ, overrides):
    assert vae_overrides(environ) == overrides


@pytest.mark.parametrize("value", ["18", "4097", "-64", "6.4", "many", "64 ", "9" * 5000, "²"])
def test_a_chunk_size_out_of_range_is_refused(value):
    with pytest.raises(UsageError, match=f"^{VAE_CHUNK}: .*a whole number from 19 to 4096$"):
        vae_overrides({VAE_CHUNK: value})


@pytest.mark.parametrize("value", ["2", "yes", " 1"])
def test_on_cpu_is_0_or_1(value):
    with pytest.raises(UsageError, match=f"^{VAE_ON_CPU}: .*use one of 0, 1$"):
        vae_overrides({VAE_ON_CPU: value})


def test_cached_memory_is_handed_back(monkeypatch):
    torch = pytest.importorskip("torch")
    calls = []
    monkeypatch.setattr(torch, "cuda", SimpleNamespace(empty_cache=lambda: calls.append("cuda")))
    monkeypatch.setattr(torch, "mps", SimpleNamespace(empty_cache=lambda: calls.append("mps")))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    hand_back()
    assert calls == ["cuda", "mps"]


class FakeDevice:
    peak_source = "fake"

    def __init__(self, device="fake"):
        self.used = self.peak = 3 * GIB

    total_bytes = lambda self: 80 * GIB  # noqa: E731
    available_bytes = lambda self: 70 * GIB  # noqa: E731
    used_bytes = lambda self: self.used  # noqa: E731
    peak_bytes = lambda self: self.peak  # noqa: E731
    peak_allocated_bytes = lambda self: self.peak - GIB  # noqa: E731

    def reset_peak(self):
        self.peak = self.used


@pytest.mark.parametrize(
    ("cap_gib", "total_gib", "free_gib"), [(None, 80, 70), (8, 8, 5), (79, 79, 70), (100, 80, 70), (2, 2, 0)]
)
def test_the_cap_bounds_total_and_free(monkeypatch, cap_gib, total_gib, free_gib):
    monkeypatch.setattr(memory, "_Cuda", FakeDevice)
    budget = MemoryBudget("cuda:0", cap_bytes=None if cap_gib is None else cap_gib * GIB)
    assert (budget.total_bytes() / GIB, budget.free_bytes() / GIB) == (total_gib, free_gib)


def test_a_larger_card_is_held_to_the_size_of_a_smaller_one(monkeypatch):
    import torch

    fractions = []
    fake = SimpleNamespace(
        mem_get_info=lambda device: (70 * GIB, 80 * GIB),
        memory_reserved=lambda device: 5 * GIB,
        set_per_process_memory_fraction=lambda share, index: fractions.append((share, index)),
    )
    monkeypatch.setattr(torch, "cuda", fake)
    budget = hold_to(torch.device("cuda", 1), 8.0)
    assert fractions == [(7.5 / 80, 1)]
    assert (budget.total_bytes(), budget.free_bytes()) == (7.5 * GIB, 2.5 * GIB)
    hold_to(torch.device("cuda"), 200.0)
    assert fractions[1] == (1.0, 0)
    simulated = Accelerator("cuda", "a card", 8.0, simulated=True)
    assert budget_of(simulated, torch.device("cuda", 1)).cap_bytes == 7.5 * GIB
    assert fractions[2:] == [(7.5 / 80, 1)]
    for card, device in ((simulated, "cpu"), (replace(simulated, simulated=False), "cuda:1")):
        assert budget_of(card, torch.device(device)).cap_bytes is None and len(fractions) == 3


def test_cuda_reads_reserved_bytes(monkeypatch):
    torch = pytest.importorskip("torch")
    calls = []
    fake = SimpleNamespace(
        mem_get_info=lambda d: (70, 80),
        memory_reserved=lambda d: 30,
        max_memory_reserved=lambda d: 50,
        max_memory_allocated=lambda d: 40,
        reset_peak_memory_stats=calls.append,
    )
    monkeypatch.setattr(torch, "cuda", fake)
    budget = MemoryBudget(torch.device("cuda", 1), cap_bytes=60)
    assert (budget.free_bytes(), budget.used_bytes()) == (30, 30)
    assert (budget.peak_bytes(), budget.peak_allocated_bytes()) == (50, 40)
    budget.reset_peak()
    assert calls == [torch.device("cuda", 1)]


def test_mps_peak_is_the_most_that_was_seen(monkeypatch):
    torch = pytest.importorskip("torch")
    driver = iter([5, 9, 4, 4])
    fake = SimpleNamespace(driver_allocated_memory=lambda: next(driver), recommended_max_memory=lambda: 20)
    monkeypatch.setattr(torch, "mps", fake)
    budget = MemoryBudget("mps")
    assert (budget.used_bytes(), budget.free_bytes(), budget.peak_bytes()) == (5, 11, 9)
    budget.reset_peak()
    assert budget.peak_bytes() == 4


def test_an_unknown_device_is_refused():
    with pytest.raises(ValueError, match=r"'tpu'.*cuda, mps, cpu"):
        MemoryBudget("tpu")


def test_cpu_free_is_what_the_cap_leaves():
    budget = MemoryBudget("cpu")
    used = budget.used_bytes()
    capped = MemoryBudget("cpu", cap_bytes=used + 64 * MIB)
    assert abs(capped.free_bytes() - 64 * MIB) < 32 * MIB
    assert MemoryBudget("cpu", cap_bytes=MIB).free_bytes() == 0
    assert 0 < used < budget.total_bytes()


@pytest.mark.skipif(not memory._Cpu.CLEAR_REFS.exists(), reason="needs Linux's /proc/self/clear_refs")
def test_the_cpu_peak_rises_and_resets():
    budget = MemoryBudget("cpu")
    budget.reset_peak()
    if budget.peak_source != "VmHWM, reset":
        pytest.skip(f"clear_refs is not writable here: {budget.peak_source}")
    before = budget.peak_bytes()
    block = mmap.mmap(-1, 200 * MIB)  # fresh pages, whatever the allocator has kept
    for page in range(0, len(block), mmap.PAGESIZE):
        block[page] = 1
    assert budget.peak_bytes() - before > 190 * MIB
    block.close()
    assert budget.peak_bytes() - before > 190 * MIB
    budget.reset_peak()
    assert budget.peak_bytes() - before < 50 * MIB
    assert budget.peak_allocated_bytes() == budget.peak_bytes()


def test_without_proc_the_source_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(memory._Cpu, "STATUS", tmp_path / "none")
    budget = MemoryBudget("cpu")
    budget.reset_peak()
    assert budget.peak_bytes() > MIB
    assert budget.peak_source == "ru_maxrss, never reset"


def test_a_peak_that_cannot_be_reset_says_so(monkeypatch, tmp_path):
    if not memory._Cpu.STATUS.exists():
        pytest.skip("needs Linux's /proc")
    monkeypatch.setattr(memory._Cpu, "CLEAR_REFS", tmp_path / "no" / "such")
    budget = MemoryBudget("cpu")
    budget.reset_peak()
    assert budget.peak_source == "VmHWM, never reset"


@pytest.mark.gpu
def test_on_a_real_card():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    budget = MemoryBudget("cuda", cap_bytes=GIB)
    memory.hand_back()  # what other tests have left would be taken again
    budget.reset_peak()
    before = budget.peak_bytes()
    block = torch.empty(256 * MIB, dtype=torch.uint8, device="cuda")
    assert budget.peak_bytes() - before >= 256 * MIB
    assert budget.peak_allocated_bytes() >= block.numel()
    assert budget.free_bytes() <= GIB - 256 * MIB
