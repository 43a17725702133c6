"""GPU tiers, simulated: one generation in one fresh process that may use only so much memory.

    python -m tiersim --run --tiers 6 8 --with-lm --source synthetic-tiny --duration 10

    from tiersim import Case, run_case
    record = run_case(Case(tier_gb=8, lm=True, source="synthetic-tiny", duration_s=10))
    record.status, record.peak_bytes

Or predicted, which runs nothing (`tiersim.prediction`).

A supervisor (this package, which never imports torch) starts a worker process per case. The worker
puts itself under the cap, proves that the cap holds, and only then loads the engine. Whatever happens
to it (out of memory, a crash, a hang) comes back as a `Record`, and the next case starts clean.

Not importing torch is more than speed: on Linux a child starts with its parent's peak memory as its
own `ru_maxrss`, and whoever supervises must survive what kills the supervised. The names below load what
they need on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tiersim.case import Case
    from tiersim.record import Record
    from tiersim.run import run_case

__all__ = ["Case", "Record", "run_case"]

_HOME = {"Case": "tiersim.case", "Record": "tiersim.record", "run_case": "tiersim.run"}


def console_script() -> int:
    """What the console script `tiersim` runs; returns the exit code."""
    from harness import interrupts

    interrupts.end_quietly()  # before anything else is imported

    from tiersim.__main__ import main

    return main()


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'tiersim' has no attribute {name!r}")
