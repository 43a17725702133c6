"""What asv measures: of the benchmarks it is asked for, what ACESTEP_BENCH_CELLS leaves, and nothing besides.

As a plugin of asv. A combination of parameters whose cell is not measured is not selected, as with `--bench`:
asv starts no process for it, and keeps what an earlier run has of it. The worker measures the cells of those
that are, however many benchmarks it serves.

    python -m scripts.asv_selection       # exit code 2 where ACESTEP_BENCH_CELLS asks for what there is not
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import _matrix
from benchmarks.common import Suite
from harness import console
from harness.errors import MissingPrerequisite, UsageError
from scripts.git import git

if TYPE_CHECKING:
    from asv.benchmarks import Benchmarks

SOURCE = "ACESTEP_SOURCE"
PLACE = Path(".asv")  # of all that is measured
# Commands of asv, of which all others only read.
WRITING = {"run", "continuous", "find", "profile", "setup", "check", "publish", "gh-pages", "rm"}


def setup() -> None:
    """Called by asv once it has imported its plugins. Exits with code 2 where the filter is wrong, and with 3
    where a command that writes cannot."""
    if code := console.run("asv", ready if WRITING & {*sys.argv[1:]} else check):
        sys.exit(code)
    select_cells()
    keep_samples()


def select_cells() -> None:
    """Have asv select what is measured of what it is asked for."""
    from asv.benchmarks import Benchmarks

    discover, filter_out = Benchmarks.discover, Benchmarks.filter_out

    def discover_selected(conf, repo, environments, *arguments, **options):
        benchmarks = discover(conf, repo, environments, *arguments, **options)
        sources = sorted({one.env_vars.get(SOURCE, _matrix.TINY) for one in environments})
        if benchmarks and not narrow(benchmarks, sources):
            cause = f"{_matrix.FILTER} and --bench leave nothing"
            console.say("asv", f"{cause} to measure of {', '.join(sources)}; see benchmarks/_matrix/axes.py")
            sys.exit(UsageError.exit_code)
        announce(benchmarks)
        return benchmarks

    def filter_out_selected(benchmarks, skipped):
        left = filter_out(benchmarks, skipped)
        announce(left)
        return left

    Benchmarks.discover, Benchmarks.filter_out = discover_selected, filter_out_selected


def keep_samples() -> None:
    """Have asv drop the samples of what is measured anew, and not of all combinations of the benchmark."""
    from asv.results import Results

    add_result = Results.add_result

    def add_selected(results, benchmark, *arguments, selected_idx=None, record_samples=False, **options):
        options |= {"selected_idx": selected_idx, "record_samples": True}
        add_result(results, benchmark, *arguments, **options)
        if not record_samples:
            results.remove_samples(benchmark["name"], selected_idx)

    Results.add_result = add_selected


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    return console.run("selection", lambda: _command(argv))


def _command(argv: Sequence[str] | None) -> int:
    parser = console.Parser(prog="python -m scripts.asv_selection", description=f"Check {_matrix.FILTER}.")
    parser.parse_args(argv)
    return ready()


def ready() -> int:
    """As `check`. Raises MissingPrerequisite, too, where there is no git, or no place for measurements."""
    git("rev-parse", "--git-dir")
    if not os.access(PLACE if PLACE.exists() else ".", os.W_OK):
        raise MissingPrerequisite(f"{str(PLACE)!r}: cannot be written; use a checkout that is not read-only")
    return check()


def check() -> int:
    """Raise UsageError where ACESTEP_BENCH_CELLS or ACESTEP_BENCH_REPEATS asks for what there is not."""
    try:
        _matrix.chosen(), _matrix.repeats()
    except _matrix.SettingError as error:
        raise UsageError(str(error)) from None
    return 0


def narrow(benchmarks: Benchmarks, sources: Iterable[str]) -> Benchmarks:
    """Leave the combinations whose cells are asked for with weights from any of `sources`, and the benchmarks
    that have one. Changes and returns `benchmarks`."""
    os.environ.pop(_matrix.SELECTED, None)
    sources = tuple(sources)
    planned = {cell for source in sources for cell in _matrix.every_cell(source)}
    for name in list(benchmarks):
        cells = list(_cells(benchmarks, name))
        left = [index for index, params, suite in cells if suite.is_measured(params, planned, sources)]
        if cells and not left:
            del benchmarks[name]
        elif cells:
            benchmarks.benchmark_selection[name] = left
    return benchmarks


def announce(benchmarks: Benchmarks) -> None:
    """Tell the processes that measure which cells `benchmarks` read."""
    every = (one for name in benchmarks for one in _cells(benchmarks, name))
    names = {suite.cell(*params).name for _, params, suite in every}
    os.environ[_matrix.SELECTED] = "\n".join(sorted(names))


def _cells(benchmarks: Benchmarks, name: str) -> Iterator[tuple[int, tuple, Suite]]:
    """The selected combinations of a benchmark, each with its number and its class; none where that is no
    class that reads cells."""
    module, _, class_name = name.rpartition(".")[0].rpartition(".")
    suite = getattr(import_module(f"benchmarks.{module}"), class_name, None) if module else None
    if not hasattr(suite, "cell"):
        return
    combinations = list(itertools.product(*getattr(suite, "params", ())))
    for index in benchmarks.benchmark_selection[name] or (0,):
        yield index, combinations[index], suite()


if __name__ == "__main__":
    sys.exit(main())
