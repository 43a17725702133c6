"""Files of results: complete at any moment, and refused before the run."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace
from places import SUPPORT
from profiles import CARD, MACHINE, header, item, sample

from harness.errors import BenchError, MissingPrerequisite, UsageError
from harness.records.schema import Header, Item
from harness.records.writer import Writer, load

ITEMS = [item(duration) for duration in (30.0, 60.0, 120.0)]


def write(path: Path, items=ITEMS, run=None, **more) -> str:
    with Writer(path, run or header(), **more) as writer:
        for made in items:
            writer.add(made)
    return path.read_text()


def done(path: Path, run: Header) -> dict[str, Item]:
    """What a run that resumes finds finished; it adds nothing."""
    writer = Writer(path, run, resume=True)
    del writer._lock  # as when its process ends
    return writer.finished


def test_a_record_is_written_row_by_row_and_read_back(tmp_path):
    path = tmp_path / "results.json"
    writer = Writer(path, header())
    assert not path.exists()
    for count, made in enumerate(ITEMS, 1):
        writer.add(made)
        run, items = load(path)
        assert items == ITEMS[:count]
        assert run.ended_utc is None
    writer.close()
    run, items = load(path)
    assert run.ended_utc is not None
    assert items == ITEMS
    assert list(tmp_path.iterdir()) == [path]


def test_an_item_takes_the_place_of_its_key(tmp_path):
    again = replace(ITEMS[0], rtf=9.0)
    write(tmp_path / "r.json")
    write(tmp_path / "r.json", [again], resume=True)
    assert load(tmp_path / "r.json")[1] == [again, *ITEMS[1:]]


def test_the_end_of_an_interrupted_run_is_open(tmp_path):
    with pytest.raises(KeyboardInterrupt), Writer(tmp_path / "r.json", header()) as writer:
        writer.add(ITEMS[0])
        raise KeyboardInterrupt
    assert load(tmp_path / "r.json")[0].ended_utc is None


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("missing/r.json", "cannot be written: No such file"),
        ("folder.json", "is no file"),
        ("file/r.json", "cannot be written: Not a directory"),
        ("x" * 253 + ".json", "cannot be written: File name too long"),
        ("r.txt", "must end in one of .json, .csv, .md"),
        ("r", "must end in one of"),
    ],
)
def test_a_bad_place_is_refused_before_anything_runs(tmp_path, name, why):
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=why) as refused:
        Writer(tmp_path / name, header())
    assert name in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs a folder that even root cannot write to")
def test_a_folder_that_cannot_be_written_is_refused():
    with pytest.raises(UsageError, match="cannot be written"):
        Writer(Path("/proc/r.json"), header())


def test_a_read_only_file_is_refused(tmp_path, monkeypatch):
    (tmp_path / "r.json").touch()
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write to any
    with pytest.raises(UsageError, match="read-only"):
        Writer(tmp_path / "r.json", header())


def test_json_compat_is_a_form_of_json(tmp_path):
    with pytest.raises(UsageError, match=r"json_compat: .*\.json"):
        Writer(tmp_path / "r.csv", header(), json_compat=True)


def test_looking_at_a_place_changes_nothing_there(tmp_path):
    before = write(tmp_path / "r.json")
    done(tmp_path / "r.json", header())
    assert [p.read_text() for p in tmp_path.iterdir()] == [before]


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "link.json").symlink_to(tmp_path / "r.json")
    write(tmp_path / "link.json")
    assert (tmp_path / "link.json").is_symlink()
    assert load(tmp_path / "r.json")[1] == ITEMS


def test_a_full_disk_leaves_the_last_file(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    with pytest.raises(BenchError, match="No space left"), Writer(tmp_path / "r.json", header()) as writer:
        writer.add(ITEMS[0])
        monkeypatch.setattr(os, "fsync", full)
        writer.add(ITEMS[1])
    assert [p.name for p in tmp_path.iterdir()] == ["r.json"]
    assert load(tmp_path / "r.json")[1] == ITEMS[:1]


def test_what_could_not_be_read_back_is_not_written(tmp_path):
    writer = Writer(tmp_path / "r.json", header())
    with pytest.raises(msgspec.ValidationError):
        writer.add(item(samples=(sample(float("nan")),)))
    assert not (tmp_path / "r.json").exists()


def test_a_file_that_is_no_record_is_named(tmp_path):
    (tmp_path / "torn.json").write_text(write(tmp_path / "r.json")[:-20])
    (tmp_path / "foreign.json").write_text("[1]")
    for name in ("torn.json", "foreign.json", "missing.json"):
        with pytest.raises(MissingPrerequisite, match=name) as refused:
            load(tmp_path / name)
        assert "\n" not in str(refused.value)


def test_what_an_earlier_run_finished_is_not_done_again(tmp_path):
    failed = item(240.0, status="oom", samples=())
    write(tmp_path / "r.json", [*ITEMS, failed])
    found = done(tmp_path / "r.json", header(id="2"))
    assert found == {made.key: made for made in ITEMS}


HOTTER = replace(MACHINE, threads=2, gpus=(replace(CARD, temperature_c=80, sm_clock_mhz=500),))


def test_a_warmer_card_is_the_same_card(tmp_path):
    write(tmp_path / "r.json")
    assert done(tmp_path / "r.json", header(machine=HOTTER))


@pytest.mark.parametrize(
    "change",
    [
        {"commit": "decaf"},
        {"dirty": True},
        {"dirty": None},
        {"dirty": True, "changes": "other"},
        {"source": "synthetic-full"},
        {"dit": "acestep-v15-base"},
        {"lm": None},
        {"lm_backend": "vllm"},
        {"device": "cuda"},
        {"versions": {"torch": "2.12.0"}},
        {"machine": replace(MACHINE, environment={})},
        {"machine": replace(MACHINE, gpus=(replace(CARD, power_limit_w=100.0),))},
    ],
    ids=str,
)
def test_another_run_is_not_continued_and_not_lost(tmp_path, change):
    for number, (earlier, later) in enumerate(((header(), header(**change)), (header(**change), header()))):
        path = tmp_path / f"{number}.json"
        before = write(path, run=earlier)
        with Writer(path, later, resume=True) as writer:
            assert writer.finished == {} and writer.kept_as == tmp_path / f"{number}-kept.json"
            assert path.read_text() == before  # until there is something new
        assert writer.kept_as.read_text() == before and load(path)[1] == []


@pytest.mark.parametrize(
    "code", [{"dirty": False}, {"dirty": True, "changes": "a"}, {"dirty": None, "changes": "a"}]
)
def test_the_same_code_is_continued_also_where_no_commit_names_it(tmp_path, code):
    write(tmp_path / "r.json", run=header(**code))
    assert done(tmp_path / "r.json", header(**code)) == {made.key: made for made in ITEMS}


def test_what_failed_stays_until_it_is_measured_again(tmp_path):
    failed = item(240.0, status="oom", samples=())
    write(tmp_path / "r.json", [failed])
    write(tmp_path / "r.json", ITEMS[:1], resume=True)
    assert load(tmp_path / "r.json")[1] == [failed, ITEMS[0]]


FOREIGN = {
    "notes.json": b"precious",
    "list.json": b'[{"a": 1}]',
    "object.json": b'{"schema": 1}',
    "newer.json": b'{"schema": "acestep-profile/9"}',
    "deep.json": b"[" * 100_000,
    "table.csv": b"name,price\n",
    "page.md": b"# Notes\n",
    "bytes.json": b"\xff\xfe",
}


@pytest.mark.parametrize("name", [*FOREIGN, "torn.json"])
@pytest.mark.parametrize("resume", [False, True])
def test_what_is_no_record_is_refused_and_left_alone(tmp_path, name, resume):
    path = tmp_path / name
    path.write_bytes(FOREIGN.get(name) or write(path).encode()[:-20])
    before = path.read_bytes()
    with pytest.raises(
        UsageError, match=rf"^benchmark_output: '.*{name}' is there and would be lost: .*"
    ) as refused:
        Writer(path, header(), resume=resume)
    assert "\n" not in str(refused.value)
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [before]


def test_a_record_of_another_mode_is_refused_and_left_alone(tmp_path):
    before = write(tmp_path / "r.json", run=header(mode="tier-test"))
    with pytest.raises(
        UsageError, match="is a record of mode 'tier-test', and this is benchmark; name another"
    ):
        Writer(tmp_path / "r.json", header(), resume=True)
    assert [p.read_text() for p in tmp_path.iterdir()] == [before]


@pytest.mark.parametrize(
    ("name", "form"), [("r.json", {}), ("r.json", {"json_compat": True}), ("r.csv", {}), ("r.md", {})]
)
def test_what_is_not_gone_on_from_is_kept_under_another_name(tmp_path, name, form):
    """Each time, as none of them is worth less than the others."""
    path = tmp_path / name
    held = [write(path, [made], **form) for made in ITEMS]
    kept = [path, path.with_stem("r-kept"), path.with_stem("r-kept-2")]
    assert [p.read_text() for p in kept] == [held[2], held[0], held[1]]
    assert set(tmp_path.iterdir()) == set(kept)


def test_one_run_writes_a_file_at_a_time(tmp_path):
    path = tmp_path / "r.json"
    (tmp_path / "link.json").symlink_to(path)
    with Writer(path, header()) as writer:
        for other in (path, tmp_path / "link.json"):
            with pytest.raises(
                UsageError, match=r"another run is writing '.*'; wait for it, or name another"
            ):
                Writer(other, header(), resume=True)
        with Writer(tmp_path / "beside.json", header()):
            pass
        writer.add(ITEMS[0])
    assert load(path)[1] == ITEMS[:1]
    with pytest.raises(ZeroDivisionError), Writer(path, header(), resume=True):
        raise ZeroDivisionError
    write(path, ITEMS[1:], resume=True)
    assert load(path)[1] == ITEMS


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from profiles import header, item
from harness.records import writer as output

syncs = iter(range(20))  # of the file and of its folder
sync = os.fsync
def dies_in_the_sixth(descriptor):
    sync(descriptor)
    if next(syncs) == 10:
        os.kill(os.getpid(), signal.SIGKILL)

os.fsync = dies_in_the_sixth
with output.Writer(Path(sys.argv[1]), header()) as writer:
    for number in range(10):
        writer.add(item(10.0 + number))
"""


def test_a_killed_run_is_taken_up_where_it_was(tmp_path):
    path = tmp_path / "r.json"
    killed = subprocess.run([sys.executable, "-c", KILLED, path, SUPPORT])
    assert killed.returncode == -signal.SIGKILL
    run, items = load(path)
    assert run.ended_utc is None
    assert items == [item(10.0 + number) for number in range(5)]

    ran = []
    with Writer(path, header(), resume=True) as writer:
        for made in (item(10.0 + number) for number in range(10)):
            if made.key not in writer.finished:
                ran.append(made)
                writer.add(made)
                assert load(path)[1] == [*items, *ran]
    assert len(ran) == 5
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", [".json", ".csv", ".md"])
def test_a_run_of_nothing_is_a_file(tmp_path, suffix):
    write(tmp_path / f"r{suffix}", [])
    assert (tmp_path / f"r{suffix}").exists()
