"""What is made of a recording, and what guidance and solvers cost: at the shortest length, one item."""

from ._figures import _Diffusion, _Stages, _Wall
from ._matrix import GUIDANCE, METHODS, SHORTEST_S, STAGES, TASKS


class TimeTask(_Wall):
    """Wall time of one task on a recording, the file written."""

    version = "2"
    kind = "task"
    params = (TASKS, SHORTEST_S)
    param_names = ("task", "duration_s")


class TrackTaskStages(_Stages):
    """Each stage of a task; they add up to its wall time."""

    version = "2"
    kind = "task"
    params = (STAGES, TASKS, SHORTEST_S)
    param_names = ("stage", "task", "duration_s")


class TimeSolver(_Diffusion):
    """Diffusion of base weights. Guidance doubles the rows of a step, heun doubles the steps."""

    version = "2"
    kind = "solver"
    params = (METHODS, GUIDANCE, SHORTEST_S)
    param_names = ("method", "guidance", "duration_s")
