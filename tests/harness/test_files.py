"""Files are written whole or not at all, and are on the disk when a writer says so."""

import errno
import os
import re
import stat
from pathlib import Path

import pytest
import torch
from full_disk import REASON, room

from acestep.audio import writing
from acestep.costs import command
from acestep.profiler import instruments
from acestep.request import GenerationConfig
from acestep.weights import synthetic
from harness import checkpoint_writing, files
from harness.errors import BenchError, MissingPrerequisite, UsageError
from harness.files import add, folder_for_audio, keep, regular, replacing, writable, write_whole
from scripts.gpu import calibrated
from scripts.gpu import record as gpu
from tiersim import results

ROOT = Path(__file__).parents[2]
PACKAGES = ("harness", "acestep", "subjects", "tiersim", "scripts")
# What writes a file by itself, and why it may.
BY_ITSELF = {
    "harness/memory.py": "a switch of the kernel",
    "tiersim/cgroup.py": "switches of the kernel",
    "acestep/lm/backends/vllm_backend.py": "a temporary folder",
    "scripts/gate/__main__.py": "a log, which it adds to",
    "harness/checkpoint_writing.py": "memory",
} | dict.fromkeys(
    (
        "scripts/site/whole.py", "scripts/site/charts.py", "scripts/site/explorer.py",
        "scripts/site/explorer_bundle.py",
    ),
    "a site, written anew each time, its door last",
)  # fmt: skip
WRITES = re.compile(r"\.write_(?:text|bytes)\(|open\(\"[wax]|np\.save|torch\.save\(")


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_file_is_written_and_nothing_beside_it(tmp_path: Path):
    write_whole(tmp_path / "a", b"one")
    write_whole(tmp_path / "a", b"two")
    assert (tmp_path / "a").read_bytes() == b"two" and os.listdir(tmp_path) == ["a"]  # noqa: PTH208


def test_only_a_regular_file_is_regular(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"bytes")
    (tmp_path / "link").symlink_to("file")
    for name in ("file", "link"):
        assert regular(tmp_path / name).read_bytes() == b"bytes"
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "loop").symlink_to("loop")
    for name in ("", "pipe", "zero", "loop", "file/below", "x" * 300, "none", "a\0b", "\ud800"):
        with pytest.raises(OSError) as caught:
            regular(tmp_path / name)
        assert caught.value.strerror and "\n" not in caught.value.strerror
    for name, kind in {"": "a folder", "pipe": "a pipe", "zero": "a device", "a\0b": "no file can"}.items():
        with pytest.raises(FileNotFoundError, match=kind):
            regular(tmp_path / name)


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_in_the_middle_leaves_the_old_file(tmp_path: Path, error: BaseException):
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(type(error)), replacing(tmp_path / "a") as part:
        part.write_bytes(b"ne")
        raise error
    assert (tmp_path / "a").read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


def test_who_cannot_write_is_told_which_file(tmp_path: Path, monkeypatch):
    """The kernel names none of a write, and of an open one whose name nobody knows."""
    with room(10), pytest.raises(OSError, match=f"{REASON}: '{tmp_path}/a'$"):
        write_whole(tmp_path / "a", bytes(11))
    with pytest.raises(OSError, match=f"No such file or directory: '{tmp_path}/none/a'$"):
        write_whole(tmp_path / "none" / "a", b"")
    with pytest.raises(OSError, match="another"), replacing(tmp_path / "a"):
        (tmp_path / "another").read_bytes()
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.ENOSPC, BenchError), (errno.EDQUOT, BenchError), (errno.EACCES, MissingPrerequisite)],
)
def test_a_full_disk_is_a_run_that_failed_and_lacks_nothing(number: int, kind: type[BenchError]):
    error = files.unwritten("a.wav: cannot write audio", OSError(number, os.strerror(number)))
    assert type(error) is kind and str(error) == f"a.wav: cannot write audio: {os.strerror(number)}"


def test_what_is_renamed_is_on_the_disk_and_then_its_folder(tmp_path: Path, monkeypatch):
    done = []

    def fsync(descriptor: int, real=os.fsync) -> None:
        done.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        real(descriptor)

    def replace(part: Path, path: Path, real=Path.replace) -> Path:
        done.append("rename")
        return real(part, path)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace)
    write_whole(tmp_path / "a", b"")
    assert done == ["file", "rename", "folder"]


def test_a_folder_that_cannot_be_synced_is_no_error(tmp_path: Path, monkeypatch):
    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", fsync)
    write_whole(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"


def test_permissions_are_kept_and_new_ones_are_as_usual(tmp_path: Path):
    (tmp_path / "usual").touch()
    (tmp_path / "old").touch(0o600)
    for name in ("old", "new"):
        write_whole(tmp_path / name, b"x")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes["old"] == 0o600 and modes["new"] == modes["usual"]


def test_a_place_that_can_be_written_is_left_as_it_was(tmp_path: Path):
    (tmp_path / "link").symlink_to("a")
    assert writable("out", tmp_path / "link") == (tmp_path / "a").resolve()
    assert [path.name for path in tmp_path.iterdir()] == ["link"]
    with pytest.raises(UsageError, match=r"^out: .* is there and is no file"):
        writable("out", tmp_path)


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
def test_what_is_added_replaces_nothing(tmp_path: Path, monkeypatch, links: bool):
    def refused(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    if not links:
        monkeypatch.setattr(os, "link", refused)
    path = tmp_path / "seed-42.wav"
    places = [add(path, lambda part, text=text: part.write_text(text)) for text in "abc"]
    assert [place.name for place in places] == ["seed-42.wav", "seed-42-2.wav", "seed-42-3.wav"]
    assert [place.read_text() for place in places] == ["a", "b", "c"]
    assert keep(path).read_text() == "a" and len(list(tmp_path.iterdir())) == 4


def test_what_is_no_folder_holds_no_audio(tmp_path: Path):
    assert folder_for_audio("--out", tmp_path / "new" / "folder").is_dir()
    file, link = tmp_path / "file", tmp_path / "link"
    file.touch()
    link.symlink_to(tmp_path / "nowhere")
    for place in (file, link, Path("/dev/full")):
        with pytest.raises(MissingPrerequisite, match=r"^--out: .* is there and is no folder; name another$"):
            folder_for_audio("--out", place)
    with pytest.raises(MissingPrerequisite, match="cannot write audio: Not a directory"):
        folder_for_audio("--out", file / "below")


def test_audio_is_added_and_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch):
    path = tmp_path / "a.wav"
    path.write_bytes(b"old")
    with monkeypatch.context() as patch, pytest.raises(BenchError):
        patch.setattr(files, "_sync", full)
        writing.save(torch.zeros(2, 8), tmp_path / "a", 48_000, GenerationConfig())
    assert path.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1
    added, _ = writing.save(torch.zeros(2, 8), tmp_path / "a", 48_000, GenerationConfig())
    assert added == tmp_path / "a-2.wav"
    assert path.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 2


WRITERS = {
    "checkpoint": lambda path: checkpoint_writing.save(
        path, synthetic.Synthetic("synthetic-tiny").weights("vae"), []
    ),
    "functions": lambda path: instruments.functions(lambda: None, path),
    "trace": lambda path: instruments.kernels(lambda: None, path),
    "results": lambda path: results.write(path, b"{}"),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_writer_keeps_the_old_file_when_the_disk_is_full(name: str, tmp_path: Path, monkeypatch):
    path = tmp_path / "a.wav"
    path.write_bytes(b"old")

    with monkeypatch.context() as patch, pytest.raises((BenchError, OSError)):
        patch.setattr(files, "_sync", full)
        WRITERS[name](path)
    assert path.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1
    WRITERS[name](path)  # the control: with room it is replaced
    assert path.read_bytes() != b"old" and len(list(tmp_path.iterdir())) == 1


def test_the_others_use_the_same_function():
    assert command.write_whole is calibrated.write_whole is synthetic.write_whole is write_whole
    assert checkpoint_writing.write_whole is write_whole
    assert gpu.write_whole is write_whole


def test_nothing_else_writes_a_file():
    found = {}
    for path in (path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        lines = [line for line in path.read_text("utf-8").splitlines() if WRITES.search(line)]
        if others := [line for line in lines if "part" not in line]:
            found[str(path.relative_to(ROOT))] = others
    assert found.keys() == BY_ITSELF.keys(), found
