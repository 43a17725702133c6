"""What is made of a recording, and what guidance and solvers cost: at the shortest length, one item."""

from ._matrix import GUIDANCE, METHODS, SHORTEST_S, STAGES, TASKS, cell
from .common import Suite, _Stages, tracks


class TimeTask(Suite):
    """Wall time of one task on a recording, the file written."""

    version = "2"
    params = (TASKS, SHORTEST_S)
    param_names = ("task", "duration_s")

    def cell(self, task, duration_s):
        return cell("task", task=task, duration_s=duration_s)

    @tracks("seconds")
    def track_wall(self, *_):
        return self.samples(lambda run: run["wall_s"])


class TrackTaskStages(_Stages):
    """Each stage of a task; they add up to its wall time."""

    version = "2"
    params = (STAGES, TASKS, SHORTEST_S)
    param_names = ("stage", "task", "duration_s")

    def cell(self, stage, task, duration_s):
        return cell("task", task=task, duration_s=duration_s)


class TimeSolver(Suite):
    """Diffusion of base weights. Guidance doubles the rows of a step, heun doubles the steps."""

    version = "2"
    params = (METHODS, GUIDANCE, SHORTEST_S)
    param_names = ("method", "guidance", "duration_s")

    def cell(self, method, guidance, duration_s):
        return cell("solver", method=method, guidance=guidance, duration_s=duration_s)

    @tracks("seconds")
    def track_diffuse(self, *_):
        return self.stage("diffuse")
