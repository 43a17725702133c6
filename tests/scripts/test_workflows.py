"""The workflows: what runs in them is pinned, limited, and not made of what a stranger wrote; what may write
runs nothing that is measured."""

import json
import os
import re
import subprocess

import pytest
import yaml
from places import ROOT

from scripts.gate import record

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
# All that a job which may write does: move data, by git and by a script that uses nothing of the repository.
ACTIONS = ("actions/checkout", "actions/download-artifact", "actions/deploy-pages")
COMMANDS = (
    r"git (fetch|worktree add|-C \S+ (add|commit|push)) .*|python3 -I \.github/\S+\.py .*"
    r'|branch=\$\(git ls-remote "\$REMOTE" \S+\)|if \[ -n "\$branch" \]; then|else|fi'
)


def faults(workflow):
    """What a workflow gives away to the code that runs in it, in words."""
    wrong = [f"on: {event}" for event in workflow[True] if event == "pull_request_target"]
    if workflow.get("permissions") != {"contents": "read"}:
        wrong.append("every job may do more than read")
    for name, job in workflow["jobs"].items():
        allowed = job.get("permissions", {"contents": "read"})
        may_write = not isinstance(allowed, dict) or "write" in allowed.values()
        commands = [line.strip() for step in job["steps"] for line in step.get("run", "").splitlines()]
        foreign = [line for line in commands if not re.fullmatch(COMMANDS, line)]
        if may_write:
            actions = [step["uses"].partition("@")[0] for step in job["steps"] if "uses" in step]
            wrong += [f"{name} may write and runs {line}" for line in foreign]
            wrong += [f"{name} may write and uses {action}" for action in actions if action not in ACTIONS]
            wrong += [] if "needs" in job else [f"{name} may write and takes nothing from another job"]
        for step in job["steps"]:
            lines = [line.strip() for line in step.get("run", "").splitlines()]
            given = step.get("with", {})
            if "workflow_run" in workflow[True] and given.keys() & {"ref", "repository"}:
                wrong.append(f"{name} has rights of its own and checks out {given}")
            if may_write and "run-id" in given:
                wrong.append(f"{name} may write and reads what another run has left")
            secret = re.search(r"github\.token|secrets\.", str({**step, "env": step.get("env")}))
            if not may_write and step.get("uses", "").startswith("actions/download-artifact@"):
                secret = secret and "secrets." in str(
                    step
                )  # its token reads artifacts, and is not in the job's hands
            if secret and ("uses" in step or not all(re.fullmatch(COMMANDS, line) for line in lines)):
                wrong.append(f"{name} shows a token to {step.get('uses', lines)}")
        if re.search(r"github\.token|secrets\.", str(job.get("env", ""))):
            wrong.append(f"{name} shows a token to every step")
    return wrong


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_what_may_write_runs_nothing_that_is_measured(path):
    assert faults(yaml.safe_load(path.read_text())) == []


ONE_JOB = """
on: {event}
permissions: {{contents: read}}
jobs:
  bench:
    permissions: {{contents: write}}
    steps:
      - uses: actions/setup-python@0
      - run: make bench
        env: {{TOKEN: "{token}"}}
      - run: git -C .asv/results push "$REMOTE" results
"""


def test_one_job_for_both_is_a_fault():
    workflow = yaml.safe_load(ONE_JOB.format(event="[push]", token="${{ github.token }}"))
    assert faults(workflow) == [
        "bench may write and runs make bench",
        "bench may write and uses actions/setup-python",
        "bench may write and takes nothing from another job",
        "bench shows a token to ['make bench']",
    ]
    workflow["jobs"]["bench"] |= {"permissions": {"contents": "read"}, "env": {"TOKEN": "${{ secrets.X }}"}}
    workflow |= {True: ["pull_request_target"], "permissions": "write-all"}
    assert faults(workflow) == [
        "on: pull_request_target",
        "every job may do more than read",
        "bench shows a token to ['make bench']",
        "bench shows a token to every step",
    ]


AFTER_A_STRANGER = """
on: {workflow_run: {workflows: [gate]}}
permissions: {contents: read}
jobs:
  both:
    permissions: {pull-requests: write}
    needs: x
    steps:
      - uses: actions/checkout@0
        with: {ref: "${{ github.event.workflow_run.head_sha }}"}
      - uses: actions/download-artifact@0
        with: {run-id: 1, github-token: "${{ github.token }}"}
"""


def test_rights_and_a_strangers_data_in_one_job_are_a_fault():
    wrong = faults(yaml.safe_load(AFTER_A_STRANGER))
    assert [line.partition(" actions/download")[0] for line in wrong] == [
        "both has rights of its own and checks out {'ref': '${{ github.event.workflow_run.head_sha }}'}",
        "both may write and reads what another run has left",
        "both shows a token to",
    ]


def steps(name, job):
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / f"{name}.yml").read_text())
    return workflow, workflow["jobs"][job]["steps"]


def test_the_comment_is_made_of_what_the_gate_leaves():
    gate, measuring = steps("gate", "gate")
    comment, rendering = steps("comment", "render")
    assert comment[True]["workflow_run"]["workflows"] == [gate["name"]]
    left = {
        step["with"]["name"]: step["with"]["path"] for step in measuring if "name" in step.get("with", {})
    }
    (read,) = (step["with"] for step in rendering if step.get("with", {}).get("run-id"))
    assert left[read["name"]] == str(record.PATH)
    (command,) = (step["run"] for step in rendering if "run" in step)
    assert f'"$RUNNER_TEMP/record/{record.PATH.name}"' in command and read["path"].endswith("/record")


def test_a_gate_that_did_not_run_is_not_commented_on():
    """One that waits for approval, was cancelled or left out has measured nothing."""
    workflow, _ = steps("comment", "render")
    (conclusions,) = re.findall(r"fromJSON\('(.*?)'\)", workflow["jobs"]["render"]["if"])
    assert set(json.loads(conclusions)) == {"success", "failure", "timed_out"}


@pytest.mark.parametrize(
    ("name", "job", "run"), [("gate", "gate", "make gate"), ("pages", "bench", "make bench")]
)
def test_what_takes_long_is_ended_before_its_job_is(name, job, run):
    """A step that took too long has failed, and what comes after it is done; a job that did is cancelled."""
    workflow, every = steps(name, job)
    (step,) = (step for step in every if step.get("run", "").startswith(run))
    assert step["timeout-minutes"] + 10 <= workflow["jobs"][job]["timeout-minutes"]
    after = every[every.index(step) + 1 :]
    assert after and all("always()" in step["if"] or "!cancelled()" in step["if"] for step in after)


def test_a_cell_that_failed_does_not_keep_the_site_from_being_published():
    """Which is where it says so. What could not be made is not published."""
    workflow, measuring = steps("pages", "bench")
    deploy = workflow["jobs"]["deploy"]["if"]
    (upload,) = (step for step in measuring if "upload-pages-artifact" in step.get("uses", ""))
    (site,) = (step for step in measuring if step.get("id") == "site")
    assert site["run"] == "make site" and site["if"] == "${{ !cancelled() }}"
    assert upload["if"] == "${{ !cancelled() && steps.site.outcome == 'success' }}"
    assert workflow["jobs"]["bench"]["outputs"] == {"site": "${{ steps.site.outcome }}"}
    assert deploy == "${{ !cancelled() && needs.bench.outputs.site == 'success' }}"


def test_a_pull_request_is_compared_with_what_it_branched_from(tmp_path):
    """Not with what its base did since. The workflow's command, with a make that says what it is asked."""

    def git(*words):
        who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        done = subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    git("init", "-q", "-b", "trunk")
    commits = {}
    for branch in ("trunk", "base", "topic"):
        if commits:
            git("checkout", "-q", "-b", branch, "trunk")
        git("commit", "-q", "--allow-empty", "-m", branch)
        commits[branch] = git("rev-parse", "HEAD")
    (tmp_path / "make").write_text('#!/bin/sh\nprintf "%s\n" "$@"\n')
    (tmp_path / "make").chmod(0o755)
    _, measuring = steps("gate", "gate")
    (run,) = (step["run"] for step in measuring if "run" in step)
    environ = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "BASE": commits["base"]}
    environ["HEAD"] = commits["topic"]
    asked = subprocess.run(
        ["bash", "-e", "-c", run], cwd=tmp_path, env=environ, check=True, capture_output=True, text=True
    )
    assert asked.stdout.split() == [
        "gate",
        f"BASE={commits['trunk']}",
        f"HEAD={commits['topic']}",
        "BUDGET=40m",
    ]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_is_pinned_limited_and_free_of_foreign_text(path):
    text = path.read_text()
    uses = re.findall(r"uses: (.+)", text)
    assert uses and all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", one) for one in uses)
    assert re.search(r"^permissions:\n  contents: read$", text, re.M)
    assert len(re.findall(r"^    timeout-minutes:", text, re.M)) == text.count("runs-on:") > 0
    assert text.count("persist-credentials: false") == text.count("uses: actions/checkout@")
    commands = re.findall(r"run: (?:\|\n((?: {10}.*\n)+)|(.+))", text)
    assert not [one for one in commands if "${{" in "".join(one)]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_what_a_workflow_runs_is_there(path):
    text, targets = path.read_text(), (ROOT / "Makefile").read_text()
    asked = re.findall(r"\bmake ([\w-]+)", re.sub(r"#.*", "", text))
    assert all(re.search(rf"^{target}:", targets, re.M) for target in asked)
    assert ".ci/run" not in text or (ROOT / ".ci" / "run").stat().st_mode & 0o111
    modules = [name.replace(".", "/") + ".py" for name in re.findall(r"python3 -m (\S+)", text)]
    assert all((ROOT / name).is_file() for name in modules)
    kept = re.findall(r"cache-dependency-path: (.+)|python3 -I (\S+)", text)
    assert all((ROOT / "".join(name)).is_file() for name in kept)
