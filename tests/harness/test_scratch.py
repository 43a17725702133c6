"""Temporary folders: gone at the end of their block, and after a kill with the next one."""

import errno
import fcntl
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from places import ROOT

from harness.scratch import scratch_folder

HOLD = """
import sys, time
from harness.scratch import scratch_folder
with scratch_folder() as folder:
    (folder / "deep").mkdir()
    (folder / "deep" / "file").write_text("x")
    print(folder, flush=True)
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def tmpdir_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def held() -> tuple[subprocess.Popen[str], Path]:
    process = subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout
    return process, Path(process.stdout.readline().rstrip())


def test_a_folder_is_gone_after_its_block_also_when_that_fails(tmp_path):
    with pytest.raises(ZeroDivisionError), scratch_folder() as folder:
        (folder / "file").write_text("x")
        assert folder.parent == tmp_path
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_the_folder_of_a_killed_process_goes_and_that_of_a_living_one_stays(tmp_path):
    (tmp_path / "bench-scratch-file").write_text("no folder")
    (tmp_path / "another").mkdir()
    link = tmp_path / "bench-scratch-link"
    link.symlink_to(tmp_path / "another")
    (living, kept), (killed, left) = held(), held()
    with living, killed:
        killed.send_signal(signal.SIGKILL)
        killed.wait(60)
        assert left.exists()
        with scratch_folder() as folder:
            names = {path.name for path in tmp_path.iterdir()}
        living.kill()
    assert names == {kept.name, folder.name, "bench-scratch-file", "another", link.name}


def test_many_at_once_do_not_take_each_others(tmp_path):
    def make() -> None:
        for _ in range(50):
            with scratch_folder() as folder:
                (folder / "file").write_text("x")
                used.append(folder)

    used: list[Path] = []
    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(used) == 200 and not list(tmp_path.iterdir())


def test_without_locks_a_folder_is_as_good_and_none_is_taken_for_abandoned(tmp_path, monkeypatch):
    """As on Lustre or NFS, where a run may be scheduled that has its temporary folder there."""
    made = []

    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    def mkdtemp(prefix: str, real=tempfile.mkdtemp) -> str:
        made.append(prefix)
        assert len(made) < 3, "folders without end"
        return real(prefix=prefix)

    monkeypatch.setattr(tempfile, "mkdtemp", mkdtemp)
    monkeypatch.setattr(fcntl, "flock", none)
    with scratch_folder() as first, scratch_folder() as second:
        assert first.is_dir() and second.is_dir() and first != second
    assert not list(tmp_path.iterdir())
