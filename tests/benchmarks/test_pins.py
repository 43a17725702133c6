"""One set of versions: what asv and uv install is what make and CI install."""

import importlib
import inspect
import json
import pkgutil
import re
import subprocess
import sys
import tomllib

import pytest
from packaging.requirements import Requirement
from places import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]


def normal(name):
    return re.sub(r"[-_.]+", "-", name.removeprefix("pip+")).lower()


def matrix():
    text = re.sub(r"^\s*//.*$", "", (ROOT / "asv.conf.json").read_text(), flags=re.MULTILINE)
    return json.loads(text)["matrix"]["req"]


def pins():
    """Versions of constraints.txt, by name."""
    lines = (line for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    return {normal(name): version for name, _, version in (line.partition("==") for line in lines)}


def test_the_matrix_has_the_versions_of_the_constraints():
    assert {normal(name): versions for name, versions in matrix().items()} == {
        normal(name): [pins()[normal(name)]] for name in matrix()
    }


def test_uv_has_the_versions_of_the_constraints():
    lines = map(Requirement, PROJECT["tool"]["uv"]["constraint-dependencies"])
    assert {normal(line.name): str(line.specifier) for line in lines} == {
        name: f"=={version}" for name, version in pins().items()
    }


@pytest.mark.parametrize("extra", ["dependencies", *EXTRAS])
def test_what_an_extra_asks_for_is_to_be_had(extra):
    """uv resolves every extra at once: none may ask for a local version, or for another than the pins."""
    unresolved = {Requirement(line).name for line in PROJECT["tool"]["uv"]["override-dependencies"]}
    for line in EXTRAS.get(extra, PROJECT["project"]["dependencies"]):
        asked = Requirement(line)
        assert "+" not in str(asked.specifier)
        if asked.name not in unresolved | {"mlx", "mlx-lm"}:  # pinned in constraints-backends.txt
            assert pins()[normal(asked.name)] in asked.specifier


@pytest.mark.parametrize("name", ["acestep", "tiersim"])
def test_a_console_script_is_the_command(name):
    module, function = PROJECT["project"]["scripts"][name].split(":")
    script = f"import sys; from {module} import {function}; sys.exit({function}())"
    command = subprocess.run(
        [sys.executable, "-m", name, "--help"], capture_output=True, text=True, check=True
    )
    ran = subprocess.run([sys.executable, "-c", script, "--help"], capture_output=True, text=True, check=True)
    assert command.stdout and ran.stdout == command.stdout


@pytest.mark.parametrize("name", ["acestep", "tiersim", "harness"])
def test_no_name_of_a_package_hides_one_of_its_modules(name):
    package = importlib.import_module(name)
    for module in pkgutil.iter_modules(package.__path__):
        attribute = getattr(package, module.name, None)
        assert attribute is None or inspect.ismodule(attribute), module.name


def test_the_matrix_has_everything_the_engine_imports():
    needed = {normal(Requirement(line).name) for line in PROJECT["project"]["dependencies"]}
    assert needed <= {normal(name) for name in matrix()}
