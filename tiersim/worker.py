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
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from acestep.errors import AceStepError, MissingPrerequisite, UsageError
from acestep.memory import MemoryBudget
from acestep.oom import Failure, classify
from tiersim import cap
from tiersim.protocol import EventWriter, Exit, Job

if TYPE_CHECKING:
    from acestep.result import GenerationResult

SAMPLE_RATE_HZ = 48_000
SAMPLES_PER_FRAME = 1920
SHORTEST_S = 5.12  # 128 latent frames: the model makes nothing shorter, and a shorter request gets that


def run(job: Job, send: EventWriter) -> Exit:
    """One generation under the cap. Whatever goes wrong is raised."""
    send("hello", pid=os.getpid(), python=platform.python_version(), platform=platform.platform())
    send("phase", name="import")
    import torch  # noqa: F401  # the cap follows this import and precedes everything else

    send("phase", name="cap")
    send("cap", **asdict(cap.install(job.device, job.cap_bytes)))

    send("phase", name="load")
    from acestep.engine import Engine, generate_music

    params, config = job.case.request()
    budget = MemoryBudget(job.device, job.cap_bytes)
    budget.reset_peak()
    engine = Engine.load(
        job.case.source,
        device=job.device,
        lm=job.lm,
        offload_to_cpu=job.offload_to_cpu,
        offload_dit_to_cpu=job.offload_dit_to_cpu,
        no_limits=True,  # the supervisor resolved the case on the card it simulates
        budget=budget,
    )
    load_peak_bytes = budget.peak_bytes()

    send("phase", name="generate")
    budget.reset_peak()
    result = generate_music(engine, params, replace(config, no_limits=True))
    generation_peak_bytes = budget.peak_bytes()

    send("phase", name="check")
    if problem := check(result, job.case.duration_s, config.batch_size):
        send("error", error="invalid output", message=problem)
        return Exit.INVALID
    send(
        "result",
        load_peak_bytes=load_peak_bytes,
        generation_peak_bytes=generation_peak_bytes,
        peak_source=budget.peak_source,
        wall_s=result.wall_s,
        stages_s=dict(result.stages_s),
        environment=dict(result.environment),
    )
    return Exit.OK


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
    try:
        return run(job, send)
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
    send("oom" if oom else "error", **asdict(failure), **_peak(job) if oom else {})
    return code


def _exit_of(error: AceStepError) -> Exit:
    """Usage and prerequisites by name; what else the engine refuses on purpose is unusable output."""
    if isinstance(error, UsageError):
        return Exit.USAGE
    return Exit.PREREQUISITE if isinstance(error, MissingPrerequisite) else Exit.INVALID


def _peak(job: Job) -> dict[str, object]:
    budget = MemoryBudget(job.device, job.cap_bytes)
    return {"generation_peak_bytes": budget.peak_bytes(), "peak_source": budget.peak_source}


if __name__ == "__main__":
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True)  # the supervisor's "where are you stuck?"
    sys.exit(main(Job.decode(sys.argv[1]), EventWriter()))
