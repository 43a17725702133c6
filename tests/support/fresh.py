"""Code in interpreters that have imported little or nothing: one is started, and is forked for each piece."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from places import ROOT

SERVER = """
import json, os, sys, tempfile, traceback
first, pieces = json.load(sys.stdin)
exec(first)
answers = []
for code in pieces:
    out, err = tempfile.TemporaryFile(), tempfile.TemporaryFile()
    child = os.fork()
    if child == 0:
        os.dup2(out.fileno(), 1), os.dup2(err.fileno(), 2)
        status = 0
        try:
            exec(code, {"__name__": "__main__"})
        except SystemExit as end:
            status = 0 if end.code is None else int(end.code)
        except BaseException:
            traceback.print_exc()
            status = 1
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    texts = [(file.seek(0), file.read().decode(errors="surrogateescape"))[1] for file in (out, err)]
    answers.append([status, *texts])
json.dump(answers, sys.stdout)
"""


class Answer(NamedTuple):
    """What a process came to; bytes of its output that are no UTF-8 are surrogates."""

    code: int
    out: str
    err: str


def run_each(
    pieces: Sequence[str], first: str = "", environ: Mapping[str, str] | None = None
) -> list[Answer]:
    """The exit code and the output of each piece of code, run in the root of the repository.

    `first`: code that is run once, before all of them. `environ`: of the interpreter, where it is not ours.
    """
    server = subprocess.run(
        [sys.executable, "-c", SERVER],
        input=json.dumps([first, pieces]),
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environ,
    )
    assert server.returncode == 0, server.stderr
    return [Answer(*answer) for answer in json.loads(server.stdout)]
