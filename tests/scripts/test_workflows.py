"""The workflows: what runs in them is pinned, limited, and not made of what a stranger wrote."""

import re

import pytest
from places import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_is_pinned_limited_and_free_of_foreign_text(path):
    text = path.read_text()
    uses = re.findall(r"uses: (.+)", text)
    assert uses and all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", one) for one in uses)
    assert re.search(r"^permissions:\n  contents: read$", text, re.M)
    assert text.count("timeout-minutes:") == text.count("runs-on:") > 0
    assert text.count("persist-credentials: false") == text.count("uses: actions/checkout@")
    commands = re.findall(r"run: (?:\|\n((?: {10}.*\n)+)|(.+))", text)
    assert not [one for one in commands if "${{" in "".join(one)]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_what_a_workflow_runs_is_there(path):
    text, targets = path.read_text(), (ROOT / "Makefile").read_text()
    asked = re.findall(r"\bmake ([\w-]+)", re.sub(r"#.*", "", text))
    assert all(re.search(rf"^{target}:", targets, re.M) for target in asked)
    assert ".ci/run" not in text or (ROOT / ".ci" / "run").stat().st_mode & 0o111
    kept = re.findall(r"cache-dependency-path: (.+)", text)
    assert all((ROOT / name).is_file() for name in kept)
