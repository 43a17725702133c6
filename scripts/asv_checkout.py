"""The `checkout` environment of asv: any commit, with the interpreter asv itself runs in.

Nothing is created and nothing is installed. A commit is checked out into `.asv/env` and put in front of
the import path, so a benchmark of ten commits costs ten `git checkout`s, and it runs on the torch (and
CUDA) that is already here:

    asv run -E checkout HEAD~10..HEAD

asv names an environment after the versions its configuration asks for. Nobody installed those here, so
this one reads the truth back: the running Python, the installed torch, the weights in use.
"""

import os
import sys
from importlib.metadata import version
from pathlib import Path

from asv.environment import Environment

from acestep.weights.layout import ENVIRONMENT as SOURCE
from acestep.weights.layout import SYNTHETIC
from acestep.weights.sources import choose_source
from benchmarks._matrix import LMS, language_model
from scripts.machine import NONE, gpu_facts


class Checkout(Environment):
    """Runs the commit under test straight from its checkout."""

    tool_name = "checkout"

    def __init__(self, conf, python, requirements, tagged_env_vars):
        source, _ = choose_source(None, accelerator=gpu_facts()["gpu"] != NONE)
        self._source = source if source in SYNTHETIC else str(Path(source).resolve())
        python = f"{sys.version_info.major}.{sys.version_info.minor}"
        self._requirements = {"torch": version("torch").partition("+")[0]}
        super().__init__(conf, python, self._requirements, {("nobuild", SOURCE): series(self._source)})

    @classmethod
    def matches(cls, python):
        return False  # only by name, `-E checkout`

    def check_presence(self):
        return Path(self._path).is_dir()

    def _setup(self):
        Path(self._path).mkdir(parents=True, exist_ok=True)

    def install_project(self, conf, repo, commit_hash):
        self.checkout_project(repo, commit_hash)
        self._set_installed_commit_hash(commit_hash)

    def find_executable(self, executable):
        return sys.executable if executable == "python" else super().find_executable(executable)

    def run(self, args, **kwargs):
        environ = kwargs.pop("env", os.environ) | {SOURCE: self._source, "ASV_PYTHONPATH": self._build_root}
        return self.run_executable("python", args, env=environ, **kwargs)


def series(source: str) -> str:
    """The name that series of a source of weights carry: the last part of a path, the rest stays private.

    The language model that is measured follows where it is not the usual one.
    """
    lm = language_model(source)
    return Path(source).name + (f"+{lm}" if lm not in (LMS[0], None) else "")
