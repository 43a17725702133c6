"""What predictions rest on: memory below PyTorch, launches, rates of arithmetic, memory and link.

The first step is the first that this process does with the card: what it finds is what a fresh process holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
import torch.nn.functional as F

from acestep.profiler.devices import best_s
from harness import nvml
from harness.device import resolve_device, resolve_dtype, synchroniser
from harness.errors import BenchError, MissingPrerequisite
from harness.graphs import Graphs
from scripts.gpu.steps import Measured, Step, Task

MIB, GIB = 2**20, 2**30
CHANNELS, KERNEL, DILATIONS = (128, 256, 512, 1024), 7, (1, 3, 9)  # of the decoder's convolutions
PLACES = (4096, 65_536, 262_144)
EDGE = 1024
TOKENS = (1, 375, 3000)  # rows of a product: a decoded token, the DiT at 30 s and at 240 s
WIDENING = 3  # columns by rows of the DiT's widest matrices


def steps(task: Task) -> Iterator[Step]:
    sizes = task.sizes
    yield Step("memory", partial(_memory, task))
    yield Step("launches", partial(_launches, task))
    yield Step("link", partial(_link, task))
    shapes = [(tokens, sizes.wide, WIDENING * sizes.wide) for tokens in TOKENS]
    for shape in (*shapes, (sizes.edge,) * 3):
        yield Step(f"product {' x '.join(map(str, shape))}", partial(_product, task, *shape))
    for copied in sizes.copied_bytes:
        yield Step(f"copy {copied / MIB:g} MiB", partial(_copy, task, copied))


def _memory(task: Task) -> Measured:
    """What a process holds outside the allocator, and the workspaces of cuBLAS and cuDNN."""
    task.need_cuda("context and workspaces")
    cuda, device = torch.cuda, resolve_device(task.device)
    index = device.index or 0  # what follows wants a number
    others_bytes, driver = driver_reading(index)
    cuda.set_device(index)
    left = torch.ones(EDGE, EDGE, device=device, dtype=torch.bfloat16)
    before_bytes = cuda.memory_allocated()
    product = left @ left
    blas_bytes = cuda.memory_allocated() - before_bytes - product.nbytes
    with torch.inference_mode():
        copies = max(
            _convolution_copies(c, d, n, device) for c in CHANNELS for d in DILATIONS for n in PLACES
        )
    cuda.empty_cache()
    used_bytes, _ = driver_reading(index)
    return Measured(
        {
            "card": cuda.get_device_name(),
            "capability": "{}.{}".format(*cuda.get_device_capability()),
            "memory_gib": round(cuda.get_device_properties(device).total_memory / GIB, 2),
            "driver": driver,
            "torch": str(torch.__version__),
            "cudnn": str(torch.backends.cudnn.version()),
            "context_mib": round((used_bytes - others_bytes - cuda.memory_reserved()) / MIB, 1),
            "blas_bytes": blas_bytes,
            "convolution_copies": round(copies, 4),
        }
    )


def driver_reading(index: int) -> tuple[int, str]:
    """Bytes of the card that are in use, and the driver's version. Raises MissingPrerequisite."""
    with nvml.Card(nvml.name_of(index)) as card:
        used_bytes, driver = card.used_bytes, card.driver
    if used_bytes is None or driver is None:
        raise MissingPrerequisite("NVML, which says how large a context is, does not know this card")
    return used_bytes, driver


def _convolution_copies(channels: int, dilation: int, places: int, device: torch.device) -> float:
    """What one convolution has allocated beside its input, weight and output, in copies of its input."""
    cuda = torch.cuda
    x = torch.ones(1, channels, places, device=device, dtype=torch.bfloat16)
    weight = torch.ones(channels, channels, KERNEL, device=device, dtype=torch.bfloat16)
    F.conv1d(x, weight, padding=3 * dilation, dilation=dilation)  # which looks for its algorithm
    cuda.synchronize()
    held_bytes = cuda.memory_allocated()
    cuda.reset_peak_memory_stats()
    output = F.conv1d(x, weight, padding=3 * dilation, dilation=dilation)
    cuda.synchronize()
    return (cuda.max_memory_allocated() - held_bytes - output.nbytes) / x.nbytes


def _launches(task: Task) -> Measured:
    """One small kernel, launched from Python and inside a graph."""
    task.need_cuda("launches and graphs")
    device, count = resolve_device(task.device), task.sizes.launches
    wait = synchroniser(device) or (lambda: None)
    with torch.inference_mode():
        x = torch.zeros(1, device=device)

        def kernels() -> None:
            for _ in range(count):
                x.add_(1)

        launched_s = best_s(kernels, wait)
        graphs = Graphs.on(device)
        graphs.record("kernels", kernels)
        if graphs.failure:
            raise BenchError(f"kernels cannot be recorded: {graphs.failure}")
        replayed_s = best_s(lambda: graphs.run("kernels", kernels), wait)
    return Measured(
        {"launch_us": round(1e6 * launched_s / count, 3), "kernel_us": round(1e6 * replayed_s / count, 3)}
    )


def _link(task: Task) -> Measured:
    """Copies between the card and pinned memory of the host, in decimal GB/s."""
    task.need_cuda("the link")
    device, count = resolve_device(task.device), task.sizes.linked_bytes
    wait = synchroniser(device) or (lambda: None)
    host = torch.empty(count, dtype=torch.uint8, pin_memory=True)
    card = torch.empty(count, dtype=torch.uint8, device=device)
    to_card_s = best_s(lambda: card.copy_(host, non_blocking=True), wait)
    to_host_s = best_s(lambda: host.copy_(card, non_blocking=True), wait)
    return Measured(
        {
            "to_card_gb_per_s": round(count / to_card_s / 1e9, 3),
            "to_host_gb_per_s": round(count / to_host_s / 1e9, 3),
        }
    )


def _product(task: Task, rows: int, inner: int, columns: int) -> Measured:
    """`[rows, inner] @ [inner, columns]`, over matrices that take turns so that no cache holds one."""
    device = resolve_device(task.device)
    dtype = resolve_dtype("auto", device, "bfloat16")
    count = max(1, task.sizes.spread_bytes // (inner * columns * dtype.itemsize))
    with torch.inference_mode():
        left = torch.randn(rows, inner, device=device, dtype=dtype)
        matrices = [torch.randn(inner, columns, device=device, dtype=dtype) for _ in range(count)]
        result = torch.empty(rows, columns, device=device, dtype=dtype)

        def multiply() -> None:
            for matrix in matrices:
                torch.mm(left, matrix, out=result)

        seconds = best_s(multiply, synchroniser(device) or (lambda: None)) / count
    moved_bytes = left.nbytes + matrices[0].nbytes + result.nbytes
    return Measured(
        {
            "rows": rows,
            "inner": inner,
            "columns": columns,
            "dtype": str(dtype).removeprefix("torch."),
            "tflop_per_s": float(f"{2 * rows * inner * columns / seconds / 1e12:.4g}"),
            "gb_per_s": float(f"{moved_bytes / seconds / 1e9:.4g}"),
        }
    )


def _copy(task: Task, copied_bytes: int) -> Measured:
    """A copy within the device's memory: bytes read and written."""
    device = resolve_device(task.device)
    source = torch.zeros(copied_bytes, device=device, dtype=torch.uint8)
    target = torch.empty_like(source)
    seconds = best_s(lambda: target.copy_(source), synchroniser(device) or (lambda: None))
    return Measured({"bytes": copied_bytes, "gb_per_s": float(f"{2 * copied_bytes / seconds / 1e9:.4g}")})
