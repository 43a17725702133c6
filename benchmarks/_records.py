"""Records of a benchmark run: the file between the worker that measures and the processes that read.

A worker appends one JSON line per cell as soon as the cell is done, so whatever kills it (a segfault,
the kernel's OOM killer, Ctrl-C) costs only the cells that were still to come. Those are then written as
`failed` with the reason, and the file holds one line for every cell that was planned. It stays in
`.asv/records/`: asv's own results keep numbers and forget why one is missing.

    head -1 .asv/records/*-timing.jsonl        # what ran: commit, source, device, versions
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from hashlib import sha256
from pathlib import Path

WORKTREE = "worktree"  # in place of a commit
HERE = Path(__file__).parent
MEASURES = ("worker", "_matrix")  # folders here
WORKER = HERE / "worker" / "measure.py"
KEEPER = Path(__file__).parents[1] / "harness" / "keeper.py"  # by its file: `harness` is the commit's here
TELL_S = 1.0
TIME_OVER = "the time was over before this cell was done"
OWN_WORKER = Path("benchmarks", "_worker.py")  # of a commit from before `harness`


def predict(
    planned: set[str], torch: str, timeout_s: float | None = None, done: Callable[[int], object] | None = None
) -> dict[str, dict]:
    """Records of predictions. A worker's of a commit never change: what an earlier round found is read again.
    What is not done in `timeout_s` has failed. `done`: told now and then how many there are."""
    by = torch, None if _own_worker() else digest()
    known = _folder().glob(f"*-{_commit()}-costs.jsonl") if _commit() != WORKTREE else ()
    for header, records in map(read, known):
        measured = {name for name, record in records.items() if record["status"] != "failed"}
        if (header.get("torch"), header.get("worker")) == by and planned <= measured:
            return {"header": header} | records
    return measure("costs", timeout_s=timeout_s, done=done)


def measure(
    kind: str,
    *arguments: str,
    timeout_s: float | None = None,
    done: Callable[[int], object] | None = None,
) -> dict[str, dict]:
    """Records by cell name, each planned cell among them.

    `kind` is one of `worker/measure.py`, which says what `arguments` it takes. A commit from before `harness`
    is measured by its own worker, which gives the same cells the same names; what that one fails at is n/a.
    """
    path, own = new_file(kind), _own_worker()
    tell = (lambda: done(len(read(path)[1]))) if done else None
    how_it_ended = _run(str(own or WORKER), kind, str(path), *arguments, timeout_s=timeout_s, tell=tell)
    header, records = read(path)
    for cell in set(header.get("planned", ())) - records.keys():
        records[cell] = {"cell": cell, "status": "failed", "reason": how_it_ended}
        append(path, records[cell])
    if not header:
        header = {"status": "failed", "reason": how_it_ended}
        append(path, header)
    records = {"header": header} | records
    if own:
        for record in records.values():
            if record["status"] == "failed":
                record |= {"status": "unsupported", "reason": f"this commit's own worker: {record['reason']}"}
    return records


def _run(*command: str, timeout_s: float | None, tell: Callable[[], object] | None = None) -> str:
    """Run a worker; returns how it ended. Nothing it started outlives it, nor it this process."""
    with (
        tempfile.TemporaryFile() as stderr,
        subprocess.Popen(
            kept(*command), stdin=subprocess.PIPE, stderr=stderr, start_new_session=True
        ) as worker,
    ):
        try:
            code = _wait(worker, timeout_s, tell)
        except subprocess.TimeoutExpired:
            worker.stdin.close()  # type: ignore[union-attr]
            return TIME_OVER
        stderr.seek(0)
        text = stderr.read().decode(errors="replace")
    sys.stderr.write(text)
    return ending(code, text)


def _wait(worker: subprocess.Popen, timeout_s: float | None, tell: Callable[[], object] | None = None) -> int:
    """Its exit code; meanwhile `tell` is called every second. Raises TimeoutExpired after `timeout_s`."""
    until_s = None if timeout_s is None else time.monotonic() + timeout_s
    while tell:
        tell()
        if until_s is not None and until_s - time.monotonic() <= TELL_S:
            break
        with suppress(subprocess.TimeoutExpired):
            return worker.wait(TELL_S)
    return worker.wait(None if until_s is None else max(until_s - time.monotonic(), 0.0))


def kept(*command: str) -> list[str]:
    """The command that runs a worker under a keeper, which nothing of it outlives. Standard input, a pipe, is
    never written to: its end is ours, and the keeper's."""
    python = sys.executable
    return [python, "-I", "-S", str(KEEPER), str(os.getpid()), "", python, "-P", *command]


def ending(code: int, stderr: str) -> str:
    """Why a worker has no more records, in one line."""
    last = (stderr.strip().splitlines() or ["nothing on stderr"])[-1]
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
    return f"the worker {how} before this cell was done; last words: {last}"


def append(path: Path, record: dict) -> None:
    """Add one line, whole or not at all to any reader that skips a torn last line."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def read(path: Path) -> tuple[dict, dict[str, dict]]:
    """Header and records by cell name; a line torn by a kill is dropped."""
    header, records = {}, {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        if "cell" in record:
            records[record["cell"]] = record
        else:
            header = record
    return header, records


def _own_worker() -> Path | None:
    """The worker of the commit under test, where it has one of an older layout."""
    checkout = os.environ.get("ASV_ENV_DIR")
    worker = checkout and Path(checkout, "project", OWN_WORKER)
    return worker if worker and worker.is_file() else None


@cache
def digest() -> str:
    """Of the code that measures a commit and is not the commit's: the worker's and the matrix'."""
    files = (path for folder in MEASURES for path in sorted((HERE / folder).glob("*.py")))
    return sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()[:16]


def new_file(kind: str) -> Path:
    """Where a worker of `kind` puts its records."""
    return _folder() / f"{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}-{_commit()}-{kind}.jsonl"


def _folder() -> Path:
    folder = Path(os.environ.get("ASV_CONF_DIR", ".")) / ".asv" / "records"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _commit() -> str:
    return os.environ.get("ASV_COMMIT", WORKTREE)[:12]
