"""Copies what a run measured of one commit to the results of all, as data.

    python3 -I .github/keep_results.py MEASURED RESULTS COMMIT

The run executed code that nobody may have read, so what it left is held to what asv writes: JSON objects of
known places and sizes, of this commit alone, and nothing that points elsewhere. Anything more, and nothing is
copied: exit code 1. It uses the standard library and nothing of this repository.
"""

import json
import os
import re
import stat
import sys
from pathlib import Path

MOST_FILES = 64
MOST_BYTES = 16 * 2**20  # of a file
NAME = r"[A-Za-z0-9][A-Za-z0-9.+_-]{0,150}"


class Refused(Exception):
    """A file that is none of asv's, or none of this commit's."""


def main(measured: str, results: str, commit: str) -> int:
    """Copy the files below `measured` to the same places below `results`; returns the exit code."""
    try:
        contents = {name: content(Path(measured, name), commit) for name in names(Path(measured), commit)}
        targets = {name: target(Path(results), name) for name in contents}
    except (Refused, OSError) as error:
        print(f"keep_results: {error}", file=sys.stderr)
        return 1
    for name, data in contents.items():
        targets[name].parent.mkdir(exist_ok=True)
        targets[name].write_bytes(data)
        print(name)
    return 0


def names(measured: Path, commit: str) -> list[str]:
    """Every file below `measured`, by its path. Raises Refused where one has no place among results."""
    result = rf"{NAME}/{re.escape(commit[:8])}-{NAME}\.json"
    place = re.compile(rf"benchmarks\.json|{NAME}/machine\.json|{result}")
    files = []
    for folder, folders, names in os.walk(measured):
        for name in (*folders, *names):
            path = Path(folder, name)
            mode = path.lstat().st_mode
            if not stat.S_ISDIR(mode):
                files.append(path.relative_to(measured).as_posix())
                if not stat.S_ISREG(mode) or not place.fullmatch(files[-1]):
                    raise Refused(f"{files[-1]!a} is no result of {commit[:8]}")
    if not any(re.fullmatch(result, file) for file in files) or len(files) > MOST_FILES:
        raise Refused(f"{len(files)} files, which are no results of {commit[:8]} or more than {MOST_FILES}")
    return files


def content(path: Path, commit: str) -> bytes:
    """The bytes of a file of asv's. Raises Refused where it is none."""
    with path.open("rb") as file:
        data = file.read(MOST_BYTES + 1)
    try:
        record = json.loads(data) if len(data) <= MOST_BYTES else None
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict) or record.get("commit_hash", commit) != commit:
        raise Refused(f"{str(path)!a} is not one JSON object of {commit[:8]}, of {MOST_BYTES} bytes at most")
    return data


def target(results: Path, name: str) -> Path:
    """The place of a file among `results`. Raises Refused where it is not really there."""
    path = results / name
    if path.is_symlink() or path.parent.is_symlink():
        raise Refused(f"{name!a} would be written through a link")
    return path


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
