"""What can go wrong, and the exit code each kind of wrong has.

    BenchError               1   the run failed (silent audio, NaN latents)
    ├─ UsageError           2   the request is wrong: a field, a flag, a combination
    └─ MissingPrerequisite  3   the request is right, this machine lacks something (device, weights)
       └─ CheckpointError   3   a checkpoint folder is there and is wrong

Every message is one line: what, where, what is allowed, what to do next. Nothing here imports torch,
so a command can refuse bad input before paying for it.
"""


class BenchError(Exception):
    """Base of everything this package raises on purpose."""

    exit_code = 1


class UsageError(BenchError):
    """The caller asked for something that is not allowed."""

    exit_code = 2


class MissingPrerequisite(BenchError):
    """The machine lacks what the request needs."""

    exit_code = 3


class CheckpointError(MissingPrerequisite):
    """A checkpoint folder exists and cannot be used."""
