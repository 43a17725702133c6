"""Headers and indexes of safetensors files: what they say is held to what the file is."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from harness.checkpoint import SafetensorsFile
from harness.errors import CheckpointError
from harness.tensor_files import MAX_SHARDS, stored_tensors

ENTRY = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
NEXT = {"dtype": "BF16", "shape": [4], "data_offsets": [24, 32]}
RIGHT = {"a": ENTRY, "b": NEXT}
LONG = "x" * 10**5


def write(path: Path, header: object, length: int = 32) -> None:
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(length))


def test_a_header_says_where_tensors_are(tmp_path: Path):
    write(tmp_path / "model.safetensors", {"__metadata__": {"format": "pt"}} | RIGHT)
    tensors = stored_tensors(tmp_path, "model")
    assert {name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()} == {
        "a": ("F32", (2, 3)),
        "b": ("BF16", (4,)),
    }
    assert tensors["b"].start - tensors["a"].start == 24


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_tensors_are_read_as_the_library_wrote_them(tmp_path: Path, dtype: torch.dtype):
    folder = tmp_path / "\udcff\n"  # no text, and a folder all the same
    folder.mkdir()
    state = {
        "matrix": torch.randn(3, 5).to(dtype),
        "scalar": torch.randn(()).to(dtype),
        "nothing": torch.zeros(0, 4, dtype=dtype),
        "odd": torch.randn(7).to(dtype),
    }
    save_file(state, tmp_path / "x")
    (tmp_path / "x").rename(folder / "model.safetensors")
    weights = SafetensorsFile(folder, "model")
    assert weights.shapes() == {name: tuple(tensor.shape) for name, tensor in state.items()}
    for name, tensor in state.items():
        assert weights.read(name).dtype == dtype and torch.equal(weights.read(name), tensor)


def a(**change: Any) -> dict[str, Any]:
    return RIGHT | {"a": ENTRY | change}


def b(*offsets: int) -> dict[str, Any]:
    return RIGHT | {"b": NEXT | {"data_offsets": offsets}}


HEADERS: dict[str, tuple[object, str]] = {
    "integers": (a(dtype="I64"), "a: dtype: 'I64' is not allowed; use BF16 or F16 or F32"),
    "a dtype nobody knows": (a(dtype=LONG), "a: dtype: 'xxx.* is not allowed; use BF16"),
    "a negative size": (a(shape=[-2, -3]), r"a: shape\[0\]: -2 is not allowed; use a whole number from 0"),
    "a size of 5,000 digits": (json.dumps(a(shape=[7])).replace("7", "9" * 5000), r"a: shape\[0\]: 999.* is"),
    "too many axes": (a(shape=[1] * 9), "a: shape: 9 values are not allowed; use a list of 0 to 8"),
    "another size": (a(shape=[2, 4]), r"a: data_offsets: \[0, 24\] hold 24 bytes, its shape takes 32"),
    "an overflow": (a(shape=[2**40] * 8), r"a: data_offsets: \[0, 24\] hold 24 bytes, its shape takes 8,5"),
    "three offsets": (a(data_offsets=[0, 24, 24]), "a: data_offsets: 3 values are not allowed"),
    "backwards": (a(data_offsets=[24, 0]), r"a: data_offsets: \[24, 0\] hold -24 bytes"),
    "an overlap": (b(20, 28), "b: data_offsets: 20 is not allowed; use 24"),
    "a hole": (b(26, 34), "b: data_offsets: 26 is not allowed; use 24"),
    "beyond the file": (RIGHT | {"c": NEXT | {"data_offsets": [32, 40]}}, "its tensors end at byte 40 of 32"),
    "less than the file": ({"a": ENTRY}, "its tensors end at byte 24 of 32"),
    "a name twice": (json.dumps(RIGHT).replace('"b"', '"a"'), "not JSON: key 'a' is there twice"),
    "a name that gives orders": ({"\x1b[2J": ENTRY}, r"'\\x1b\[2J' is not the name of a tensor"),
    "a name too long": ({LONG: ENTRY}, "'xxx.* is not the name of a tensor"),
    "no object": (RIGHT | {"a": [1]}, "a: holds a list, expected an object"),
    "a list": ("[]", "unreadable header: holds a list, expected an object"),
    "depth": ("[" * 10**5, "nested too deep"),
    "no JSON": ("x", "unreadable header: not JSON"),
}  # fmt: skip


@pytest.mark.parametrize("case", HEADERS)
def test_a_header_that_cannot_be(tmp_path: Path, case: str):
    header, message = HEADERS[case]
    path = tmp_path / "model.safetensors"
    write(path, header)
    with pytest.raises(CheckpointError, match=f"^{re.escape(str(path))}: .*{message}") as error:
        stored_tensors(tmp_path, "model")
    assert len(str(error.value)) < 400 and "\n" not in str(error.value)


@pytest.mark.parametrize("length", [3, 10**6, 2**63, 2**64 - 1])
def test_a_header_longer_than_its_file_is_not_asked_for(tmp_path: Path, length: int):
    path = tmp_path / "model.safetensors"
    path.write_bytes(length.to_bytes(8, "little") + b"{}")
    with pytest.raises(CheckpointError, match=r"unreadable \(a header of .* in a file of 10\); download"):
        stored_tensors(tmp_path, "model")


OUTSIDE = ("../a.safetensors", "/etc/a.safetensors", "b/a.safetensors", "a.bin", "")
NO_NAMES = ("\x1b.safetensors", "\0.safetensors", "\ud800.safetensors", f"{LONG}.safetensors", None, [], {})


@pytest.mark.parametrize("home", OUTSIDE + NO_NAMES, ids=lambda home: repr(home)[:20])
def test_an_index_names_plain_files(tmp_path: Path, home: object):
    write(tmp_path / "a.safetensors", RIGHT)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "a.safetensors", "b": home}}))
    with pytest.raises(CheckpointError, match=r"^.*: weight_map must name files of its own folder$") as error:
        stored_tensors(tmp_path, "model")
    assert len(str(error.value)) < 400


def test_an_index_of_a_million_shards_opens_none(tmp_path: Path):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {str(i): f"{i}.safetensors" for i in range(MAX_SHARDS + 1)}}))
    with pytest.raises(CheckpointError, match="weight_map names 1,001 files, at most 1,000"):
        stored_tensors(tmp_path, "model")
    index.write_bytes(b'{"weight_map": {' + b" " * 2**24)
    with pytest.raises(CheckpointError, match="more than the 16,777,216 bytes"):
        stored_tensors(tmp_path, "model")


def test_a_tensor_is_in_one_shard(tmp_path: Path):
    for name in ("1", "2"):
        write(tmp_path / f"{name}.safetensors", RIGHT)
    index = {"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"2\.safetensors: a is in 1\.safetensors as well"):
        stored_tensors(tmp_path, "model")


def test_a_file_that_shrinks_is_told_when_it_is_read(tmp_path: Path):
    path = tmp_path / "model.safetensors"
    write(path, RIGHT)
    weights = SafetensorsFile(tmp_path, "model")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"unreadable \(it ends in b\); download it again"):
        weights.read("b")
