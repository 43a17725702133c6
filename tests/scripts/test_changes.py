"""What changed over a made-up history whose truth is known, as asv's results of it would say."""

import html
import json
import math
import os
import re
import shutil
import subprocess
from contextlib import chdir
from dataclasses import replace

import numpy as np
import pytest
from changing import BATCH_2, CELL, COMMITS, DOCS, NOISE, import_commits, result, write
from places import ROOT
from rich.cells import cell_len

from benchmarks.lm import TimeLMPlanning
from scripts.changes import history
from scripts.changes.__main__ import main
from scripts.changes.history import Commit, Unread
from scripts.changes.report import Report, report
from scripts.changes.show import markdown, text


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """The DiT is 20 % slower from commit 20 to 28, and 1 % more work. Planning has two loaded measurements, a
    spike, and from a docs-only commit on 30 % more. The last decoding is far off, each seventh missing."""
    folder = tmp_path_factory.mktemp("changes") / "repository"
    commits = import_commits(folder)
    shutil.copytree(ROOT / "benchmarks", folder / "benchmarks")
    draw = np.random.default_rng(5)
    for at, commit in enumerate(commits):
        if at % 7 == 6:
            continue
        noise = dict(zip("dlv2", np.exp(draw.normal(0, NOISE, 4)), strict=True))
        slower = 1.2 if 20 <= at < 28 else 1.0
        loaded, lm = at in (9, 10), CELL["TimeLMPlanning"]
        plan = 0.2 * noise["l"] * (2 if loaded else 1.8 if at == 23 else 1) * (1.3 if at >= 30 else 1)
        values = {
            "dit.TimeDiT.track_diffuse": {
                CELL["TimeDiT"]: 0.3 * noise["d"] * slower, BATCH_2: 0.6 * noise["2"] * slower,
            },
            "vae.TimeVAEDecode.track_vae_decode": {
                CELL["TimeVAEDecode"]: 0.1 * noise["v"] * (2.64 if at == 39 else 1),
                (5, 2): None, (15, 1): math.nan,
            },
            "lm.TimeLMPlanning.track_plan": {lm: plan},
            "costs.TrackCost.track_flop": {CELL["TrackCost"]: 1e12 * (1.01 if 20 <= at < 28 else 1.0)},
        }  # fmt: skip
        cell = TimeLMPlanning().cell(*lm).name
        conditions = {cell: {"other_cores": 1.5 if loaded else 0.05, "cores": 2, "throttle_events": None}}
        write(folder, commit, result(commit, at, values, conditions))
    return folder, commits


@pytest.fixture(scope="module")
def found(repository):
    with chdir(repository[0]):
        return report(history.read(), 1_790_000_000.0 + 3 * 3600)


def test_a_commit_says_whose_it_is_and_whether_it_changes_what_runs(copied):
    """A name may have what separates fields; a tag is of its commit, annotated or not."""
    folder, commits = copied
    who = {"GIT_AUTHOR_NAME": "A\x1fB\tC", "GIT_AUTHOR_EMAIL": "a@example.org", "GIT_COMMITTER_NAME": "C",
           "GIT_COMMITTER_EMAIL": "c@example.org"}  # fmt: skip
    for arguments in (
        ["tag", "-a", "-m", "x", "v1", commits[20]], ["tag", "v2", commits[30]], ["read-tree", "HEAD"],
        ["commit", "-q", "--allow-empty", "--allow-empty-message", "-m", ""],
    ):  # fmt: skip
        subprocess.run(["git", *arguments], cwd=folder, check=True, env=os.environ | who)
    read = history.read()
    assert read.releases == {20: "v1", 30: "v2"}
    assert {at for at, one in enumerate(read.commits) if not one.code} == {*DOCS, COMMITS}
    last = read.commits[-1]
    assert (last.author, last.subject, last.parents) == ("A\x1fB\tC", "", (commits[-1],))
    assert (read.commits[0].author, read.commits[0].parents) == ("A", ())


def by_stage(machine, stage, unit="seconds"):
    return [shift for shift in machine.shifts if (shift.stage, shift.unit) == (stage, unit)]


def test_a_step_and_its_revert_are_two_of_all_series_that_have_it(found, repository):
    (machine,) = found.machines
    back, slower = by_stage(machine, "diffuse")
    assert [len(shift.series) for shift in (slower, back)] == [2, 2]
    assert (slower.worse, back.worse, slower.by_code, back.by_code) == (True, False, True, True)
    assert repository[1].index(slower.commit.sha) in (21, 22)  # 20 was not measured
    assert slower.low <= 0.2 <= slower.high and abs(slower.change - 0.2) < 0.03
    assert slower.candidates >= 2
    assert slower.commit.date.startswith("2026-06")


def test_what_has_no_noise_is_told_of_the_very_commit(found, repository):
    back, more = by_stage(found.machines[0], "diffuse", "FLOP")
    assert (
        repository[1].index(more.commit.sha) == 21 and more.candidates == 2
    )  # the one before was not measured
    assert repository[1].index(back.commit.sha) == 28 and back.candidates == 2
    assert more.change == pytest.approx(0.01) and more.exact


def test_a_change_where_no_code_changed_is_not_the_commits(found, repository):
    """Planning is slower from a docs-only commit on."""
    (shift,) = by_stage(found.machines[0], "wall")
    assert repository[1].index(shift.commit.sha) == 30
    assert (shift.by_code, shift.worse) == (False, True)


def test_what_was_doubtful_before_it_may_have_done_it(copied):
    """The same where the two commits before, which changed code, were measured beside other work."""
    folder, commits = copied
    for at in (28, 29):
        place = folder / ".asv/results/a-cpu" / f"{commits[at][:8]}-checkout.json"
        content = json.loads(place.read_text())
        content["conditions"] = {name: {"other_cores": 2, "cores": 2} for name in content["conditions"]}
        place.write_text(json.dumps(content))
    (shift,) = by_stage(report(history.read()).machines[0], "wall")
    assert (commits.index(shift.commit.sha), shift.by_code, shift.candidates) == (30, True, 4)


def test_noise_is_said_to_be_noise(found):
    (machine,) = found.machines
    assert by_stage(machine, "vae_decode") == []
    (lone,) = machine.lone  # the last one, of a docs-only commit
    assert (lone.stage, lone.series) == ("vae_decode", 1) and 1.5 < lone.change < 1.8
    noise = {one.stage: one for one in machine.noise}
    assert noise["diffuse"].width == pytest.approx(NOISE, rel=0.5)
    assert noise["diffuse"].detectable > noise["diffuse"].width


def test_doubtful_measurements_are_left_out_and_told(found, repository):
    doubtful = found.machines[0].doubtful
    assert [repository[1].index(one.commit.sha) for one in doubtful] == [10, 9]
    assert doubtful[0].reason == "other work kept 1.5 of 2 cores busy" and doubtful[0].series == 1


def test_the_age_of_what_is_there(found):
    (machine,) = found.machines
    assert (machine.behind, machine.commits, found.commits) == (0, 35, COMMITS)
    assert machine.age_s == pytest.approx(3 * 3600, abs=1)
    assert machine.series == 5  # what was never more than n/a or failed is none


@pytest.fixture
def copied(repository, tmp_path, monkeypatch):
    """The repository by itself, to add results to."""
    folder = tmp_path / "copy"
    subprocess.run(["cp", "-r", repository[0], folder], check=True)
    monkeypatch.chdir(folder)
    return folder, repository[1]


def test_unlike_machines_are_never_compared(copied):
    """A processor of twice the speed under the same name, as CI has them, is a history of its own."""
    folder, commits = copied
    for at in (37, 38, 39):
        place = folder / ".asv/results/a-cpu" / f"{commits[at][:8]}-checkout.json"
        content = json.loads(place.read_text())
        content["params"]["cpu"] = "B"
        for row in content["results"].values():
            row[0] = [value and value / 2 for value in row[0]]
        place.write_text(json.dumps(content))
    machines = report(history.read()).machines
    assert sorted(machine.facts["cpu"] for machine in machines) == ["A", "B"]
    assert [machine.shifts for machine in machines if machine.facts["cpu"] == "B"] == [()]


def test_results_of_another_version_or_branch_are_left_out(copied):
    folder, commits = copied
    content = result("f" * 40, 0, {"vae.TimeVAEDecode.track_vae_decode": {(5, 1): 9.0}})
    write(folder, "f" * 40, content)
    last = folder / ".asv/results/a-cpu" / f"{commits[39][:8]}-checkout.json"
    content = json.loads(last.read_text())
    content["results"]["vae.TimeVAEDecode.track_vae_decode"][2] = "another"
    last.write_text(json.dumps(content))
    found = report(history.read())
    assert found.elsewhere == 1 and found.machines[0].lone == ()


def test_few_commits_are_said_to_be_few(copied):
    folder, commits = copied
    for path in (folder / ".asv/results/a-cpu").glob("*-checkout.json"):
        if path.name[:8] not in {commit[:8] for commit in commits[:4]}:
            path.unlink()
    (machine,) = report(history.read()).machines
    assert machine.shifts == () and machine.noise == ()
    assert "5 commits at least" in "".join(line for _, line in text(report(history.read())))


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr("sys.argv", ["changes", *arguments])
    code = main()
    return code, *capsys.readouterr()


def test_text_is_for_a_terminal_of_80_columns(repository, monkeypatch, capsys):
    monkeypatch.chdir(repository[0])
    code, out, err = run(monkeypatch, capsys)
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80 and out.replace("\n", "").isprintable()
    for expected in (
        "slower   diffuse, DiT", "faster   diffuse, DiT", "machine  wall, LM", "+1.0 % FLOP", "2 series",
        "No code changed there", "vae_decode, VAE: +166 %", "other work kept 1.5 of 2 cores",
    ):  # fmt: skip
        assert expected in out, expected
    assert "\x1b" not in out


def test_markdown_gives_no_orders(copied, monkeypatch, capsys):
    folder, commits = copied
    for at in range(20, 28):  # now the one with the hostile subject did it, and nothing hides that
        if at % 7 != 6:
            continue
        write(
            folder,
            commits[at],
            result(commits[at], at, {"costs.TrackCost.track_flop": {CELL["TrackCost"]: 1.01e12}}),
        )
    code, out, _ = run(monkeypatch, capsys, "--format", "markdown")
    assert code == 0 and "&#64;octocat" in out and "| **worse** | diffuse, DiT | +1.0 % FLOP |" in out
    assert not re.search(r"@|<img|\x1b|\u202e", out)
    assert "unlike machines are never compared" in html.unescape(out)


def test_json_is_the_whole_of_it(repository, monkeypatch, capsys, found):
    monkeypatch.chdir(repository[0])
    code, out, _ = run(monkeypatch, capsys, "--format", "json")
    content = json.loads(out)
    assert (code, content["format"], content["version"]) == (0, "acestep-changes", 1)
    assert [one["stage"] for one in content["machines"][0]["shifts"]] == [
        one.stage for one in found.machines[0].shifts
    ]
    assert content["head"]["sha"] == repository[1][-1] and isinstance(found.head, Commit)


def test_a_file_that_is_no_result_is_left_out_and_told(copied, found):
    """The others say what they say without it."""
    folder, commits = copied
    path = folder / ".asv/results/a-cpu" / f"{commits[3][:8]}-checkout.json"
    path.write_text("[" * 200_000)
    shown = report(history.read())
    assert [one.file for one in shown.unread] == [f"a-cpu/{path.name}"]
    assert shown.machines[0].commits == 34
    commits_of = [[one.commit for one in each.machines[0].shifts] for each in (shown, found)]
    assert commits_of[0] == commits_of[1]
    assert f"{path.name} was left out: " in " ".join(line for _, line in text(shown))
    assert f"{path.name}</code> was left out: " in html.unescape(markdown(shown))


def test_many_doubtful_commits_do_not_fill_the_screen(found):
    (machine,) = found.machines
    many = replace(found, machines=(replace(machine, doubtful=machine.doubtful * 20),))
    lines = [line for _, line in text(many)]
    assert sum("measurements left out" in line for line in lines) == 5
    assert any("35 older commits" in line for line in lines)


def test_lines_fit_the_columns_of_any_script():
    """A subject in Chinese takes two columns a character."""
    commit = Commit("a" * 40, "2026-06-01", "加快扩散模型的采样速度" * 8)
    shown = Report(commit, 1, 1, (Unread("加" * 60, "it is a folder"),), ())
    assert all(cell_len(line) <= 80 for _, line in text(shown))


@pytest.mark.parametrize("kind", ["none", "broken", "no repository", "another version", "elsewhere"])
def test_without_results_it_is_one_line_that_says_what_to_do(copied, monkeypatch, capsys, kind):
    folder, _ = copied
    results = folder / ".asv/results"
    if kind == "no repository":
        shutil.rmtree(folder / ".git")
    elif kind == "none":
        results.rename(folder / "elsewhere")
    elif kind == "another version":  # whose commits would count as measured, and as the same
        for path in results.glob("*/*-checkout.json"):
            content = json.loads(path.read_text())
            for row in content["results"].values():
                row[2] = "another"
            path.write_text(json.dumps(content))
    elif kind == "elsewhere":
        orphan = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-q", "-m", "x"]
        for command in (["git", "checkout", "-q", "--orphan", "other"], [*orphan, "--allow-empty"]):
            subprocess.run(command, cwd=folder, check=True)
    else:
        for path in results.glob("*/*-checkout.json"):
            path.write_text('{"version": 1}')
    code, out, err = run(monkeypatch, capsys)
    assert (code, out, err.count("\n")) == (3, "", 1)
    expected = {
        "none": "make bench",
        "broken": "35 files that are no results",
        "another version": "numbers of another version of ",
        "elsewhere": "35 results of commits that are not on it; ",
        "no repository": "root of the repository",
    }
    assert expected[kind] in err


def test_a_wrong_flag_is_one_line(monkeypatch, capsys):
    code, out, err = run(monkeypatch, capsys, "--format", "html")
    assert (code, out, err.count("\n")) == (2, "", 1) and "markdown" in err


def test_what_has_no_ratio_is_told_by_what_it_has(found):
    """Decibels by their difference, exit codes by what they were and are."""
    (machine,) = found.machines
    shift, moved = machine.shifts[0], replace(machine.shifts[0].series[0], before=0.0, after=20.0, ratio=None)
    for unit, expected in {"dB": "+20 dB", "exit code": "fits → out of memory"}.items():
        apart = replace(shift, unit=unit, change=None, difference=20.0, series=(moved,))
        told = replace(found, machines=(replace(machine, shifts=(apart,)),))
        assert any(expected in line for _, line in text(told)) and f"| {expected} |" in markdown(told)
