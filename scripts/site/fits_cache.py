"""Predictions for the page of fits: those that are kept of the code as it is, or made now, once."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import msgspec

from benchmarks import _matrix
from harness import console
from harness.errors import MissingPrerequisite
from scripts.git import git
from scripts.site.fits_record import Fits
from scripts.site.page import Site

FOLDER = Path(".asv/fits")
CODE = ("harness", "acestep", "tiersim", "calibrations")  # that a prediction rests on
COMMAND = "python -m scripts.site.fits_predict"
ONLY_KEPT = "ACESTEP_FITS_KEPT"  # a variable: set, nothing is predicted for the site


@dataclass(frozen=True, slots=True)
class Predictions:
    """What is predicted, None where nothing is to be had; `note`: why not, or of which code it is."""

    fits: Fits | None
    note: str = ""


def predicted(site: Site) -> Predictions:
    """What is predicted of the code that is checked out: kept, or made now, a minute once for each state of
    the code; else the last that was."""
    try:
        state = _state()
    except MissingPrerequisite:
        return Predictions(None, f"This branch lacks some of {', '.join(CODE)}: nothing can be predicted.")
    sizes = [f"{size:g}" for size in _matrix.left("tier_gb", _matrix.TIERS_GB)]
    some = [] if len(sizes) == len(_matrix.TIERS_GB) else sizes
    only = f"Of cards of {', '.join(some)} GB alone, as {_matrix.FILTER} says." if some else ""
    for folder, note in ((FOLDER / state, ""), (FOLDER / "-".join([state, *some]), only)):
        if fits := _read(folder):
            return Predictions(fits, note)
    if os.environ.get(ONLY_KEPT):
        return _older("Not predicted of this code yet: make site does it, in some two minutes of one core.")
    if reason := _why_not(site):
        return _older(f"Not predicted of this code: {reason}. {COMMAND} {FOLDER / state} does it.")
    if _predict(folder, some) and (fits := _read(folder)):
        return Predictions(fits, only)
    return _older(f"Not predicted of this code: {COMMAND} failed; {FOLDER} has what it got to.")


def _state() -> str:
    """The state of the code that predictions rest on, uncommitted changes included, and of torch.

    Raises MissingPrerequisite where the branch lacks some of it.
    """
    trees = git("rev-parse", *(f"HEAD:{folder}" for folder in CODE))
    facts = trees, git("diff", "HEAD", "--", *CODE), version("torch") if find_spec("torch") else ""
    return hashlib.sha256("\0".join(facts).encode()).hexdigest()[:16]


def _why_not(site: Site) -> str:
    """Why nothing is predicted now; empty where it is."""
    last = len(site.history.commits) - 1
    if not any(last in machine.measured for machine in site.history.machines):
        return "the last commit is not measured"
    if find_spec("torch") is None:
        return "torch is not installed"
    if os.environ.get(_matrix.FILTER) and "tier_gb" not in _matrix.chosen():
        return f"{_matrix.FILTER} asks for less"
    return ""


def _predict(folder: Path, sizes: list[str]) -> bool:
    """Predict into `folder`, in a process of its own, as torch has no place in asv's."""
    console.say("fits", f"predicting what fits which card, once for this code; kept in {folder}")
    return subprocess.run([sys.executable, *COMMAND.split()[1:], str(folder), *sizes]).returncode == 0


def _read(folder: Path) -> Fits | None:
    try:
        return msgspec.json.decode((folder / "fits.json").read_bytes(), type=Fits)
    except (OSError, msgspec.DecodeError):
        return None  # not there, or of a version that is no longer read


def _older(reason: str) -> Predictions:
    """The last that was predicted, with the reason why nothing newer is."""
    files = sorted(FOLDER.glob("*/fits.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    fits = next(filter(None, (_read(path.parent) for path in files)), None)
    shown = f" What is shown is of commit {fits.commit[:12]}, {fits.date}." if fits else ""
    return Predictions(fits, reason + shown)
