"""Text of files: whatever mark an editor puts before it, in every file that a user can write."""

import json
import os
import threading
from pathlib import Path

import pytest

from acestep.cli.examples import load_description, load_example
from acestep.profiler import defaults
from harness import cards, flags
from harness.checkpoint_files import read_json
from harness.errors import MissingPrerequisite, UsageError
from harness.reading import decode, read_text

TEXT = "caf\u00e9 \u591c\U0001f3b5"
# UTF-16 without a mark looks like nothing in particular.
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16"]
CARD = {"name": "Mine", "capability": "8.0", "memory_gib": 8, "tflop_per_s": 1, "gb_per_s": 1}


@pytest.fixture(params=ENCODINGS)
def write(request, tmp_path: Path):
    """Write a text as an editor would; the path of the file."""

    def run(content: object, name: str = "file") -> Path:
        text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
        (tmp_path / name).write_bytes(text.replace("\n", "\r\n").encode(request.param))
        return tmp_path / name

    return run


def test_a_mark_is_no_text(write):
    assert read_text(write(f"{TEXT}\n{TEXT}\n")) == f"{TEXT}\n{TEXT}\n"
    assert read_text(write("")) == ""


def test_every_file_of_a_user_may_begin_with_one(write, tmp_path: Path):
    assert load_example(write({"caption": TEXT}))[0].caption == TEXT
    assert load_description(write({"query": TEXT})).query == TEXT
    assert flags.text("--lyrics", f"@{write(TEXT)}") == TEXT
    assert read_json(write({"model_type": TEXT}, "config.json")) == {"model_type": TEXT}
    assert cards.read(write(CARD)).name == "Mine"
    write("ACESTEP_DEVICE=cpu\nACESTEP_SOURCE=x\n", ".env")
    assert defaults.load({}, tmp_path)["device"].value == "cpu"


@pytest.mark.parametrize("data", [b"\xff", b"a\xffb", b"\xff\xfea", "\u591c".encode("utf-16-le") + b"\xff"])
def test_bytes_that_are_no_text_are_none(data: bytes, tmp_path: Path):
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(UnicodeDecodeError):
        decode(data)
    with pytest.raises(MissingPrerequisite, match="cannot be read as text"):
        read_text(tmp_path / "file")


def test_a_file_without_end_is_refused():
    with pytest.raises(UsageError, match="over 1,048,576 characters are too many"):
        read_text(Path("/dev/zero"))


def test_a_pipe_is_read_to_its_end_where_somebody_writes_to_it(tmp_path: Path):
    """As a shell makes one of `<(...)`, and standard input is one: by the name of its descriptor."""
    read_end, write_end = os.pipe()
    pipe = Path(f"/dev/fd/{read_end}")

    def write() -> None:
        with os.fdopen(write_end, "wb") as file:
            for part in (b"caf\xc3", b"\xa9\r", b"\nnight\r"):
                file.write(part)
                file.flush()

    writer = threading.Timer(0.1, write)
    writer.start()
    assert read_text(pipe) == "caf\u00e9\nnight\n"
    writer.join()
    os.close(read_end)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(MissingPrerequisite, match="it is a pipe, and nothing was written to it"):
        read_text(tmp_path / "pipe")
    assert read_text(Path(os.devnull)) == ""  # the control: an empty file is an empty text
