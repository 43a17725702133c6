"""Steps as graphs: the kernels of a step over fixed buffers, recorded once and launched as one.

The host spends some microseconds on each kernel it launches; where kernels are short, the card waits for it.
A step whose kernels, shapes and addresses are the same every time can be recorded (CUDA graphs) and
replayed. So a step works on buffers that are there before and after it: it allocates nothing that stays,
reads nothing back, makes no tensor on the host, and has no shape that grows.

    graphs = Graphs.on(device)
    step()                         # once, so that libraries find what they need
    graphs.record("codes", step)   # nothing is computed
    graphs.run("codes", step)      # one launch; where nothing records, a call

Who records is found by the type of the device: `cuda`, and what stands in for a card in a trace.
No torch import before a graph is wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING, Protocol

from harness.adjustments import Fallback
from harness.errors import MissingPrerequisite
from harness.oom import classify

if TYPE_CHECKING:
    import torch

Step = Callable[[], None]


class Recorder(Protocol):
    """What records steps on one device. Steps of one recorder share the memory of their temporaries."""

    def record(self, step: Step) -> Step:
        """The recording of a step: called, it does again what the step did."""
        ...


class CUDARecorder:
    """CUDA graphs, in one pool of memory: they never run at the same time."""

    def __init__(self, device: torch.device):
        import torch

        self._device = device
        self._pool = torch.cuda.graph_pool_handle()
        self._stream = _capture_stream(device)

    def record(self, step: Step) -> Step:
        import torch

        graph = torch.cuda.CUDAGraph()
        current = torch.cuda.current_stream(self._device)
        with (
            torch.cuda.device(self._device),
            self._closed(),
            torch.cuda.stream(current),  # a capture that fails leaves its own the current one
            # Other threads may ask the driver for figures meanwhile.
            torch.cuda.graph(graph, self._pool, self._stream, capture_error_mode="thread_local"),
        ):
            step()
        return graph.replay

    @contextmanager
    def _closed(self) -> Iterator[None]:
        """Close the pool of a capture that could not be ended, as after a value was read back.

        PyTorch leaves it open then, and its allocator gives nothing back to the card for as long as one is.
        """
        import torch

        try:
            yield
        except BaseException:
            device = torch.cuda.current_device()
            with suppress(RuntimeError):  # it was ended
                torch._C._cuda_endAllocateToPool(device, self._pool)
                torch._C._cuda_releasePool(device, self._pool)
            raise


@cache
def _capture_stream(device: torch.device) -> torch.cuda.Stream:
    """The stream that steps of `device` are recorded on.

    cuBLAS has a workspace per stream, taken at its first matrix product and kept for good. Taken while
    recording it would keep the pool of that recording, and a stream for each recorder would have one each.
    """
    import torch

    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        square = torch.ones(16, 16, device=device)
        torch.mm(square, square)
    stream.synchronize()
    return stream


# What makes the recorder of a device, by its type.
recorders: dict[str, Callable[[torch.device], Recorder]] = {"cuda": CUDARecorder}


def unavailable(device: str) -> str | None:
    """Why no step can be recorded on `device`, or None. The answer is a clause, after the feature's name."""
    kind = device.partition(":")[0]
    return None if kind == "cuda" else f"only CUDA records steps, and the device is {kind}"


def recorded(choice: bool | None, devices: Iterable[str]) -> bool:
    """Whether steps are recorded: as `choice` has it, and where it is None if any of `devices` can.

    Raises MissingPrerequisite where they are to be and none can.
    """
    reasons = [unavailable(device) for device in devices]
    reason = reasons[0] if all(reasons) else None
    if reason and choice:
        raise MissingPrerequisite(f"graphs: {reason}; leave it out, or choose --device cuda")
    return choice is not False and not reason


def unrecorded(stage: str, failure: str) -> Fallback:
    """What is told of a step of `stage` that could not be recorded."""
    return Fallback(stage, f"not recorded ({failure})", "launched kernel by kernel")


class Graphs:
    """Recordings by key. They and the memory they hold go with this object.

    `failure`: why nothing is recorded any more, in one line; None while nothing has failed.
    """

    failure: str | None = None

    def __init__(self, recorder: Recorder | None = None):
        """Without a `recorder` steps are called."""
        self._recorder = recorder
        self._recordings: dict[Hashable, Step] = {}

    @classmethod
    def on(cls, device: torch.device, wanted: bool = True) -> Graphs:
        """Those of `device`; plain calls where nothing records there, or where they are not `wanted`."""
        recorder = recorders.get(device.type) if wanted else None
        return cls(recorder(device) if recorder else None)

    @property
    def recording(self) -> bool:
        """Whether `record` records."""
        return self._recorder is not None

    def record(self, key: Hashable, step: Step) -> None:
        """Record a step that has been run, under a key that is new.

        Where that fails, `failure` says why, and all steps are called: also those recorded before, whose
        memory may be what is missing.
        """
        if self._recorder is None:
            return
        try:
            self._recordings[key] = self._recorder.record(step)
        except RuntimeError as error:
            failure = classify(error)
            self.failure = failure.exception if failure.kind == "other" else f"out of memory: {failure.words}"
            self.drop()

    def run(self, key: Hashable, step: Step) -> None:
        """Replay the recording of `key`; call `step` where there is none."""
        self._recordings.get(key, step)()

    def drop(self) -> None:
        """Let go of recordings and recorder, and so of their memory; from here on steps are called."""
        self._recordings.clear()
        self._recorder = None
