"""The first minute of a process: what a command line pays each time, and a server once."""

from ._figures import _Phases
from ._matrix import COMPILE, PHASES, cell, engine
from .common import one_worker


class TrackColdStart(_Phases):
    """Seconds from the birth of a process to its first planned item, phase by phase, and of the next item."""

    version = "2"
    job = ("cold",)
    params = (PHASES, COMPILE)
    param_names = ("phase", "compile")

    @one_worker
    def setup_cache(self):
        return super().setup_cache()

    def cell(self, phase, compile):
        return cell("cold", engine=engine(compile=compile))
