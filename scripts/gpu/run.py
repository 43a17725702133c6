"""A run: each part in a process of its own, its rows written as they come, the report after each part."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Timer

import msgspec

from acestep.weights.layout import SYNTHETIC
from acestep.weights.sources import check_source, choose_dit, choose_source
from harness import console, lifeline
from harness.accelerators import MAX_VRAM_VARIABLE, Accelerator, detect, torch_build
from harness.budget import shortage
from harness.errors import BenchError, MissingPrerequisite
from harness.progress import Progress, minutes
from harness.records import machine
from harness.text import harmless
from scripts.gpu import calibrated, report
from scripts.gpu.plan import SPARE_S, Part, allotment_s
from scripts.gpu.record import Facts, Results, Row, new
from scripts.gpu.worker import END

WORKER = (sys.executable, "-m", "scripts.gpu.worker")
OVERTIME = 1.5  # of a part's time, after which its process is ended
LAST_CHARS = 300


def run(options: argparse.Namespace, parts: Sequence[Part]) -> int:
    """Measure the parts; returns 1 where something failed. Raises BenchError for what cannot be measured."""
    facts, (_, dirty) = facts_of(options.device, options.source), machine.revision()
    record = new(facts, dirty, machine.read(), options.budget)
    with Results(options.out, record, fresh=options.fresh) as results:
        if results.kept_as:
            console.say(
                "gpu", f"{str(options.out)!r} is of another run; it is kept as {str(results.kept_as)!r}"
            )
        try:
            _measure(results, parts, options)
        finally:
            results.write_report(report.markdown(results.record))
        print(report.markdown(results.record), end="")
        print(f"\nreport   {harmless(str(results.report))}")
        outcomes = [results.outcome(part.name) for part in parts]
    return 1 if any(outcome.status == "failed" for outcome in outcomes) else 0


def facts_of(device: str, source: str | None) -> Facts:
    """What is measured, and on what. Raises UsageError or MissingPrerequisite; imports no torch."""
    card = _card(device)
    name, _ = choose_source(source, accelerator=card.device != "cpu")
    check_source(name, choose_dit(name, None), None)
    build = torch_build()
    if build is None:
        raise MissingPrerequisite("torch is not installed; make gpu sets everything up")
    if card.device == "cuda" and build.cuda is None:
        raise MissingPrerequisite(f"torch {build.version} is no build for CUDA; install one, or --device cpu")
    commit, _ = machine.revision()
    return Facts(
        commit=commit,
        code=machine.code(),
        torch=build.version,
        source=name if name in SYNTHETIC else str(Path(name).resolve()),
        device=card.device if device == "auto" else device,
        card=card.name if card.device != "cpu" else machine.read().cpu or "CPU",
        memory_gib=round(card.memory_gib, 2),
    )


def _card(device: str) -> Accelerator:
    card = detect(device, {})
    if device == "auto" and card.device != "cuda":
        tried = "--device cpu --source synthetic-tiny tries it out"
        raise MissingPrerequisite(f"device: there is no CUDA card here; run it where one is, or {tried}")
    return card


def _measure(results: Results, parts: Sequence[Part], options: argparse.Namespace) -> None:
    """The parts in their order. One that fails is a result, and the next one runs."""
    start_s, before_s = time.monotonic(), results.record.spent_s
    todo = [part for part in parts if not results.outcome(part.name).settled]
    for part in parts:
        if part not in todo:
            console.say("gpu", f"{part.name}: there already")
    for index, part in enumerate(todo):
        left_s = options.budget - SPARE_S - (time.monotonic() - start_s)
        seconds = allotment_s(part, todo[index + 1 :], left_s)
        if not seconds:
            reason = f"no time: {shortage(part.least_s, left_s, None)}"
            results.end(part.name, ended="cut", reason=reason)
            console.say("gpu", f"{part.name}: {reason}")
            continue
        limits = f"{minutes(seconds)} at most, {minutes(left_s)} left in all"
        console.say("gpu", f"[{index + 1}/{len(todo)}] {part.name}: {limits}")
        with Progress(0) as progress:
            progress.begin(f"{part.name}, at most {minutes(left_s)} to go in all")
            _part(results, part, seconds, left_s, progress)
        if part.name == "calibration":
            _calibrate(results, options.calibrations)
        results.change(spent_s=round(before_s + time.monotonic() - start_s, 1))
        results.write_report(report.markdown(results.record))


def _part(results: Results, part: Part, seconds: float, left_s: float, progress: Progress) -> None:
    before = results.begin(part.name)
    facts, start_s = results.record.facts, time.monotonic()
    task = {
        "part": part.name,
        "device": facts.device,
        "source": facts.source,
        "limit_s": seconds,
        "done": [name for name, row in before.rows.items() if row.settled],
    }
    process = Process([*WORKER, json.dumps(task)])
    limit_s = min(OVERTIME * seconds, left_s + SPARE_S / 2)  # which has the start of the process in it
    whole, left = False, list[str]()
    try:
        for line in process.lines(limit_s):
            if whole := line == END:
                break
            if isinstance(line, list):  # the first: names of all rows
                left = line
                continue
            row = msgspec.convert(line, Row)
            left = [name for name in left if name != row.name]
            results.add(part.name, row)
            progress.say(f"after {row.name}")
            reason = f" ({row.reason})" if row.reason else ""
            console.say("gpu", f"  {row.name}: {row.status}, {row.took_s:.1f} s{reason}")
    finally:
        ending = process.end()
    took_s = round(before.took_s + time.monotonic() - start_s, 1)
    if whole:
        results.end(part.name, ended="whole", took_s=took_s, had_s=0.0)
        return
    ending += f"; without {' · '.join(left)}" if left else ""
    console.say("gpu", f"  {part.name}: {ending}")
    if process.late:
        results.end(part.name, ended="cut", reason=f"no time: {ending}", took_s=took_s, had_s=limit_s)
    else:
        results.end(part.name, ended="broken", reason=ending, took_s=took_s)


class Process:
    """A process that writes lines of JSON. Nothing it started outlives it, nor it this process.

    `late`: whether it was ended because its time was over.
    """

    def __init__(self, command: Sequence[str]):
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self.late, self._limit_s = False, 0.0
        self._process = subprocess.Popen(
            lifeline.kept(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            cwd=machine.ROOT,
            env={name: value for name, value in os.environ.items() if name != MAX_VRAM_VARIABLE},
            start_new_session=True,
        )

    def lines(self, limit_s: float) -> Iterator[object]:
        """What it writes, until it ends, or is ended after `limit_s`. A line cut short is left out."""
        self._limit_s = limit_s
        timer = Timer(limit_s, self._stop)
        timer.daemon = True
        timer.start()
        try:
            for line in self._process.stdout or ():
                with suppress(msgspec.DecodeError):
                    yield msgspec.json.decode(line)
        finally:
            timer.cancel()

    def end(self) -> str:
        """End it, if it has not; returns how it ended, with its last words."""
        code = self._process.poll()
        lifeline.end(self._process)
        with self._stderr:
            self._stderr.seek(0)
            words = self._stderr.read().decode(errors="replace").strip().splitlines()
        if self._process.stdout:
            self._process.stdout.close()
        if self.late:
            return f"ended after {self._limit_s:.0f} s: it took longer than its share of the budget"
        last = harmless(words[-1], most=LAST_CHARS) if words else "nothing on stderr"
        return f"its process ended with {self._process.returncode if code is None else code}: {last}"

    def _stop(self) -> None:
        self.late = True
        lifeline.end(self._process)


def _calibrate(results: Results, folder: Path | None) -> None:
    """Write the card's calibration, if all of it was measured, where predictions find it. Where that cannot
    be, it is a row that failed, and the next start tries again."""
    try:
        path = calibrated.write(results.record, folder)
    except BenchError as error:
        row = Row(name="file", status="failed", reason=str(error))
        results.add("calibration", row)
        console.say("gpu", f"  {row.name}: {row.status} ({row.reason})")
        return
    if path:
        results.add("calibration", Row(name="file", status="ok"))
        results.change(calibration=str(path))
        console.say("gpu", f"  calibration: {path}; predictions use it from now on, and it is what to send")
