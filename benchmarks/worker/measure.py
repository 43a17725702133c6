"""The process that measures: every cell of one kind, each model loaded once.

    python -P benchmarks/worker/measure.py timing /tmp/timing.jsonl      # by hand, with the installed engine

Only this folder loads an engine, and it takes the one of the commit under test: `-P` keeps it off the import
path and asv puts the commit's checkout on it. asv looks for benchmarks in packages, which this folder is not.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

if __name__ == "__main__":  # before anything else is imported
    here = Path(__file__).parent
    sys.path += [str(here), str(here.parent)]  # last: nothing here may shadow the commit under test
    from beside import interrupts

    interrupts.end_quietly()

import argparse
import faulthandler
import traceback
from importlib import import_module

CELL_TIMEOUT_S = 3600.0
KINDS = {
    "timing": "ace_step.timing",
    "memory": "tiers.memory",
    "cold": "cold_start.cold",
    "costs": "predictions.costs",
    "subject": "any_subject.subject",
    "micro": "micro.micro",
}


def main(kind: str, path: Path, *arguments: str, turns: int | None = None) -> None:
    """Measure, and append a record to `path` as soon as it is there. `arguments`: more for some kinds;
    `turns`: the descriptor of a socket whose other end says what is next."""
    # OpenMP threads that spin while they wait turn one busy core into times a hundred times too long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read once, when torch is imported
    import _matrix
    import _records
    import conditions

    _matrix.chosen()  # before anything heavy
    from commit import Unsupported
    from turns import each, take

    facts = {"commit": os.environ.get("ASV_COMMIT"), "env": os.environ.get("ASV_ENV_NAME"), "kind": kind}
    module, name = KINDS[kind].split(".")
    try:
        facts_of_kind, cells, measure = getattr(import_module(module), name)(*arguments)
    except Unsupported as error:
        _records.append(path, facts | {"status": "unsupported", "reason": str(error)})
        return
    facts |= {"source": facts_of_kind["environment"]["source"], "planned": [cell.name for cell in cells]}
    _records.append(path, facts | facts_of_kind | {"status": "ok"})
    take(turns)
    for cell in each(cells):
        faulthandler.dump_traceback_later(CELL_TIMEOUT_S, exit=True)
        before = conditions.read()
        try:
            record = {"status": "ok"} | measure(cell)
        except Unsupported as error:
            record = {"status": "unsupported", "reason": str(error)}
        except Exception as error:
            traceback.print_exc()
            record = {"status": "failed", "reason": f"{type(error).__name__}: {error}"}
        _records.append(path, {"cell": cell.name, "conditions": conditions.since(before)} | record)


if __name__ == "__main__":
    from _matrix import SettingError

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("path", type=Path, help="of the records, one JSON line per cell")
    parser.add_argument("arguments", nargs="*", help="of some kinds")
    parser.add_argument("--turns", type=int, metavar="FD", help="a socket that says what is next")
    options = parser.parse_args()
    try:
        with interrupts.raised():
            main(options.kind, options.path, *options.arguments, turns=options.turns)
    except SettingError as error:
        print(f"measure: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt as interrupt:
        print("measure: interrupted", file=sys.stderr)
        sys.exit(128 + interrupt.args[0])
