"""An index is features of its width, or refused in one line: by its header before anything is loaded."""

import os
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from harness.errors import MissingPrerequisite, UsageError
from subjects.rvc import index
from subjects.rvc.index import MOST_BYTES, Index, open_index, read_index
from subjects.rvc.plan import resolve
from subjects.rvc.request import request
from subjects.rvc.setup import Setup

WIDTH = 32  # of the tiny voice's features
LOT = np.random.RandomState(0)


@pytest.fixture
def whole(tmp_path):
    path = tmp_path / "whole.npy"
    np.save(path, np.ones((20, WIDTH), np.float32))
    return path


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    """Files of faiss, and frames with the means that the published pipeline makes of their neighbours."""
    with np.load(Path(__file__).with_name("golden_index.npz")) as file:
        return dict(file)


def in_one_cell(rows: np.ndarray) -> Index:
    return Index(np.zeros((1, rows.shape[1]), np.float32), (rows,))


def expected_mean(frame: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The published formula in plain loops."""
    distances = [float(np.square(row.astype(np.float64) - frame).sum()) for row in rows]
    nearest = sorted(range(len(rows)), key=distances.__getitem__)[:8]
    if distances[nearest[0]] == 0:
        return rows[nearest[0]]
    shares = np.array([distances[row] ** -2 for row in nearest])
    return (shares / shares.sum()) @ rows[nearest]


@pytest.mark.parametrize("most", [index.MOST_DISTANCES, 40, 1])
def test_the_mean_is_of_the_nearest_by_the_inverse_square_of_their_squared_distance(most, monkeypatch):
    """However many frames are looked at at once."""
    monkeypatch.setattr(index, "MOST_DISTANCES", most)
    rows = LOT.standard_normal((30, 5)).astype(np.float32)
    frames = LOT.standard_normal((6, 5)).astype(np.float32)
    frames[2] = rows[7]  # is met exactly, where the published formula is 0/0
    frames[3] = rows[8] + np.float32(1e-20)  # and so nearly that 1/d² is beyond fp32
    means = in_one_cell(rows).nearest(frames)
    for frame, mean in zip(frames, means, strict=True):
        np.testing.assert_allclose(mean, expected_mean(frame, rows), rtol=1e-5, atol=1e-6)
    few = in_one_cell(rows[:3]).nearest(frames)
    np.testing.assert_allclose(few[0], expected_mean(frames[0], rows[:3]), rtol=1e-5, atol=1e-6)


def test_a_file_of_faiss_has_the_neighbours_that_faiss_finds(golden, tmp_path):
    """In the one cell that it looks into; of all rows together they are others."""
    golden["added"].tofile(tmp_path / "added.index")
    read = read_index(str(tmp_path / "added.index"), WIDTH)
    assert (len(read.cells), sum(map(len, read.cells))) == (4, 60)
    np.testing.assert_allclose(read.nearest(golden["frames"]), golden["means"], rtol=1e-5, atol=1e-6)
    together = in_one_cell(np.concatenate(read.cells)).nearest(golden["frames"])
    assert np.abs(together - golden["means"]).max() > 0.1


def test_cells_without_rows_are_left_out_and_a_map_of_rows_is_passed_over(golden, tmp_path):
    for name in ("sparse", "mapped"):
        golden[name].tofile(tmp_path / name)
    sparse, mapped = (read_index(str(tmp_path / name), WIDTH) for name in ("sparse", "mapped"))
    assert len(sparse.centres) == len(sparse.cells) == 1 and len(sparse.cells[0]) > 1
    assert len(mapped.centres) == len(mapped.cells) and sum(map(len, mapped.cells)) == 4
    nearest = sparse.nearest(golden["frames"])
    assert np.isfinite(nearest).all()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("trained", "has no rows yet; use the file added_"),
        ("hashed", "keeps where its rows are by a hash table, which is not supported"),
        ("probing", "has 2 cells looked into for a frame; save it with nprobe 1"),
        ("inner", "is of another kind: metric 0 where 1 is read"),
        ("flat", "is no array of numbers, nor an index of faiss"),
    ],
)
def test_other_indexes_of_faiss_are_refused_by_what_they_are(name, message, golden, tmp_path):
    golden[name].tofile(tmp_path / "a.index")
    with pytest.raises(UsageError, match=rf"index: .*a\.index. {message}"):
        open_index(str(tmp_path / "a.index"), WIDTH)
    golden["added"].tofile(tmp_path / "a.index")
    with pytest.raises(UsageError, match=r"has features of 32; those of this voice have 768"):
        open_index(str(tmp_path / "a.index"), 768)


def test_a_file_of_faiss_that_is_damaged_anywhere_is_refused_or_read(golden, tmp_path):
    """No count is believed: cut at every place of its heads it ends early, and whatever a byte of them is, an
    answer comes, of one line or of as many rows."""
    data, path = golden["added"].tobytes(), tmp_path / "a.index"
    head = len(data) - 60 * (4 * WIDTH + 8)
    refused = 0
    for place in range(4, head):
        path.write_bytes(data[:place])
        with pytest.raises(UsageError, match="ends before what it is said to have"):
            open_index(str(path), WIDTH)
        path.write_bytes(data[:place] + b"\xff" + data[place + 1 :])
        try:
            assert sum(map(len, open_index(str(path), WIDTH).cells)) == 60
        except UsageError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 60
    path.write_bytes(data[:-1])
    with pytest.raises(UsageError, match="is the download complete"):
        open_index(str(path), WIDTH)


def test_more_sizes_than_there_are_cells_take_no_memory(golden, tmp_path):
    data, path = golden["added"].tobytes(), tmp_path / "a.index"
    place = data.index(b"full") + 4
    path.write_bytes(data[:place] + (5_000_000).to_bytes(8, "little"))
    os.truncate(path, place + 8 + 8 * 5_000_000)  # of zeros, which take no room on a disk
    tracemalloc.start()
    with pytest.raises(UsageError, match="has not one list of rows for each cell"):
        open_index(str(path), WIDTH)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_features_are_read(whole):
    (rows,) = read_index(str(whole), WIDTH).cells
    assert rows.shape == (20, WIDTH)


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
    for path, reason in ((tmp_path / "absent.npy", "No such file"), (tmp_path, "it is a folder")):
        with pytest.raises(MissingPrerequisite, match=f"index: .* cannot be read: {reason}"):
            resolve(request(0.2, index=str(path)), setup)
    assert resolve(request(0.2, index=str(whole)), setup).request.index_rate == 0.75  # the control


@pytest.mark.parametrize(
    "values", [np.zeros((0, WIDTH)), np.full((2, WIDTH), np.nan), np.full((2, WIDTH), 1e30)]
)
def test_values_without_distances_are_refused_when_they_are_read(values, tmp_path):
    np.save(tmp_path / "a.npy", values)
    with pytest.raises(UsageError, match="has no rows, or values that are not numbers or too large"):
        read_index(str(tmp_path / "a.npy"), WIDTH)


@pytest.mark.parametrize("part", ["a row", "a centre"])
def test_a_file_of_faiss_with_such_values_is_too(part, golden, tmp_path):
    path = tmp_path / "a.index"
    golden["added"].tofile(path)
    read = read_index(str(path), WIDTH)
    values = (read.cells[0] if part == "a row" else read.centres)[0]
    data = path.read_bytes().replace(values.tobytes(), np.full_like(values, np.nan).tobytes())
    path.write_bytes(data)
    with pytest.raises(UsageError, match="values that are not numbers"):
        read_index(str(path), WIDTH)


def test_one_that_is_too_large_is_refused(tmp_path):
    path = tmp_path / "large.npy"
    np.save(path, np.ones((1, WIDTH), np.float32))
    with path.open("r+b") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(UsageError, match=r"index: .* has more than 4,294,967,296 bytes"):
        open_index(str(path), WIDTH)
