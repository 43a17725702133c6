"""The parts of a run: each a module with `steps(task)`."""
