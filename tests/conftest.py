"""Shared by the tests of the benchmarks and of what surrounds them: a small history to run asv on."""

from __future__ import annotations

import gc
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings
from places import ROOT

from harness.trace import frames

HOOK = frames.hook()

# Tiny models gain nothing from a second thread, and two spinning pools on two busy cores lose tenfold.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Nor does what compiles a layer of them: it would start processes that import torch, and build and load a
# library for each set of instructions there is.
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
os.environ.setdefault("TORCHINDUCTOR_VEC_ISA_OK", "1")

# Hundreds of processes start from our modules: the first compiles them for all.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# HYPOTHESIS_PROFILE names one. Where a test wants a number of examples it gets as many in both, and where it
# wants a share of the profile's, that.
# By day hypothesis' own profile ci, which draws the same examples each time; by night new ones, and more.
settings.register_profile(
    "nightly", max_examples=20 * settings.default.max_examples, deadline=None, derandomize=False
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

# A shell's background jobs ignore Ctrl-C, and so would every process that a test starts and interrupts.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Files that take longest, and are run first: at the end one of them would leave a core with nothing to do.
LONGEST = (
    "scripts/test_gate_whole.py", "acestep/diffusion/test_compiled_music.py", "scripts/test_site.py",
    "acestep/profiler/test_modes.py", "acestep/profiler/test_matrix.py", "tiersim/test_worker.py",
    "tiersim/test_command.py", "tiersim/test_supervisor.py", "tiersim/test_predictors.py", "test_commands.py",
    "acestep/cli/test_cli.py", "acestep/test_engine.py", "benchmarks/test_asv.py", "benchmarks/test_cold.py",
    "harness/trace/test_replay.py", "acestep/models/test_quantized_dit.py",
    "acestep/costs/test_determinism.py", "scripts/test_explorer.py", "test_kills.py", "test_terminals.py",
    "toy_subject/test_toy_benchmark.py",
)  # fmt: skip

# What every entry point imports, and a made-up engine needs.
LIGHT = ("harness", "acestep/__init__.py", "acestep/defaults.py", "acestep/request.py", "acestep/result.py",
         "acestep/spelling.py", "acestep/tasks.py", "acestep/text/__init__.py",
         "acestep/text/audio_codes.py")  # fmt: skip

# Axes as short as they can be with something to measure and something that is n/a on each.
NARROW = {
    "TINY_DURATIONS_S": (5,),
    "GUIDE_DURATIONS_S": (30,),
    "BATCHES": (1,),
    "STAGES": ("load_audio", "diffuse"),
    "TASKS": ("cover", "reference"),
    "METHODS": ("ode", "heun"),
    "GUIDANCE": ("none", "apg"),
    "BACKENDS": ("pt", "vllm"),
    "QUANTIZATIONS": ("none", "int8_weight_only"),
    "LM_STAGES": ("offload", "lm_prefill"),
    "TEXT_MODES": ("understand",),
    "SCALED": ("resample",),
    "TIERS_GB": (4, 8),
    "COST_DURATIONS_S": (30,),
    "COST_BATCHES": (1,),
    "COST_STAGES": ("lm_decode", "diffuse"),
}

# An engine whose times are made up from the request, so no test depends on a clock; and how it is had.
SETUP = """
class Setup:
    @classmethod
    def choose(cls, lm="auto", dit=None):
        return cls()
"""
SUBJECT = """
from acestep.request import GenerationConfig, GenerationParams
from acestep.setup import Setup
from harness.subject import item_seeds


class Subject:
    def setup(self, **choices):
        return Setup.choose(**choices)

    def request(self, duration_s, seed, batch_size=2, preset="fixed", **music):
        config = GenerationConfig(batch_size=batch_size, seeds=item_seeds(seed, batch_size))
        return GenerationParams(duration=duration_s, **music), config

    def resolve(self, request, setup):
        return request

    def load(self, setup):
        from acestep.engine import Engine

        return Engine(setup)


SUBJECT = Subject()
"""
ENGINE = """
from dataclasses import dataclass
from acestep.result import Counts

SLOWER = 1.0
calls = 0
hook = lambda params, config: None


@dataclass
class Result:
    stages_s: dict
    counts: Counts

    @property
    def wall_s(self):
        return sum(self.stages_s.values())


class Engine:
    load_s = 0.5
    environment = {
        "source": "synthetic-tiny", "device": "cpu", "device_name": "made-up", "dtype": "float32",
        "lm": "lm", "lm_backend": "pt", "torch": "0", "threads": 2,
    }

    def __init__(self, setup):
        self.setup = setup

    def run_lm(self, plan):
        params, config = plan
        tokens = int(5 * params.duration) * config.batch_size
        counts = Counts(audio_s=params.duration, lm_prefill_tokens=100, lm_decode_tokens=tokens)
        return Result({"lm_prefill": jitter(0.1), "lm_decode": jitter(0.002 * tokens), "other": 1e-4}, counts)

    def run(self, plan, save_dir=None):
        params, config = plan
        hook(params, config)
        planned = self.run_lm(plan)
        work = params.duration * config.batch_size
        stages = planned.stages_s if params.thinking else {}
        stages |= {
            "diffuse": jitter(0.001 * work * (params.inference_steps or 8) * SLOWER),
            "vae_decode": jitter(0.01 * work), "save": jitter(0.001), "other": 1e-4,
        }
        return Result(stages, planned.counts)

    def create(self, params):
        counts = Counts(lm_prefill_tokens=100, lm_decode_tokens=params.max_lyrics_tokens)
        return Result({"lm_prefill": jitter(0.1), "lm_decode": jitter(0.1), "other": 1e-4}, counts)

    understand = format = create


def jitter(seconds):
    global calls
    calls += 1
    return seconds * (1 + calls % 7 / 1000)

"""


def copy(names: Iterable[str], folder: Path) -> None:
    """Files and folders of this repository, to the same places below `folder`; made-up engines have no
    parity, no functions to time by themselves, and nothing to predict."""
    for name in names:
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            left_out = shutil.ignore_patterns("__pycache__", "parity.py", "micro.py", "waits.py")
            shutil.copytree(source, target, ignore=left_out)
        else:
            shutil.copy(source, target)


def write_engine(acestep: Path, engine: str) -> None:
    """A commit's engine, into the folder of its package."""
    for name, text in {"setup": SETUP, "subject": SUBJECT, "engine": engine}.items():
        (acestep / f"{name}.py").write_text(text)


@dataclass(frozen=True)
class History:
    """A repository with this one's benchmarks and made-up engines, and the environment to run it in."""

    path: Path
    environ: dict[str, str]
    engine = ENGINE

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess:
        process = subprocess.run(command, cwd=self.path, env=self.environ, capture_output=True, text=True)
        assert not check or process.returncode == 0, process.stdout + process.stderr
        return process

    def asv(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess:
        return self.run(sys.executable, "-m", "asv", *arguments, check=check)

    def commit(self, subject: str, engine: str | None) -> str:
        if engine is not None:
            write_engine(self.path / "acestep", engine)
        self.run("git", "add", "-A")
        self.run("git", "commit", "-q", "--allow-empty", "-m", subject)
        return self.run("git", "rev-parse", "HEAD").stdout.strip()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {ROOT / "tests" / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


def pytest_collection() -> None:
    gc.disable()  # what is there before the first test is no garbage, and is gone through never again


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def _frames_as_before() -> Iterator[None]:
    """Where compiling fails, torch leaves its hook on frames behind, which slows down what comes after."""
    yield
    if frames.hook() != HOOK:
        frames.set_hook(HOOK)


@pytest.fixture(autouse=True)
def _no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Output is as wide as where there is no terminal: what runs pytest may say how wide its own is."""
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A function that makes a commit's checkout current, as asv would. `engine`: its code, or None for a
    commit that has no engine yet; `hook`: code that runs before each generation."""

    def make(engine: str | None = ENGINE, hook: str = "") -> None:
        project = tmp_path / "env" / "project"
        copy(LIGHT, project)
        if engine is not None:
            write_engine(project / "acestep", engine + hook)
        for name, value in {"ASV_CONF_DIR": tmp_path, "ASV_ENV_DIR": tmp_path / "env"}.items():
            monkeypatch.setenv(name, str(value))
        monkeypatch.setenv("PYTHONPATH", str(project))
        monkeypatch.setenv("ACESTEP_BENCH_CELLS", "duration_s=5 batch=1,2 steps=8")

    return make


def write_history(folder: Path) -> History:
    """Two commits below `folder`: one from before the engine, one with it."""
    repository = folder / "repository"
    copy((*LIGHT, "acestep/gpu_config.py", "acestep/weights/__init__.py", "acestep/weights/layout.py",
          "acestep/weights/sources.py"), repository)  # fmt: skip
    copy(("benchmarks", "scripts", "asv.conf.json", "pyproject.toml", ".gitignore"), repository)
    home = folder / "home"
    home.mkdir()
    (home / ".gitconfig").write_text(
        "[user]\n name = nobody\n email = nobody@example.org\n[init]\n defaultBranch = main\n"
    )
    keep = {k: v for k, v in os.environ.items() if not k.startswith(("ACESTEP_", "ASV_", "GIT_", "GITHUB_"))}
    cells = {"ACESTEP_SOURCE": "synthetic-tiny", "ACESTEP_BENCH_CELLS": "duration_s=5 batch=1,2 steps=8"}
    past = History(repository, keep | cells | {"HOME": str(home)})
    past.run("git", "init", "-q")
    past.commit("Before the engine", None)
    past.commit("The engine", ENGINE)
    return past


@pytest.fixture
def history(tmp_path: Path) -> History:
    return write_history(tmp_path)


@pytest.fixture(scope="module")
def shared_history(tmp_path_factory: pytest.TempPathFactory) -> History:
    """One for all tests of a module, which measures it once and then only reads."""
    return write_history(tmp_path_factory.mktemp("history"))


@pytest.fixture
def narrow(history: History) -> History:
    """The same with short axes: asv starts a process for every combination, measured or not."""
    matrix = history.path / "benchmarks/_matrix/axes.py"
    text = matrix.read_text()
    for name, values in NARROW.items():
        text, replaced = re.subn(rf"^{name} = \([^)]*\)", f"{name} = {values}", text, flags=re.MULTILINE)
        assert replaced == 1, name
    matrix.write_text(text)
    history.environ["ACESTEP_BENCH_CELLS"] = "duration_s=5 steps=8"
    history.commit("Measure less", None)
    return history
