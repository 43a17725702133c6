"""Which failures are out-of-memory, and of which memory."""

import errno
import gc
import weakref
from contextlib import ExitStack

import numpy
import pytest
import torch

from harness.oom import attempt, classify, host_oom_line
from harness.records.making import failed
from harness.spans import record, span

CPU_TEXT = (
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: "
    "you tried to allocate 4194304 bytes. Error code 12 (Cannot allocate memory)"
)
CUDA_TEXT = "CUDA out of memory. Tried to allocate 1.50 GiB. GPU 0 has a total capacity of 7.66 GiB\nof which"


@pytest.mark.parametrize(
    ("error", "kind", "requested_bytes"),
    [
        (torch.OutOfMemoryError(CUDA_TEXT), "device", 3 * 2**29),
        (torch.OutOfMemoryError(""), "device", None),
        (MemoryError(), "host", None),
        (numpy._core._exceptions._ArrayMemoryError((8,), numpy.dtype("f4")), "host", None),
        (RuntimeError(CPU_TEXT), "host", 4194304),
        (RuntimeError("unable to mmap 512 bytes from file <x>: Cannot allocate memory (12)"), "host", None),
        (RuntimeError("can't start new thread"), "host", None),
        (RuntimeError("could not create a primitive"), "host", None),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "host", None),
        (RuntimeError("MPS backend out of memory (9 GiB). Tried to allocate 20.00 MiB on private pool."),
         "device", 20 * 2**20),
        (RuntimeError("CUDA error: out of memory"), "device", None),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"), "device", None),
        (RuntimeError("cuDNN error: CUDNN_STATUS_SUBLIBRARY_ALLOC_FAILED"), "device", None),
        (RuntimeError("NVML_SUCCESS == r INTERNAL ASSERT FAILED at x.cpp"), "device", None),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), "other", None),
        (ValueError("DefaultCPUAllocator: can't allocate is only quoted here"), "other", None),
        (OSError(errno.ENOENT, "No such file"), "other", None),
        (KeyError("x"), "other", None),
    ],
)  # fmt: skip
def test_classification(error, kind, requested_bytes):
    failure = classify(error)
    assert (failure.kind, failure.requested_bytes) == (kind, requested_bytes)
    assert failure.error == type(error).__name__
    assert "\n" not in failure.message


# As PyTorch words them of a whole card, and of a part of one; and as the card that is simulated does.
WHOLE = (
    "CUDA out of memory. Tried to allocate 24.00 MiB. GPU 0 has a total capacity of 7.66 GiB of which "
    "23.06 MiB is free. Including non-PyTorch memory, this process has 7.62 GiB memory in use. Of "
    "the allocated memory 7.01 GiB is allocated by PyTorch, and 120.50 MiB is reserved by PyTorch but "
    "unallocated."
)
PART = WHOLE.replace("7.66 GiB of which 23.06 MiB", "79.25 GiB of which 71.02 GiB").replace(
    "in use. ", "in use. 7.25 GiB allowed; "
)
VIRTUAL = (
    "Virtual card out of memory. Tried to allocate 1.50 GiB. It has a total capacity of 7.50 GiB "
    "of which 512 bytes is free."
)


@pytest.mark.parametrize(
    ("error", "stage", "words"),
    [
        (torch.OutOfMemoryError(WHOLE), "offload",
         "24 MiB more were asked for while offloading; 23.1 MiB were free of 7.66 GB"),
        (torch.OutOfMemoryError(PART), "load/dit",
         "24 MiB more were asked for while loading dit; 125.3 MiB were free of 7.25 GB"),
        (torch.OutOfMemoryError(VIRTUAL), "vae_decode/tile",
         "1.5 GiB more were asked for in vae_decode; 512 bytes were free of 7.5 GB"),
        (RuntimeError("MPS backend out of memory (9 GiB). Tried to allocate 20.00 MiB on private pool."), "",
         "20 MiB more were asked for"),
        (RuntimeError("CUDA error: out of memory"), "diffuse/step", "device memory ran out in diffuse"),
        (RuntimeError(CPU_TEXT), "post", "4 MiB more of the host's memory were asked for in post"),
        (MemoryError(), "", "host memory ran out"),
        (KeyError("x"), "diffuse", "'x'"),
    ],
)  # fmt: skip
def test_memory_that_ran_out_is_told_in_words(error, stage, words):
    with pytest.raises(type(error)) as caught, ExitStack() as spans, record():
        for name in ["load/dit"] if stage == "load/dit" else filter(None, stage.split("/")):
            spans.enter_context(span(name))
        raise error
    failure = classify(caught.value)
    assert (failure.words, failure.stage) == (words, stage)
    assert failure.exception == f"{type(error).__name__}: {error!s}"
    item = failed(failure)
    assert item["error"] == words and ("exception" in item) == (failure.kind != "other")


def test_the_cause_is_found_under_what_was_raised_from_it():
    try:
        try:
            raise RuntimeError(CPU_TEXT)
        except RuntimeError as error:
            raise ValueError("loading failed") from error
    except ValueError as error:
        failure = classify(error)
    assert (failure.kind, failure.error) == ("host", "RuntimeError")


def test_a_ring_of_contexts_ends():
    one, two = ValueError("1"), ValueError("2")
    one.__context__, two.__context__ = two, one
    assert classify(one).kind == "other"


def test_a_real_refusal_of_the_cpu_allocator():
    try:
        torch.empty(2**60, dtype=torch.uint8)
    except RuntimeError as error:
        failure = classify(error)
    assert (failure.kind, failure.requested_bytes) == ("host", 2**60)


def test_a_failure_keeps_no_tensor_alive():
    def work():
        tensor = torch.zeros(8)
        watched.append(weakref.ref(tensor))
        raise MemoryError

    watched = []
    try:
        work()
    except MemoryError as error:
        failure = classify(error)
    gc.collect()
    assert failure.kind == "host"
    assert watched[0]() is None


def fails_with_a_tensor(watched: list[weakref.ref], error: Exception) -> None:
    tensor = torch.zeros(8)
    watched.append(weakref.ref(tensor))
    raise error


def test_an_attempt_leaves_nothing_of_itself():
    watched: list[weakref.ref] = []
    failure = attempt(lambda: fails_with_a_tensor(watched, torch.OutOfMemoryError(CUDA_TEXT)))
    assert failure is not None
    assert (failure.kind, failure.requested_bytes) == ("device", 3 * 2**29)
    assert watched[0]() is None


def test_recovering_inside_the_except_block_would_not():
    watched: list[weakref.ref] = []
    try:
        fails_with_a_tensor(watched, torch.OutOfMemoryError(CUDA_TEXT))
    except torch.OutOfMemoryError:
        gc.collect()
        assert watched[0]() is not None  # where a second try would be short of it
    gc.collect()
    assert watched[0]() is None


def test_an_attempt_that_works_and_one_that_fails_otherwise():
    done: list[int] = []
    assert attempt(lambda: done.append(1)) is None
    assert done == [1]
    with pytest.raises(ValueError, match="odd"):
        attempt(lambda: fails_with_a_tensor([], ValueError("odd")))
    with pytest.raises(MemoryError):
        attempt(lambda: fails_with_a_tensor([], MemoryError()), recoverable=False)


def test_what_a_log_says():
    said = "terminate called after throwing an instance of 'std::bad_alloc'"
    assert host_oom_line(f"x\n{said}\nFatal Python error: Aborted\n") == said
    assert host_oom_line("libgomp: Thread creation failed: Resource temporarily unavailable")
    assert host_oom_line("Traceback (most recent call last):") is None
