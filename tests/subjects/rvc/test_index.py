"""An index is features of its width, or refused in one line: by its header before anything is loaded."""

import zipfile

import numpy as np
import pytest

from harness.errors import MissingPrerequisite, UsageError
from subjects.rvc.index import MOST_BYTES, open_index, read_index
from subjects.rvc.plan import resolve
from subjects.rvc.request import request
from subjects.rvc.setup import Setup

WIDTH = 32  # of the tiny voice's features


@pytest.fixture
def whole(tmp_path):
    path = tmp_path / "whole.npy"
    np.save(path, np.ones((20, WIDTH), np.float32))
    return path


def test_features_are_read(whole):
    assert read_index(str(whole), WIDTH).shape == (20, WIDTH)


def test_what_is_none_is_refused_before_anything_is_loaded(whole, tmp_path):
    content = whole.read_bytes()
    damaged = {
        "empty": b"",
        "cut": content[:-4],
        "claims 256 GB": content.replace(b"(20, 32)", b"(2000000000, 32)"),
        "claims more than there are numbers for": content.replace(b"(20, 32)", b"(1" + 30 * b"0" + b", 32)"),
        "no array": b"PK\x03\x04 broken",
        "text": b"1.0, 2.0\n",
    }
    for name, data in damaged.items():
        (tmp_path / name).write_bytes(data)
    np.save(tmp_path / "objects", np.array([{}], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "several", np.ones((20, WIDTH)))
    np.save(tmp_path / "narrow", np.ones((3, 7)))
    np.save(tmp_path / "whole numbers", np.ones((3, WIDTH), int))
    assert zipfile.is_zipfile(tmp_path / "several.npz")
    setup = Setup.choose("synthetic-tiny", device="cpu")
    for path in tmp_path.iterdir():
        if path != whole:
            with pytest.raises(UsageError, match=r"index: .* is no array of") as raised:
                resolve(request(0.2, index=str(path)), setup)
            assert "\n" not in str(raised.value)
    for path in (tmp_path / "absent.npy", tmp_path):
        with pytest.raises(MissingPrerequisite, match=r"index: .* cannot be read"):
            resolve(request(0.2, index=str(path)), setup)
    assert resolve(request(0.2, index=str(whole)), setup).request.index_rate == 0.75  # the control


@pytest.mark.parametrize(
    "values", [np.zeros((0, WIDTH)), np.full((2, WIDTH), np.nan), np.full((2, WIDTH), 1e30)]
)
def test_values_without_distances_are_refused_when_they_are_read(values, tmp_path):
    np.save(tmp_path / "a.npy", values)
    with pytest.raises(UsageError, match="has no rows, or values that are not numbers or too large"):
        read_index(str(tmp_path / "a.npy"), WIDTH)


def test_one_that_is_too_large_is_refused(tmp_path):
    path = tmp_path / "large.npy"
    np.save(path, np.ones((1, WIDTH), np.float32))
    with path.open("r+b") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(UsageError, match=r"index: .* has more than 4,294,967,296 bytes"):
        open_index(str(path), WIDTH)
