"""The first minute of a process: what a command line pays each time, and a server once."""

from ._matrix import COMPILE, PHASES, cell, engine
from ._records import measure
from .common import SETUP_CACHE_TIMEOUT_S, Suite, tracks


class TrackColdStart(Suite):
    """Seconds from the birth of a process to its first planned item, phase by phase, and of the next item."""

    version = "2"
    params = (PHASES, COMPILE)
    param_names = ("phase", "compile")

    def setup_cache(self):
        return measure("cold")

    setup_cache.timeout = SETUP_CACHE_TIMEOUT_S

    def cell(self, phase, compile):
        return cell("cold", engine=engine(compile=compile))

    def setup(self, records, phase, compile):
        super().setup(records, phase, compile)
        if phase not in self.record["runs"][0]["phases_s"]:
            raise NotImplementedError(f"there is no {phase} in {self.record['cell']}")

    @tracks("seconds")
    def track_phase(self, _, phase, compile):
        return self.samples(lambda run: run["phases_s"][phase])
