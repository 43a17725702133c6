"""A run with made-up workers, as a process of its own that can be killed.

python keeping.py run DIR LOG    eight cases, each a line in LOG once it has really run
python keeping.py write DIR      write one record over and over, whole: for each line of the standard input
                                 in a process of its own, whose number is printed once it writes
python keeping.py tear DIR       the same, the plain way
"""

import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import msgspec
from tier_records import record

from tiersim import Case
from tiersim.case import resolve
from tiersim.case_runner import CaseRunner
from tiersim.record import Sample
from tiersim.results import Results

CASES = [Case(size, source="synthetic-tiny", duration_s=10, cap="virtual") for size in range(4, 12)]


def run(folder: Path, log: Path) -> None:
    def runner(todo, on_record):
        for plan in todo:
            time.sleep(0.1)
            with log.open("a") as file:
                file.write(f"{plan.requested.tier_gb:g}\n")
            on_record(replace(record(plan.requested.tier_gb), requested=plan.requested, key=plan.key))

    with Results(folder) as results:
        CaseRunner(runner, lambda record: print(record.requested.tier_gb, flush=True), results).run(
            [resolve(case) for case in CASES]
        )


def write(plan, timeline, add) -> None:
    for number in range(10_000):
        add(plan, replace(record(4, timeline=timeline), log=f"{number}"))
        if number == 0:
            print(os.getpid(), flush=True)


def fork(add) -> None:
    """A writer for each line that is read: to import what writes takes longer than to write."""
    plan = resolve(CASES[0])
    timeline = tuple(Sample(i / 10, "diffuse", i) for i in range(20_000))
    for _ in sys.stdin:
        if not os.fork():
            write(plan, timeline, add)
            os._exit(0)
        os.wait()
        print("ended", flush=True)


def plainly(folder: Path):
    """What a slow disk makes of `open("w")`: the file is there long before it is whole."""
    (folder / "cases").mkdir(parents=True, exist_ok=True)

    def add(plan, made):
        data = msgspec.json.encode(made)
        with (folder / "cases" / f"{plan.key}.json").open("wb") as file:
            for start in range(0, len(data), 2**16):
                file.write(data[start : start + 2**16])
                file.flush()
                os.fsync(file.fileno())

    return add


if __name__ == "__main__":
    mode, place = sys.argv[1], Path(sys.argv[2])
    if mode == "run":
        run(place, Path(sys.argv[3]))
    else:
        fork(Results(place).add if mode == "write" else plainly(place))
