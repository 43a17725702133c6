"""Requests and components of any subject, through the protocol of `harness.subject`."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from functools import partial

import _matrix as matrix
from beside import scratch_folder, streaming
from commit import REPEATS, Unsupported, commit_module
from scaling import grown
from streams import compared, heard
from turns import repeats

TORCH = "torch"
STARTS = 2  # of processes, at most: fewer where the worker repeats less
SIZES_PER_S = 100  # of the networks whose growth is measured: frames of 10 ms


def of_commit(name: str):
    """The subject `name`. Raises Unsupported where the commit has none."""
    registry, errors = commit_module("harness.registry"), commit_module("harness.errors")
    try:
        return registry.subject(name)
    except errors.UsageError as error:
        raise Unsupported(f"this commit: {error}") from None


def offered(measured, name: str) -> Callable:
    """What the subject of a commit may offer (`harness.subject.Compared`). Raises Unsupported without it, and
    where it lacks something here."""
    if not hasattr(measured, name):
        raise Unsupported(f"this commit's {measured.name} offers no {name}")
    missing = commit_module("harness.errors").MissingPrerequisite

    def call(*arguments):
        try:
            return getattr(measured, name)(*arguments)
        except missing as error:
            raise Unsupported(str(error)) from None

    return call


def subject(name: str, choices: str, cells: str) -> tuple[dict, list, Callable]:
    """Cells of the subject `name` on the setup of its `choices`, which is loaded once; both are JSON."""
    measured = of_commit(name)
    setup = measured.setup(**json.loads(choices))
    engine = measured.load(setup)

    def run(cell) -> dict:
        fields = {field: value for field, value in cell.params if field != "subject"}
        backend = fields.pop("backend", TORCH)
        if cell.kind in ("component", "scaling"):
            network = measured.components(setup.source)[fields["component"]]
            if cell.kind == "scaling":
                return growing(network, matrix.of_subject(name, matrix.SUBJECTS[name])["length_s"], setup)
            if backend == TORCH:
                return component(network, fields["size"], setup)
            with offered(measured, "elsewhere")(backend, setup) as there:
                return component_elsewhere(there, network, fields["size"])
        if cell.kind == "parity":
            return held(offered(measured, "distance")(setup, fields["part"], fields["comparison"]))
        if cell.kind == "accuracy":
            return {"accuracy": offered(measured, "accuracy")(fields["voice"])}
        plan = measured.resolve(measured.request(**fields), setup)
        if cell.kind == "cold":
            return cold(offered(measured, "fresh"), plan)
        if backend != TORCH:
            with offered(measured, "elsewhere")(backend, setup) as there:
                return request(measured, there, plan)
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
    by_stage = memory.found()
    if by_stage.error:
        raise RuntimeError(by_stage.error)
    peaks: dict[str, int] = {}
    for end in by_stage.boundaries:
        size = end.rss_peak_bytes if end.allocated_bytes is None else end.allocated_peak_bytes
        if size is not None:
            peaks[end.stage] = max(size, peaks.get(end.stage, 0))
    return {"peaks_bytes": peaks, "weights_bytes": max(end.weights_bytes for end in by_stage.boundaries)}


REQUESTS = {"request": request, "streamed": streamed, "footprint": footprint}


def component(network, size: int, setup) -> dict:
    """One discarded call of a network on inputs of `size`, then the timed ones."""
    model, call = ready(network, setup)
    run = call(size)
    runs = [{"wall_s": run(), "stages_s": {}} for _ in repeats()]
    flop, size_bytes = network.work(size, next(model.parameters()).dtype.itemsize)
    return {"runs": runs[1:], "counts": {"flop": flop, "bytes": size_bytes}}


def growing(network, lengths_s: tuple[float, ...], setup) -> dict:
    """How seconds of a network grow with the length of what it is called on. A pass is every length once."""
    _, call = ready(network, setup)
    calls = {length: call(round(SIZES_PER_S * length)) for length in lengths_s}
    return grown([{length: (run(), {}) for length, run in calls.items()} for _ in repeats()])


def ready(network, setup) -> tuple:
    """A network of the run, and what makes of a size a call that tells its seconds."""
    import torch

    devices = commit_module("harness.device")
    device = devices.resolve_device(setup.device)
    dtype = devices.resolve_dtype(setup.dtype, device, "float32")
    wait = devices.synchroniser(device) or (lambda: None)
    model = network.build(device, dtype)

    def seconds(inputs: list) -> float:
        wait()
        start = time.perf_counter()
        with torch.inference_mode():
            network.run(model, *inputs)
        wait()
        return time.perf_counter() - start

    def call(size: int) -> Callable[[], float]:
        inputs = [
            value.to(device, dtype if value.is_floating_point() else None)
            for value in network.inputs(size, torch.Generator().manual_seed(0))
        ]
        return partial(seconds, inputs)

    return model, call


def component_elsewhere(there, network, size: int) -> dict:
    """As `component`, of a backend in a process of its own."""
    import torch

    inputs = network.inputs(size, torch.Generator().manual_seed(0))
    runs = [{"wall_s": there.call(network.name, inputs).seconds, "stages_s": {}} for _ in repeats()]
    flop, size_bytes = network.work(size, torch.float32.itemsize)
    return {"runs": runs[1:], "counts": {"flop": flop, "bytes": size_bytes}}


def cold(fresh: Callable, plan) -> dict:
    """Phases of fresh processes that load the subject and run `plan` twice; files are in memory already."""
    runs = []
    for _ in range(min(STARTS, REPEATS)):
        run = fresh(plan)
        if run["problem"]:
            raise RuntimeError(run["problem"])
        phases = {phase: run[key] for phase, key in PHASES.items()}
        runs.append({"phases_s": phases, "peak_bytes": run["peak_rss_bytes"]})
    return {"runs": runs}


PHASES = {
    "import_engine": "import_s",
    "load": "load_s",
    "first": "first_call_s",
    "steady": "second_call_s",
}


def held(distance: dict) -> dict:
    """How far a part is from itself made another way; over its limit it has failed."""
    record = {"parity": distance}
    if distance["relative_rms"] is None or distance["relative_rms"] > distance["limit"]:
        reason = f"off by {distance['relative_rms']} of its RMS, {distance['limit']} is the limit"
        return record | {"status": "failed", "reason": reason}
    return record
