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
own `ru_maxrss`, and whoever supervises must survive what kills the supervised.
"""

from typing import TYPE_CHECKING

from tiersim.case import Case
from tiersim.record import Record

if TYPE_CHECKING:
    from tiersim.run import run_case

__all__ = ["Case", "Record", "run_case"]


def __getattr__(name: str) -> object:
    if name == "run_case":  # what watches processes takes longer to import than a command line to be refused
        from tiersim.run import run_case

        return run_case
    raise AttributeError(f"module 'tiersim' has no attribute {name!r}")
