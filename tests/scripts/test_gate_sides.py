"""The two sides of the gate: what differs between them, what is predicted of them, and workers in turns."""

import errno
import os
import random
import time
from copy import deepcopy
from dataclasses import replace

import pytest

from benchmarks import _matrix, _records
from harness import files
from harness.errors import MissingPrerequisite, UsageError
from scripts.gate import comparison, exact, sides
from scripts.gate.comparison import decide
from scripts.gate.record import Commit, Fit, Series
from scripts.gate.sides import Side, checked_out, left_behind, what_differs
from scripts.gate.workers import measure_round

CODE = "def f(x):\n    return x + 1\n"


@pytest.mark.parametrize(
    ("name", "before", "after", "differs"),
    [
        ("acestep/a.py", CODE, CODE.replace("+ 1", "+ 2"), True),
        ("acestep/a.py", CODE, f'"""Page."""\n\n{CODE}  # a comment\n', False),
        ("acestep/a.py", CODE, CODE.replace("    return", '    """Says more."""\n\n    return'), False),
        ("acestep/a.py", CODE, CODE.replace("x + 1", "'text'"), True),  # a text that is no docstring
        ("acestep/a.py", CODE, None, True),
        ("acestep/a.py", None, CODE, True),
        ("acestep/a.py", "def", "def ", True),  # no Python: by its bytes
        ("harness/cards.toml", "a = 1", "a = 2", True),
        ("docs/a.md", "one", "two", False),
        ("tests/test_a.py", CODE, "", False),
        ("scripts/a.py", CODE, "", False),
    ],
)
def test_what_differs_is_code_that_runs(tmp_path, monkeypatch, name, before, after, differs):
    two = []
    for role, text in (("base", before), ("head", after)):
        side = Side(Commit(role, role), role, tmp_path / role)
        (side.project / name).parent.mkdir(parents=True)
        if text is not None:
            (side.project / name).write_text(text)
        two.append(side)
    monkeypatch.setattr(sides, "git", lambda *_: f"{name}\0constraints.txt")
    assert what_differs(*two) == ([name] if differs else [], ["constraints.txt"])


@pytest.fixture
def repository(history, monkeypatch):
    monkeypatch.chdir(history.path)
    for name, value in history.environ.items():
        monkeypatch.setenv(name, value)
    return history


def test_the_working_tree_is_what_lies_there_and_nothing_is_touched(repository):
    (repository.path / "acestep" / "new.py").write_text("A = 1\n")
    (repository.path / "acestep" / "result.py").unlink()
    (repository.path / ".asv").mkdir()
    before = repository.run("git", "status", "--porcelain").stdout
    with checked_out("HEAD", None) as (base, head):
        assert head.commit.working_tree and not base.commit.working_tree
        assert head.commit.sha == base.commit.sha and head.environ["ASV_COMMIT"] == head.tree
        assert (head.project / "acestep" / "new.py").is_file() and not (
            base.project / "acestep/new.py"
        ).exists()
        assert not (head.project / "acestep" / "result.py").exists() and not (head.project / ".asv").exists()
        assert what_differs(base, head)[0] == ["acestep/new.py", "acestep/result.py"]
        with pytest.raises(sides.UsageError, match="another gate"), checked_out("HEAD~1", "HEAD"):
            pass
    assert repository.run("git", "status", "--porcelain").stdout == before
    assert repository.run("git", "worktree", "list").stdout.count("\n") == 1


def test_where_there_are_no_locks_gates_run_all_the_same(repository, monkeypatch):
    def none(path):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(files, "_locked", none)
    repository.commit("More", repository.engine + "MORE = 1\n")
    with checked_out("HEAD~1", "HEAD") as (base, head):
        assert base.project.is_dir() and head.project.is_dir()


def test_what_base_did_since_they_parted_is_told(repository):
    """A loss there would read as a gain. The control: where one has come from the other there is none."""
    parted = repository.run("git", "rev-parse", "HEAD").stdout.strip()
    for at in "12":
        repository.commit(at, repository.engine + f"AT = {at}\n")
    repository.run("git", "checkout", "-q", "-b", "topic", parted)
    (repository.path / "acestep" / "new.py").write_text("A = 1\n")
    with checked_out("main", None) as two:
        told = left_behind(*two)
    assert told.startswith("BASE has 2 commits that HEAD lacks, ") and f" {parted[:12]}, where" in told
    repository.commit("3", repository.engine + "AT = 3\n")
    with checked_out("main^", "topic") as two:
        assert left_behind(*two).startswith("BASE has 1 commit that HEAD lacks, ")
    for base, head in ((parted, "topic"), ("topic", parted), ("main^", "main")):
        with checked_out(base, head) as two:
            assert left_behind(*two) == ""


ORDER = """
def hook(params, config):
    with open({path!r}, "a") as file:
        file.write({side!r})
"""


def test_a_branch_that_only_a_remote_has_is_named(repository):
    """As in a clone of one branch, which has no main of its own."""
    repository.run("git", "update-ref", "refs/remotes/origin/elsewhere", "HEAD")
    with pytest.raises(UsageError, match="branch origin/elsewhere is one"), checked_out("elsewhere", None):
        pass
    with pytest.raises(UsageError, match="git log shows"), checked_out("nowhere", None):
        pass


def test_workers_take_turns_in_an_order_drawn_by_lot(repository, tmp_path):
    """Every run of one is beside one of the other, whichever is first; then one of them dies."""
    path = tmp_path / "order"
    for side in "bh":
        repository.commit(side, repository.engine + ORDER.format(path=str(path), side=side))
    cells = [f"generate duration_s=5 batch={batch} thinking=False steps=8" for batch in (1, 2)]
    with checked_out("HEAD~1", "HEAD") as two:
        round = measure_round(two, ("timing",), cells, 8, time.monotonic() + 120, random.Random(0))
    order = path.read_text()[2 : 2 + 16]  # after the runs that are not recorded, which are at once
    turns = [order[i : i + 2] for i in range(0, 16, 2)]
    assert {*turns} == {"bh", "hb"}
    for records in round.records:
        assert [len(records[cell]["runs"]) for cell in cells] == [8, 8]
    assert round.cost_s.keys() == {*cells} and round.start_s > 0
    dies = "\nimport os\ndef hook(params, config):\n    if config.batch_size == 2:\n        os._exit(7)\n"
    repository.commit("Dies", repository.engine + dies)
    with checked_out("HEAD~1", "HEAD") as two:
        round = measure_round(two, ("timing",), cells[::-1], 3, time.monotonic() + 120, random.Random(0))
    failed = round.records[1][cells[1]]
    assert (failed["status"], "ended with status 7" in failed["reason"]) == ("failed", True)
    assert cells[0] not in round.records[1]  # it had no more turns; the other may have begun without it


def cost(flop=1e12, launches=800):
    work = {"flop": flop, "read_bytes": 4e9, "written_bytes": 1e9, "launches": launches, "kernels": 800}
    work["syncs"] = 0
    stages = (*_matrix.COST_STAGES, *_matrix.SPEECH_STAGES, *_matrix.RVC_STAGES)
    frame = dict.fromkeys(_matrix.SPEECH_STAGES, 1)
    return {"status": "ok", "stages": dict.fromkeys(stages, work), "frame_launches": frame}


def waits(codes=150, steps=2, tiles=2):
    counts = {"audio_codes": codes, "dit_steps": steps, "vae_tiles": tiles}
    lines = {stage: {"an operator": 2} for stage in _matrix.COST_STAGES}
    return {"reads": lines, "copies": lines, "counts": counts}


WAITS = {"status": "ok", "requests": [waits(), waits(350, 3, 4)]}


def peak(size=4e9, status="ok"):
    return {"status": status, "peak_bytes": size, "exit_code": 0}


def compared(monkeypatch, change, only="", before_it=None):
    """Both sides predicted alike but for `change`, which is made to HEAD's records, and what BASE's have of
    `before_it`."""
    monkeypatch.setenv(_matrix.FILTER, "duration_s=5 batch=1,2")  # as in CI
    with sides.whole_matrix():
        cells = _matrix.predicted_cells()
    before, after = (
        {"header": {"status": "ok", "source": "synthetic-full"}}
        | {
            cell.name: {"predicted": peak(), "waits": deepcopy(WAITS)}.get(cell.kind, cost())
            for cell in cells
        }
        for _ in range(2)
    )
    change(after)
    before |= before_it or {}
    answers = iter((before, after))
    monkeypatch.setattr(_records, "predict", lambda *_: next(answers))
    side = Side(Commit("a", "a"), "a", sides.FOLDER)
    return exact.compare(side, side, only, time.monotonic() + 60)


def test_the_whole_matrix_is_compared_whatever_is_timed(monkeypatch):
    series, fits, _ = compared(monkeypatch, lambda after: None)
    assert {one.verdict for one in series} == {"same"} and fits == []
    assert len(series) == len(exact.chosen("")) - 21 - 7 - 4 - 2  # verdicts of cards are no numbers
    assert decide(series, fits) == "same"


@pytest.mark.parametrize(("field", "share", "unit"), [("flop", 1.01, "FLOP"), ("launches", 1.01, "launches")])
def test_one_percent_and_one_launch_a_step_are_named_with_the_stage(monkeypatch, field, share, unit):
    def change(after):
        for name, record in after.items():
            if name.startswith("cost"):
                work = record["stages"]["diffuse"]
                record["stages"] = record["stages"] | {"diffuse": work | {field: work[field] * share}}

    series, fits, _ = compared(monkeypatch, change)
    slower = [one for one in series if one.verdict == "slower"]
    assert {(one.stage, one.component, one.unit) for one in slower} == {("diffuse", "DiT", unit)}
    assert len(slower) == 16 and decide(series, fits) == "slower"


def test_a_read_a_step_is_named_with_its_loop(monkeypatch):
    def wait(after):
        for request in after["waits variant=turbo mode=captured"]["requests"]:
            steps = request["counts"]["dit_steps"]
            request["reads"] = request["reads"] | {"diffuse": {"an operator": 2 + steps}}

    series, fits, _ = compared(monkeypatch, wait, "TrackWaits")
    (slower,) = [one for one in series if one.verdict == "slower"]
    assert (slower.stage, slower.component, slower.unit) == ("diffuse", "DiT", "reads")
    assert (slower.base, slower.head) == (0, 1) and decide(series, fits) == "slower"


CELL = "predicted tier_gb=8 variant=no-quant"


@pytest.mark.parametrize(
    ("record", "fit", "verdict", "outcome"),
    [
        (peak(4.1e9), None, "slower", "slower"),
        (peak(4.01e9), None, "same", "same"),
        (peak(3.9e9), None, "faster", "faster"),
        (peak(9e9, "oom"), "out of memory", None, "slower"),
        (peak(None, "skip"), "not tried", None, "same"),
        ({"status": "failed", "reason": "broken"}, None, "not measured", "not measured"),
        ({"status": "failed", "reason": _records.TIME_OVER}, None, "cannot tell", "cannot tell"),
    ],
)
def test_what_fits_and_what_it_takes(monkeypatch, record, fit, verdict, outcome):
    series, fits, failures = compared(monkeypatch, lambda after: after.update({CELL: record}))
    assert fits == ([Fit("turbo without LM, not quantized", 8.0, "fits", fit)] if fit else [])
    found = [one.verdict for one in series if dict(one.params) == {"tier_gb": "8", "variant": "no-quant"}]
    assert set(found) == ({verdict} if verdict else set())
    assert decide(series, fits) == outcome and failures == []


def test_what_base_failed_at_is_compared_with_nothing_and_told(monkeypatch):
    broken = {CELL: {"status": "failed", "reason": "broken"}}
    series, fits, failures = compared(monkeypatch, lambda after: None, before_it=broken)
    assert failures == [f"{CELL}: broken"] * 2  # its peak, and whether it fits
    assert fits == [] and not [one for one in series if dict(one.params).get("variant") == "no-quant"
                               and dict(one.params)["tier_gb"] == "8"]  # fmt: skip
    (note,) = comparison._not_compared(failures, "")
    assert note == f"BASE failed at 2 series, which are compared with nothing: {CELL}: broken"
    assert list(comparison._not_compared([], "the next cell")) == ["the next cell"]


def test_a_prediction_that_fails_where_a_card_was_too_small_is_not_measured(monkeypatch):
    """Its peak has no number on either side, so the verdict says it. The control: what is still too small."""
    small, broken = {CELL: peak(9e9, "oom")}, {CELL: {"status": "failed", "reason": "broken"}}
    series, fits, _ = compared(monkeypatch, lambda after: after.update(broken), before_it=small)
    (lost,) = [one for one in series if one.verdict != "same"]
    assert (lost.verdict, lost.reason, fits) == ("not measured", f"{CELL}: broken", [])
    series, fits, _ = compared(monkeypatch, lambda after: after.update(small), before_it=small)
    assert {one.verdict for one in series} == {"same"} and fits == []


def test_a_card_too_small_for_a_subject_is_named_by_the_subjects_model(monkeypatch):
    cell = "predicted subject=qwen3_tts tier_gb=6 model=1.7B-CustomVoice"
    _, fits, _ = compared(monkeypatch, lambda after: after.update({cell: peak(9e9, "oom")}))
    assert fits == [Fit("Qwen3-TTS 1.7B-CustomVoice", 6.0, "fits", "out of memory")]


def test_the_command_that_measures_again_tells_no_folder(monkeypatch):
    two = Commit("a" * 40, "Base"), Commit("b" * 40, "Head", working_tree=True)
    monkeypatch.setenv(_matrix.FILTER, "duration_s=5 batch=1,2")
    for source, setting in {
        "synthetic-tiny": "ACESTEP_SOURCE=synthetic-tiny ",
        "/home/me/weights": "",
    }.items():
        monkeypatch.setenv("ACESTEP_SOURCE", source)
        assert comparison._command(*two, "Time|Track") == (
            f"{setting}ACESTEP_BENCH_CELLS='duration_s=5 batch=1,2' python -m scripts.gate aaaaaaaaaaaa"
            " --only 'Time|Track'"
        )


def test_a_slower_series_is_a_fact_whatever_else_went_wrong():
    one = Series("a.B.track_c", (), "diffuse", "DiT", "seconds", "timed", "same")
    for verdicts, outcome in {
        (): "not measured",
        ("same", "faster"): "faster",
        ("same", "cannot tell", "faster"): "cannot tell",
        ("cannot tell", "not measured"): "not measured",
        ("not measured", "slower"): "slower",
    }.items():
        assert decide([replace(one, verdict=verdict) for verdict in verdicts], []) == outcome


def test_what_git_refuses_is_told_with_its_cause_and_no_advice_that_is_none(repository, monkeypatch):
    """Of a folder that is read-only git says first why, then what came of it. The control: no repository."""
    monkeypatch.setenv("GIT_OBJECT_DIRECTORY", "/proc/self")
    monkeypatch.setenv("GIT_ALTERNATE_OBJECT_DIRECTORIES", str(repository.path / ".git" / "objects"))
    (repository.path / "new.py").write_text("NEW = 1\n")
    with pytest.raises(MissingPrerequisite, match=r"^git add: error: ") as raised, checked_out("HEAD", None):
        pass
    assert "run this" not in str(raised.value) and "updating files failed" not in str(raised.value)
    monkeypatch.setenv("GIT_DIR", "/proc")
    with pytest.raises(MissingPrerequisite, match=r"not a git repository.*; run this in the root"):
        sides.git("log")
