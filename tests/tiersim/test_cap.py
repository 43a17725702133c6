"""The host cap in real processes, each of which ends under it."""

import subprocess
import sys
from types import SimpleNamespace

import psutil  # noqa: F401  # of the system it is on, before a test names another
import pytest
import torch

from tiersim import cap
from tiersim.cap import CapError

MIB = 2**20
linux = pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA bounds memory on Linux only")


def python(code: str) -> str:
    """What `code` prints in a process of its own."""
    prelude = "import torch\nfrom tiersim import cap\nMIB = 2**20\n"
    done = subprocess.run([sys.executable, "-c", prelude + code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def filled() -> list[str]:
    """What a process says that fills its memory to the cap, and on, once the reserve is open."""
    code = """
from harness.memory import MemoryBudget
print(cap.install("host", "cpu", 1024 * MIB)[0])
kept = []
def fill():
    try:
        while True:
            kept.append(torch.ones(8 * MIB, dtype=torch.uint8))
    except RuntimeError as error:
        return len(kept), "DefaultCPUAllocator" in str(error)
first, refused = fill()
print(refused, 900 < MemoryBudget("cpu").peak_bytes() / MIB <= 1024)
cap.loosen()
print(0 < fill()[0] - first <= 8)
"""
    return python(code).splitlines()


@linux
def test_a_cap_is_proven_and_holds(filled):
    assert filled[:2] == [
        "Cap(kind='rlimit-data+watchdog', bytes=1073741824, verified=True)",
        "True True",
    ]


@linux
def test_loosening_opens_the_reserve_and_no_more(filled):
    assert filled[2] == "True"


@linux
def test_a_cap_below_what_torch_needs_is_refused():
    code = """
try:
    cap.install("host", "cpu", 100 * MIB)
except cap.CapError as error:
    print(error)
"""
    assert "torch alone uses" in python(code)


def test_where_no_limit_exists_none_is_claimed(monkeypatch):
    monkeypatch.setattr(cap.sys, "platform", "darwin")
    installed, _ = cap.install("host", "cpu", 1024 * MIB)
    assert (installed.kind, installed.verified) == ("watchdog", False)


@pytest.mark.parametrize(
    ("allocates", "words"), [(lambda *_: True, "does not hold"), (lambda *_: False, "within the cap")]
)
def test_a_cap_that_fails_its_self_test_is_not_claimed(monkeypatch, allocates, words):
    monkeypatch.setattr(cap, "_can_allocate", allocates)
    with pytest.raises(CapError, match=words):
        cap._try("cpu", too_much=2 * MIB, enough=MIB)


def test_a_virtual_cap_is_tried_to_the_byte():
    code = """
installed, budget = cap.install("virtual", "cpu", 100 * MIB)
print(installed)
print(budget.used_bytes(), budget.peak_bytes(), budget.free_bytes() == budget.total_bytes() == 100 * MIB)
kept = torch.empty(100 * MIB, dtype=torch.uint8, device="virtual")
try:
    torch.empty(1, device="virtual")
except torch.OutOfMemoryError:
    print("refused")
"""
    assert python(code).splitlines() == [
        "Cap(kind='virtual', bytes=104857600, verified=True)",
        "0 0 True",
        "refused",
    ]


def test_a_cap_that_something_else_enforces_proves_nothing(monkeypatch):
    """The device refuses for want of host memory: that is not the cap's doing."""

    def refuse(*args, **kwargs):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(torch, "empty", refuse)
    assert not cap._can_allocate("cpu", MIB)
    with pytest.raises(CapError, match="could not be tried"):
        cap._can_allocate("cuda", MIB)


@pytest.fixture
def fake_cuda(monkeypatch):
    """A card of 16 MiB whose allocator obeys the fraction it was given."""
    state = SimpleNamespace(fraction=1.0, backend="native", obeys=True)

    def put(fraction, index):
        assert isinstance(index, int)  # torch refuses a device without a number
        state.fraction = fraction if state.obeys else 0.9

    cuda = SimpleNamespace(
        get_allocator_backend=lambda: state.backend,
        mem_get_info=lambda device: (16 * MIB, 16 * MIB),
        max_memory_reserved=lambda device: 0,
        set_per_process_memory_fraction=lambda f, device: setattr(
            state, "fraction", f if state.obeys else 0.9
        ),
        get_per_process_memory_fraction=lambda device: state.fraction,
        empty_cache=lambda: None,
    )
    monkeypatch.setattr(torch, "cuda", cuda)
    monkeypatch.setattr(cap, "_can_allocate", lambda device, size: size <= state.fraction * 16 * MIB)
    return state


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_cuda_cap_is_a_fraction_read_back_and_tried(fake_cuda, device):
    installed, budget = cap.install("cuda", device, 4 * MIB)
    assert installed == cap.Cap("cuda-fraction", 4 * MIB, verified=True)
    assert budget.total_bytes() == 4 * MIB
    assert fake_cuda.fraction == 0.25


def test_a_cuda_cap_that_is_not_in_force_is_refused(fake_cuda):
    fake_cuda.obeys = False
    with pytest.raises(CapError, match="in force"):
        cap.install("cuda", "cuda", 4 * MIB)


def test_an_allocator_without_a_limit_is_refused(fake_cuda):
    fake_cuda.backend = "cudaMallocAsync"
    with pytest.raises(CapError, match="cudaMallocAsync"):
        cap.install("cuda", "cuda", 4 * MIB)
