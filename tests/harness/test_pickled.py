"""Pickles of strangers: how much is read of one has a bound, whatever it is packed to."""

import io
import zipfile
from pathlib import Path

import pytest
import torch

from harness import pickled
from harness.errors import CheckpointError
from harness.pickled import MAX_BYTES, load


def packed(content: bytes) -> bytes:
    """The archive with all of its members deflated, which torch reads as well."""
    file = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as stored,
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for member in stored.infolist():
            archive.writestr(member.filename, stored.read(member))
    return file.getvalue()


def saved(content: object, **how: bool) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **how)
    return file.getvalue()


@pytest.mark.parametrize("form", ["stored", "packed", "old"])
def test_a_pickle_in_any_form_is_read(tmp_path: Path, form: str):
    content = {"a": torch.arange(1000.0)}
    data = saved(content, _use_new_zipfile_serialization=form != "old")
    (tmp_path / "a.pth").write_bytes(packed(data) if form == "packed" else data)
    assert torch.equal(load(tmp_path / "a.pth")["a"], content["a"])


def test_what_is_packed_counts_with_what_it_holds(tmp_path: Path, monkeypatch):
    """A megabyte may be a gigabyte of zeros, and a voice of a stranger takes all memory there is."""
    monkeypatch.setattr(pickled, "MAX_BYTES", 2**24)
    path = tmp_path / "a.pth"
    data = packed(saved({"a": torch.zeros(2**25, dtype=torch.uint8)}))
    path.write_bytes(data)
    assert len(data) < 2**16
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("read"))
    with pytest.raises(CheckpointError, match=r"a\.pth: has more than the 16,777,216 bytes it may have"):
        load(path)
    monkeypatch.undo()
    assert load(path)["a"].nbytes == 2**25 < MAX_BYTES  # the control


def test_objects_count_with_the_memory_they_take(tmp_path: Path, monkeypatch):
    """A byte of a pickle is a dictionary of 64."""
    monkeypatch.setattr(pickled, "MAX_BYTES", 2**24)
    path = tmp_path / "a.pth"
    path.write_bytes(saved({"a": [{} for _ in range(10_000)]}))
    assert len(load(path)["a"]) == 10_000  # the control
    path.write_bytes(saved({"a": [{} for _ in range(500_000)]}))
    with pytest.raises(CheckpointError, match=r"a\.pth: has more than the 16,777,216 bytes it may have"):
        load(path)


@pytest.mark.parametrize("size", [30, 200, 900])
def test_an_archive_that_is_cut_is_one_line(tmp_path: Path, size: int):
    (tmp_path / "a.pth").write_bytes(saved({"a": torch.zeros(100)})[:size])
    with pytest.raises(CheckpointError, match=r"a\.pth: unreadable \(.*\); download it again") as raised:
        load(tmp_path / "a.pth")
    assert "\n" not in str(raised.value)
