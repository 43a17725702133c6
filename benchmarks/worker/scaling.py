"""Components of the engine at several lengths, and how their seconds grow. Part of the worker.

A run is every length once, the shortest first. What a call needs is set up before the first run and stays for
all: the work of a run is that of the components and nothing else.
"""

from __future__ import annotations

from contextlib import ExitStack

import _matrix as matrix
from commit import Unsupported, commit_module
from turns import repeats


def measure(engine, cell) -> dict:
    """Seconds of each length in every timed run; growth of each run, and of all with its intervals."""
    component, environment = cell["component"], engine.environment
    calls = commit_module("acestep.scaling")
    if component not in calls.PREPARED:
        raise Unsupported(f"this commit's engine has no {component}")
    device = environment["device"].partition(":")[0]
    lengths = matrix.lengths(environment["source"], component, device)
    try:
        with ExitStack() as opened:
            ready = {
                length: opened.enter_context(calls.call(engine, component, length)) for length in lengths
            }
            passes = [{length: one.timed() for length, one in ready.items()} for _ in repeats()]
    except commit_module("harness.errors").MissingPrerequisite as error:
        raise Unsupported(str(error)) from None
    return grown(passes)


def grown(passes: list[dict]) -> dict:
    """The record of timed `passes`, each of which has by length its seconds and counts; the first is not
    counted. Raises Unsupported for fewer than two lengths."""
    growth, lengths = commit_module("harness.scaling"), [*passes[0]]
    if len(lengths) < growth.FEWEST_LENGTHS:
        raise Unsupported(f"{len(lengths)} of its lengths are left by {matrix.FILTER}: two are the fewest")
    samples = {length: [timed[length][0] for timed in passes[1:]] for length in lengths}
    every = zip(*samples.values(), strict=True)
    runs = [
        growth.fit({n: [s] for n, s in zip(lengths, seconds, strict=True)})._asdict() for seconds in every
    ]
    return {
        "runs": [{name: estimate.value for name, estimate in run.items()} for run in runs],
        "growth": {name: list(estimate) for name, estimate in growth.fit(samples)._asdict().items()},
        "samples_s": samples,
        "counts": {length: dict(counts) for length, (_, counts) in passes[-1].items()},
    }
