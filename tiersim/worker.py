"""The worker process of one case: it installs the cap, loads the engine, runs one plan and reports.

    python -m tiersim.worker FD      the open file of its job; started by tiersim.supervisor alone

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
from typing import Any

from harness.errors import BenchError, MissingPrerequisite, UsageError
from harness.memory import MemoryBudget
from harness.oom import Failure, classify
from harness.process_memory import ProcessAccount
from harness.subject import Engine, Result
from harness.tiers import tier_subject
from tiersim import cap
from tiersim.protocol import EventWriter, Exit, Job
from tiersim.telemetry import Fullest, Reporter


def run(job: Job, reporter: Reporter) -> Exit:
    """Run the job's plan under the cap. Whatever goes wrong is raised."""
    reporter.send("hello", pid=os.getpid(), python=platform.python_version(), platform=platform.platform())
    reporter.begin("import")
    import torch  # noqa: F401  # the cap follows this import and precedes everything else

    reporter.begin("cap")
    installed, budget = cap.install(job.cap_kind, job.device, job.cap_bytes, job.beside)
    reporter.send("cap", **asdict(installed))
    reporter.budget, reporter.process = budget, ProcessAccount(job.device, budget)

    reporter.begin("load")
    subject = tier_subject(job.subject)
    engine = subject.load(job.plan.setup, budget=budget)
    fullest = Fullest(cards) if (cards := _cards(engine)) else None
    reporter.budget = fullest or budget
    reporter.begin("generate")
    result = engine.run(job.plan)

    reporter.begin("check")
    if problem := subject.check(result, job.plan):
        reporter.send("error", error="invalid output", message=problem)
        return Exit.INVALID
    peaks = reporter.peaks()
    reporter.send("result", **peaks, **_figures(result, fullest.peaks if fullest else {}))
    return Exit.OK


def _cards(engine: Engine) -> Mapping[Any, MemoryBudget]:
    """The memory of each card of an engine that has parts on several, by device; empty for any other."""
    budgets: Mapping[Any, MemoryBudget] = getattr(engine, "budgets", {})
    cards = {device: budget for device, budget in budgets.items() if str(device) != "cpu"}
    return cards if len(cards) > 1 else {}


def _figures(result: Result, peaks: Mapping[str, int]) -> Mapping[str, Any]:
    """What is told of a result; `peaks`: of its cards by device, where there are several."""
    of_cards = {f"peak_bytes_{device}": peak for device, peak in peaks.items()}
    telemetry = getattr(result, "telemetry", None)
    return {
        "wall_s": result.wall_s,
        "stages_s": dict(result.stages_s),
        "counts": asdict(result.counts),
        "fallbacks": [asdict(fallback) for fallback in result.fallbacks],
        "environment": dict(result.environment) | of_cards,
        **({"telemetry": asdict(telemetry)} if telemetry else {}),
    }


def main(job: Job, send: EventWriter) -> Exit:
    """Run the job and report how it ended.

    An out-of-memory is reported after its `except` block: inside it the traceback still holds every
    tensor of the frames it passed through, and reporting needs memory too.
    """
    reporter = Reporter(send, job.steps)
    try:
        with reporter:
            return run(job, reporter)
    except cap.CapError as error:
        code, failure = Exit.NO_CAP, Failure("other", "CapError", str(error))
    except BenchError as error:
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


def _exit_of(error: BenchError) -> Exit:
    """Usage and prerequisites by name; what else the engine refuses on purpose is unusable output."""
    if isinstance(error, UsageError):
        return Exit.USAGE
    return Exit.PREREQUISITE if isinstance(error, MissingPrerequisite) else Exit.INVALID


if __name__ == "__main__":
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True)  # the supervisor's "where are you stuck?"
    code = main(Job.receive(sys.argv[1]), EventWriter())
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # taking torch apart takes seconds, and all has been said
