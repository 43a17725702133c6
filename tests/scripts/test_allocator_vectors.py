"""The command that records the allocator: what cannot be is one line, before anything runs."""

import pytest

from scripts import allocator_vectors

REFUSED = {
    "nothing asked for": (2, [], "one of the arguments --write --compare is required"),
    "no steps": (2, ["--compare", "--steps", "0"], "--steps: 0 is not allowed"),
    "no place": (2, ["--write", "no-folder/a.gz"], "--write: 'no-folder/a.gz' cannot be written"),
}


@pytest.mark.parametrize("name", [*REFUSED, "no recorder"])
def test_what_cannot_be_is_one_line_before_anything_runs(tmp_path, monkeypatch, capsys, name):
    code, flags, words = REFUSED.get(name, (3, ["--compare"], "recorder: 'recorder' is not there"))
    monkeypatch.chdir(tmp_path)
    if name in REFUSED:
        (tmp_path / "recorder").touch()
    monkeypatch.setattr(allocator_vectors, "record", lambda *_: pytest.fail("ran"))
    monkeypatch.setattr("sys.argv", ["allocator_vectors", "recorder", *flags])
    assert allocator_vectors.main() == code
    out, err = capsys.readouterr()
    assert words in err and (out, err.count("\n")) == ("", 1)
