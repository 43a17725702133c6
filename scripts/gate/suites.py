"""The numbers that benchmarks read, as the gate has them: what each is called, and of which cell it is."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks import _matrix
from benchmarks.common import Suite
from scripts.gate.causes import NAMES

# Rates have twins that shrink; peaks, parity and errors are no samples, of cold starts there are too few. The
# worst of a stream is of one chunk, and mostly nothing. What grows with length has its times in other series
# that gate, and an exponent falls where an intercept rises.
UNGATED = "_rate|PeakMem|TierBoundary|Parity|Accuracy|ColdStart|Scaling|_p95|_worst|_underruns|_error"
EXACT = "TrackCost|TrackPredictedPeak|TrackWaits"
STAGES = {"prefill_ms": "lm_prefill", "decode_ms": "lm_decode", "plan": "wall", "peak": "peak memory",
          "minimum": "smallest card"}  # fmt: skip
LOOPS = {"code": "lm_decode", "step": "diffuse", "tile": "vae_decode"}  # by what they make
COMPONENTS = {"lm_": "LM", "diffuse": "DiT", "vae_": "VAE", "text_encode": "text encoder",
              "condition": "conditioner", "peak": "card", "smallest": "tiers"}  # fmt: skip
MODULES = {
    "lm": "LM",
    "micro": "function",
    "streaming": "stream",
}  # components, where the stage does not tell


VARIANTS = {"no-quant": "not quantized", "no-offload": "nothing offloaded"}  # of what a card is to hold


class NotMeasured(Exception):
    """There should be a number and there is none; the text says why."""


@dataclass(frozen=True)
class Reading:
    """One number of a benchmark class: of a method and a combination of parameters."""

    module: str
    suite: type[Suite]
    method: str
    params: tuple[Any, ...]

    @cached_property
    def cell(self) -> _matrix.Cell:
        return self.suite().cell(*self.params)

    @cached_property
    def job(self) -> tuple[str, ...]:
        """The worker that measures the cell: its kind, and its arguments."""
        return self.suite().job

    @property
    def benchmark(self) -> str:
        return f"{self.module}.{self.suite.__name__}.{self.method}"

    @property
    def named(self) -> tuple[tuple[str, str], ...]:
        """Parameters by their names."""
        names = getattr(self.suite, "param_names", ())
        return tuple((name, str(value)) for name, value in zip(names, self.params, strict=True))

    @property
    def name(self) -> str:
        """As asv has it, which `--bench` is matched with."""
        return f"{self.benchmark}({', '.join(map(repr, self.params))})" if self.params else self.benchmark

    @property
    def unit(self) -> str:
        return getattr(self.suite, self.method).unit

    @property
    def stage(self) -> str:
        named, name = dict(self.named), self.method.removeprefix("track_")
        if unit := named.get("unit"):
            return LOOPS.get(unit, unit)
        return named.get("stage") or STAGES.get(name, name)

    @property
    def component(self) -> str:
        known = (name for start, name in COMPONENTS.items() if self.stage.startswith(start))
        return getattr(self.suite, "subject", None) or next(known, MODULES.get(self.module, "pipeline"))

    def value(self, records: dict[str, dict]) -> Any:
        """What the method makes of the records of a run; None where that is n/a. Raises NotMeasured."""
        suite = self.suite()
        try:
            suite.setup(records, *self.params)
            value = getattr(suite, self.method)(records, *self.params)
        except NotImplementedError:
            return None
        except RuntimeError as error:
            raise NotMeasured(str(error)) from None
        return None if isinstance(value, float) and math.isnan(value) else value


def held(benchmark: str, component: str, params: Mapping[str, str]) -> str:
    """What a card is to hold by one of the benchmarks of cards, in words: turbo with LM."""
    if model := params.get("model"):
        return f"{NAMES.get(component, component)} {model}"
    dit = "XL turbo" if benchmark.split(".")[1].endswith("XL") else "turbo"
    lm = "with LM" if params.get("lm") == "True" else "without LM"
    return ", ".join(filter(None, (f"{dit} {lm}", VARIANTS.get(params.get("variant", "")))))


def facts(reading: Reading) -> dict[str, Any]:
    """What a series of the record says of where it comes from."""
    return {
        "benchmark": reading.benchmark, "params": reading.named, "stage": reading.stage,
        "component": reading.component, "unit": reading.unit,
    }  # fmt: skip


def readings(sources: Iterable[str], only: str = "", *, exact: bool) -> list[Reading]:
    """Those that gate, of the cells that are measured with weights from `sources`: predicted, or timed."""
    sources = tuple(sources)
    planned = {cell for source in sources for cell in _matrix.every_cell(source)}
    return [
        one
        for one in every()
        if bool(re.search(EXACT, one.benchmark)) == exact and not re.search(UNGATED, one.benchmark)
        if re.search(only, one.name) and one.suite().is_measured(one.params, planned, sources)
    ]


def every() -> Iterator[Reading]:
    """Every number of every benchmark, measured or not; those of a method one after another."""
    for path in sorted(Path("benchmarks").glob("[a-z]*.py")):
        module = import_module(f"benchmarks.{path.stem}")
        for name, suite in vars(module).items():
            ours = (
                isinstance(suite, type) and issubclass(suite, Suite) and suite.__module__ == module.__name__
            )
            if not ours or name.startswith("_") or not hasattr(suite, "params"):
                continue
            methods = sorted(method for method in dir(suite) if method.startswith("track_"))
            for method, params in itertools.product(methods, itertools.product(*suite.params)):
                yield Reading(path.stem, suite, method, params)
