"""Base classes of the benchmarks: measure once, read many.

asv runs each parameter combination in a process of its own. Loading a model in each would cost far more
than what is measured, so the first class to need numbers has `worker/measure.py` measure every cell in one
child that loads the model once, and asv hands the records to all classes. A benchmark names its cell and
picks a number out of the record. Returning the samples, not their mean, gets asv's full statistics.
What several classes read of their records is in `_figures.py`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import product
from json import dumps
from typing import Any

from ._matrix import TINY, Cell, cell, chosen, of_subject, selected
from ._records import measure

SETUP_CACHE_TIMEOUT_S = 4 * 3600


def tracks(unit: str, *, less_is_better: bool = True) -> Callable:
    """Say what a `track_` method returns. asv reads every rise as a loss: only what shrinks may gate."""

    def mark(method: Callable) -> Callable:
        method.unit, method.less_is_better = unit, less_is_better
        return method

    return mark


def one_worker(setup_cache: Callable) -> Callable:
    """Give a `setup_cache` its time. asv knows it by its line: classes that inherit one share a worker."""
    setup_cache.timeout = SETUP_CACHE_TIMEOUT_S
    return setup_cache


class Suite:
    """Base of all classes. A combination of parameters is the cell of a `kind` that has them, where a class
    does not say otherwise."""

    timeout = 60
    job: tuple[str, ...] = ("timing",)  # of `worker/measure.py`: a kind, and its arguments
    kind: str  # of cells
    subject: str | None = None  # None: the first, which cells do not name
    params: tuple[tuple, ...]
    param_names: tuple[str, ...]

    @one_worker
    def setup_cache(self) -> dict[str, dict]:
        return measure(*self.job)

    def cell(self, *params) -> Cell:
        return cell(self.kind, subject=self.subject, **dict(zip(self.param_names, params, strict=True)))

    def is_measured(self, params: tuple, planned: Collection[Cell], sources: Iterable[str]) -> bool:
        """Whether a combination's cell is measured: one that is `planned` with weights from `sources`."""
        return self.cell(*params) in planned

    def setup(self, records: dict[str, dict], *params) -> None:
        """Find the record. NotImplementedError is asv's n/a; any other error is a failed cell."""
        name, header = self.cell(*params).name, records["header"]
        record = records.get(name, header if header["status"] != "ok" else None)
        if record is None:
            raise NotImplementedError(f"{name} is not in the matrix of {header['source']}")
        if record["status"] == "unsupported":
            raise NotImplementedError(record["reason"])
        if record["status"] == "failed":
            raise RuntimeError(f"{name}: {record['reason']}")
        self.record = record

    def samples(self, value: Callable[[dict], float]) -> dict:
        """`value` of every timed run to six digits, in the form asv's own timings have."""
        return {"samples": [float(f"{value(run):.6g}") for run in self.record["runs"]], "number": 1}

    def wall(self) -> dict:
        """Seconds of every timed run."""
        return self.samples(lambda run: run["wall_s"])

    def stage(self, name: str) -> dict:
        """Seconds of one stage in every timed run."""
        return self.samples(lambda run: run["stages_s"][name])


def of_the_run() -> dict[str, Any]:
    """The choices of a subject's setup: made-up weights of the run's kind. A folder of ACE-Step's has none of
    another model's: then they are what the subject's own variable names."""
    source = os.environ.get("ACESTEP_SOURCE", "")
    return {"source": source} if source.startswith("synthetic-") else {}


class SubjectSuite(Suite):
    """Base of a class that measures a subject by its name: requests of it, or its networks by themselves.

    The parameters are fields of a request, or `component` and `size`. A class says which `subject`, the
    `choices` of its setup, and has a `setup_cache` of its own. Those that inherit it share a worker, and have
    the same choices.
    """

    kind = "request"  # or component, streamed, footprint, scaling, parity, accuracy, cold
    choices: Mapping[str, Any] = {}  # of the setup
    tiny: Mapping[str, tuple] = {}  # all that tiny weights run of an axis, unless the filter names it

    def leaves(self, source: str, *params) -> bool:
        """Whether a combination is measured with weights from `source`."""
        axes = of_subject(str(self.subject), dict(zip(self.param_names, self.params, strict=True)))
        for (name, values), value in zip(axes.items(), params, strict=True):
            short = name in self.tiny and source == TINY and f"{self.subject}.{name}" not in chosen()
            if value not in values or (short and value not in self.tiny[name]):
                return False
        return True

    def is_measured(self, params: tuple, planned: Collection[Cell], sources: Iterable[str]) -> bool:
        """The matrix has no cells of it: a class leaves its own."""
        return any(self.leaves(source, *params) for source in sources)

    @property
    def job(self) -> tuple[str, ...]:  # type: ignore[override]
        owner = next(cls for cls in type(self).__mro__ if "setup_cache" in vars(cls))
        suites = [cls() for cls in (owner, *owner.__subclasses__()) if hasattr(cls, "params")]
        source = os.environ.get("ACESTEP_SOURCE", TINY)
        cells = [
            suite.cell(*params)
            for suite in suites
            for params in product(*suite.params)
            if suite.leaves(source, *params)
        ]
        named = [(cell.kind, dict(cell.params)) for cell in selected(dict.fromkeys(cells))]
        return "subject", str(self.subject), dumps(dict(self.choices)), dumps(named)


class RunSuite(SubjectSuite):
    """Base of a class that measures a subject with weights of the run's kind."""

    @property
    def choices(self) -> Mapping[str, Any]:  # type: ignore[override]
        return of_the_run()
