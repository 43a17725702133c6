"""One set of versions: what asv installs is what make and CI install."""

import json
import re
import tomllib

from places import ROOT


def normal(name):
    return re.sub(r"[-_.]+", "-", name.removeprefix("pip+")).lower()


def matrix():
    text = re.sub(r"^\s*//.*$", "", (ROOT / "asv.conf.json").read_text(), flags=re.MULTILINE)
    return json.loads(text)["matrix"]["req"]


def test_the_matrix_has_the_versions_of_the_constraints():
    lines = (line for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    pins = {normal(name): version for name, _, version in (line.partition("==") for line in lines)}
    assert {normal(name): versions for name, versions in matrix().items()} == {
        normal(name): [pins[normal(name)]] for name in matrix()
    }


def test_the_matrix_has_everything_the_engine_imports():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {normal(re.match(r"[\w.-]+", line)[0]) for line in project["dependencies"]}
    assert needed <= {normal(name) for name in matrix()}
