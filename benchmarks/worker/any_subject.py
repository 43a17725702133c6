"""Requests and components of any subject, through the protocol of `harness.subject`."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable

import _matrix as matrix
from beside import scratch_folder, streaming
from commit import REPEATS, Unsupported, commit_module
from streams import compared, heard
from turns import repeats


def of_commit(name: str):
    """The subject `name`. Raises Unsupported where the commit has none."""
    registry, errors = commit_module("harness.registry"), commit_module("harness.errors")
    try:
        return registry.subject(name)
    except errors.UsageError as error:
        raise Unsupported(f"this commit: {error}") from None


def subject(name: str, choices: str, cells: str) -> tuple[dict, list, Callable]:
    """Cells of the subject `name` on the setup of its `choices`, which is loaded once; both are JSON."""
    measured = of_commit(name)
    setup = measured.setup(**json.loads(choices))
    engine = measured.load(setup)

    def run(cell) -> dict:
        fields = {field: value for field, value in cell.params if field != "subject"}
        if cell.kind == "component":
            return component(measured.components(setup.source)[fields["component"]], fields["size"], setup)
        plan = measured.resolve(measured.request(**fields), setup)
        return REQUESTS[cell.kind](measured, engine, plan)

    facts = {"environment": dict(engine.environment), "load_s": engine.load_s, "repeats": REPEATS}
    return facts, [matrix.cell(kind, **params) for kind, params in json.loads(cells)], run


def request(subject, engine, plan) -> dict:
    """One discarded run of `plan`, then the timed ones, the last of which is checked."""
    with scratch_folder() as folder:
        results = [engine.run(plan, folder) for _ in repeats()]
    if problem := subject.check(results[-1], plan):
        raise RuntimeError(problem)
    runs = [{"wall_s": result.wall_s, "stages_s": dict(result.stages_s)} for result in results[1:]]
    return {"runs": runs, "counts": dataclasses.asdict(results[-1].counts)}


def streamed(subject, engine, plan) -> dict:
    """`plan` in pieces: how they are heard, and how far they are from what is decoded at once."""
    if not hasattr(engine, "stream"):
        raise Unsupported("this commit's engine streams nothing")
    runs, errors = [], []
    for _ in repeats():
        stream = engine.stream(plan)
        chunks = list(stream)
        result = stream.result
        run = {"wall_s": result.wall_s, "stages_s": dict(result.stages_s)}
        runs.append(
            run | heard(chunks, result.audios[0].sample_rate) | {"first_chunk_s": result.first_chunk_stages_s}
        )
        whole = [audio.tensor for audio in engine.decoded(plan, result.codes)]
        errors.append(streaming.largest_error(chunks, whole))
    return compared(runs[1:], max(errors), engine.environment["dtype"])


def footprint(subject, engine, plan) -> dict:
    """The peak of memory in each stage of `plan`, in one run after another."""
    if not hasattr(engine, "stage_memory"):
        raise Unsupported("this commit's engine tells no memory by stage")
    engine.run(plan)
    with engine.stage_memory() as memory:
        engine.run(plan)
    found = memory.found()
    if found.error:
        raise RuntimeError(found.error)
    peaks: dict[str, int] = {}
    for end in found.boundaries:
        size = end.rss_peak_bytes if end.allocated_bytes is None else end.allocated_peak_bytes
        if size is not None:
            peaks[end.stage] = max(size, peaks.get(end.stage, 0))
    return {"peaks_bytes": peaks, "weights_bytes": max(end.weights_bytes for end in found.boundaries)}


REQUESTS = {"request": request, "streamed": streamed, "footprint": footprint}


def component(network, size: int, setup) -> dict:
    """One discarded call of a network on inputs of `size`, then the timed ones."""
    import torch

    devices = commit_module("harness.device")
    device = devices.resolve_device(setup.device)
    dtype = devices.resolve_dtype(setup.dtype, device, "float32")
    wait = devices.synchroniser(device) or (lambda: None)
    model = network.build(device, dtype)
    inputs = [
        value.to(device, dtype if value.is_floating_point() else None)
        for value in network.inputs(size, torch.Generator().manual_seed(0))
    ]
    runs = []
    with torch.inference_mode():
        for _ in repeats():
            wait()
            start = time.perf_counter()
            network.run(model, *inputs)
            wait()
            runs.append({"wall_s": time.perf_counter() - start, "stages_s": {}})
    flop, size_bytes = network.work(size, dtype.itemsize)
    return {"runs": runs[1:], "counts": {"flop": flop, "bytes": size_bytes}}
