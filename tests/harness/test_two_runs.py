"""Two runs may write into one folder, and one name, at once: neither loses anything of the other."""

import errno
import fcntl
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from places import ROOT

from harness import files
from harness.errors import UsageError
from harness.files import add, alone, held, replacing, writable, write_whole


def test_two_may_write_one_file_of_the_longest_name(tmp_path: Path):
    path = tmp_path / ("x" * 255)
    with replacing(path) as first, replacing(path) as second:
        assert first.parent == second.parent == tmp_path
        first.write_bytes(b"first")
        second.write_bytes(b"second")
    assert path.read_bytes() == b"first" and len(list(tmp_path.iterdir())) == 1


def test_what_a_killed_run_left_is_removed_and_nothing_of_another_file(tmp_path: Path):
    left, other = files._part(tmp_path / "a"), files._part(tmp_path / "b")
    for part in (left, other):
        part.touch()
    writable("out", tmp_path / "a")
    assert list(tmp_path.iterdir()) == [other]
    add(tmp_path / "b", lambda part: part.write_bytes(b"new"))
    assert list(tmp_path.iterdir()) == [tmp_path / "b"]


ADDING = """
import sys
from pathlib import Path
from harness.files import add, replacing, writable
folder, text = Path(sys.argv[1]), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
for _ in range(20):
    writable("out", folder / "replaced.wav")
    with replacing(folder / "replaced.wav") as part:
        part.write_text(text)
    add(folder / "seed-42.wav", lambda part: part.write_text(text))
"""


def test_two_processes_at_once_lose_nothing_of_each_other(tmp_path: Path):
    """The same names at the same moment, each clearing away what killed runs have left."""
    (tmp_path / "replaced.wav").touch()
    start = partial(subprocess.Popen, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    processes = [start([sys.executable, "-c", ADDING, str(tmp_path), text]) for text in ("first", "second")]
    for process in processes:
        assert process.stdout and process.stdout.readline() == "ready\n"
    for process in processes:
        process.communicate("\n")
    assert [process.returncode for process in processes] == [0, 0]
    added = sorted(path.read_text() for path in tmp_path.glob("seed-42*.wav"))
    assert added == ["first"] * 20 + ["second"] * 20
    assert len(list(tmp_path.iterdir())) == 41


def test_a_lock_is_held_by_one_and_leaves_nothing(tmp_path: Path):
    for _ in range(2):
        with held(tmp_path / "lock"):
            with pytest.raises(BlockingIOError), held(tmp_path / "lock"):
                pass
            assert (tmp_path / "lock").exists()  # the other one left it alone
    assert not list(tmp_path.iterdir())


def test_one_run_writes_at_a_time_and_without_locks_as_many_as_like(tmp_path: Path, monkeypatch):
    path = tmp_path / "a"
    with alone("out", path, path):
        refused = pytest.raises(UsageError, match=r"^out: another run is writing '.*a'; wait for it")
        with refused, alone("out", path, path):
            pass
    assert not list(tmp_path.iterdir())

    def none(path: Path) -> int:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(files, "_locked", none)
    with alone("out", path, path), alone("out", path, path):
        pass


def test_a_part_that_is_being_written_is_not_cleared_away(tmp_path: Path):
    with replacing(tmp_path / "a") as part:
        part.write_bytes(b"new")
        writable("out", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"new" and len(list(tmp_path.iterdir())) == 1


def test_without_locks_files_are_written_as_well(tmp_path: Path, monkeypatch):
    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    writable("out", tmp_path / "a")
    write_whole(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new" and len(list(tmp_path.iterdir())) == 1
