"""The process of one case: cap first, engine second, one generation, one verdict.

    python -m tiersim.worker '<job>'      started by tiersim.supervisor; nothing else should

Each step is announced before it begins, so that the last `phase` names what a sudden death was doing.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import platform
import signal
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from harness.accelerators import Accelerator
from harness.errors import AceStepError, MissingPrerequisite, UsageError
from harness.oom import Failure, classify
from tiersim import cap, lifeline
from tiersim.protocol import EventWriter, Exit, Job
from tiersim.reporter import Reporter

if TYPE_CHECKING:
    from acestep.engine import Engine
    from acestep.result import GenerationResult
    from harness.memory import MemoryBudget

SAMPLE_RATE_HZ = 48_000
SAMPLES_PER_FRAME = 1920
SHORTEST_S = 5.12  # 128 latent frames: the model makes nothing shorter, and a shorter request gets that


def run(job: Job, reporter: Reporter) -> Exit:
    """One generation under the cap. Whatever goes wrong is raised."""
    reporter.send("hello", pid=os.getpid(), python=platform.python_version(), platform=platform.platform())
    reporter.begin("import")
    import torch  # noqa: F401  # the cap follows this import and precedes everything else

    reporter.begin("cap")
    installed, budget = cap.install(job.cap_kind, job.device, job.cap_bytes)
    reporter.send("cap", **asdict(installed))
    reporter.budget = budget

    reporter.begin("load")
    engine = _load(job, budget)
    params, config = job.case.request()
    reporter.begin("generate")
    result = engine.generate(params, config)

    reporter.begin("check")
    if problem := check(result, job.case.duration_s, config.batch_size):
        reporter.send("error", error="invalid output", message=problem)
        return Exit.INVALID
    reporter.send("result", **reporter.peaks(), **_told(result))
    return Exit.OK


def _load(job: Job, budget: MemoryBudget) -> Engine:
    """The engine as the supervisor resolved it, on the card it simulates."""
    from acestep.engine import Engine

    device, card = job.device, None
    if job.cap_kind == "virtual":
        device, card = "virtual", Accelerator("cuda", "virtual card", job.case.tier_gb, simulated=True)
    return Engine.from_setup(job.setup(device, card), budget=budget)


def _told(result: GenerationResult) -> Mapping[str, Any]:
    return {
        "wall_s": result.wall_s,
        "stages_s": dict(result.stages_s),
        "counts": asdict(result.counts),
        "fallbacks": [asdict(fallback) for fallback in result.fallbacks],
        "environment": dict(result.environment),
    }


def check(result: GenerationResult, duration_s: float, batch_size: int) -> str | None:
    """What is wrong with the output, or None: count, length to a latent frame, finite, audible."""
    if len(result.audios) != batch_size:
        return f"{len(result.audios)} items came back, {batch_size} were asked for"
    for index, audio in enumerate(result.audios):
        samples = audio.tensor.shape[-1]
        if abs(samples - max(duration_s, SHORTEST_S) * SAMPLE_RATE_HZ) > SAMPLES_PER_FRAME:
            return f"item {index} lasts {samples / SAMPLE_RATE_HZ:.2f} s, {duration_s:g} s were asked for"
        if not bool(audio.tensor.isfinite().all()):
            return f"item {index} has samples that are not numbers"
        if audio.silent:
            return f"item {index} is silent"
    return None


def main(job: Job, send: EventWriter) -> Exit:
    """Run the job and report how it ended.

    An out-of-memory is reported after its `except` block: inside it the traceback still holds every
    tensor of the frames it passed through, and reporting needs memory too.
    """
    reporter = Reporter(send, steps=job.case.steps)
    try:
        with reporter:
            return run(job, reporter)
    except cap.CapError as error:
        code, failure = Exit.NO_CAP, Failure("other", "CapError", str(error))
    except AceStepError as error:
        code, failure = _exit_of(error), Failure("other", type(error).__name__, str(error))
    except Exception as error:
        cap.loosen()
        failure = classify(error)
        code = {"device": Exit.DEVICE_OOM, "host": Exit.HOST_OOM}.get(failure.kind, Exit.FAILED)
        if failure.kind == "other":
            sys.excepthook(type(error), error, error.__traceback__)
    gc.collect()
    oom = code in (Exit.DEVICE_OOM, Exit.HOST_OOM)
    send("oom" if oom else "error", **asdict(failure), **reporter.peaks())
    return code


def _exit_of(error: AceStepError) -> Exit:
    """Usage and prerequisites by name; what else the engine refuses on purpose is unusable output."""
    if isinstance(error, UsageError):
        return Exit.USAGE
    return Exit.PREREQUISITE if isinstance(error, MissingPrerequisite) else Exit.INVALID


if __name__ == "__main__":
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True)  # the supervisor's "where are you stuck?"
    lifeline.hold()
    code = main(Job.decode(sys.argv[1]), EventWriter())
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # taking torch apart takes seconds, and all has been said
