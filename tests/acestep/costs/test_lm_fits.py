"""The table of which language model fits which card: what a file has between its marks, and who writes it."""

from __future__ import annotations

import errno
import re
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import pages
import pytest
from places import ROOT

from acestep.costs import lm_fits
from acestep.costs.__main__ import main
from acestep.costs.lm_fits import BEGIN, END, ROWS, SIZES_GB, TOO_SMALL, Found
from acestep.setup import NONE
from acestep.weights.layout import LMS

BLOCK = pages.text("docs/tiers.md").partition(BEGIN)[2].partition(END)[0]
CELLS = [re.findall(r"[^|]+", row.replace(" ", "")) for row in BLOCK.splitlines() if row.startswith("|")][2:]
PEAKS = {row: dict(zip(SIZES_GB, cells[2:-1], strict=True)) for row, cells in zip(ROWS, CELLS, strict=True)}


def test_the_table_of_the_docs_is_of_the_torch_that_is_pinned():
    [pinned] = re.findall(r"^torch==(\S+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert re.match(rf"\nPredicted \d{{4}}-\d\d-\d\d, torch {re.escape(pinned)}\b", BLOCK)


def test_weights_and_peaks_of_the_docs_agree():
    """Where nothing is parked the whole of a model is in the peak, which is less by what its format saves."""
    assert [cells[1] for cells in CELLS] == [f"{lm_fits.weights_gib(*row):.1f}" for row in ROWS]
    for lm, name in ROWS:
        peaks = [float(PEAKS[lm, each][24]) for each in (NONE, name)]
        weights = [lm_fits.weights_gib(lm, each) for each in (NONE, name)]
        assert peaks[0] - peaks[1] == pytest.approx(weights[0] - weights[1], abs=0.25)
    assert PEAKS[LMS[2], NONE][8] == TOO_SMALL != PEAKS[LMS[2], "int4_weight_only"][8]


@pytest.mark.skipif(find_spec("torchao") is None, reason="torchao is not installed")
@pytest.mark.nightly
def test_a_cell_of_the_docs_is_what_is_predicted_today():
    found = lm_fits.found(lm_fits.Fit(LMS[0], NONE, 24))
    assert found.peak_gib and f"{found.peak_gib:.1f}" == PEAKS[LMS[0], NONE][24]
    assert f"{found.lm_s:.1f}" == CELLS[0][-1]


class Predicting:
    """Answers at once: the number of a cell is its peak, but for the first."""

    def __enter__(self) -> Predicting:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def map(self, work: object, fits: list[lm_fits.Fit]) -> list[Found]:
        assert fits == [lm_fits.Fit(*row, size) for row, size in product(ROWS, SIZES_GB)]
        return [Found(float(number) or None, 2.0) for number in range(len(fits))]


def test_the_table_goes_between_its_marks_and_nothing_else_moves(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setattr(lm_fits, "Processes", Predicting)
    file, link = tmp_path / "page.md", tmp_path / "link.md"
    file.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    link.symlink_to(file)
    assert main(["--lm-fits", str(link)]) == 0 and link.is_symlink()
    before, _, rest = file.read_text().partition(BEGIN)
    table, _, after = rest.partition(END)
    assert (before, after) == ("before\n", "\nafter\n") and "old" not in table
    rows = table.strip().splitlines()[4:]
    assert len(rows) == len(ROWS) and rows[0].startswith(
        f"| 0.6B, bf16 | 1.2 | {TOO_SMALL} | 1.0 | 2.0 | 3.0 |"
    )
    assert rows[-1].startswith("| 4B, int4 |") and rows[-1].endswith("| 35.0 | 2.0 |")
    shown = capsys.readouterr().out
    assert main(["--lm-fits"]) == 0 and capsys.readouterr().out == shown
    answer, _, printed = shown.partition("\n\n")
    assert printed.strip() == table.strip()
    assert answer == f"The largest that fits {', '.join(f'{size} GB: 4B in int4' for size in SIZES_GB)}."


def test_a_full_disk_leaves_the_table_on_the_terminal(tmp_path: Path, monkeypatch, capsys):
    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(lm_fits, "Processes", Predicting)
    monkeypatch.setattr(lm_fits, "write_whole", full)
    file = tmp_path / "page.md"
    file.write_text(f"{BEGIN}\n{END}\n")
    assert main(["--lm-fits", str(file)]) == 4
    out, err = capsys.readouterr()
    assert "| 4B, int4 |" in out and "page.md" in err and "No space left" in err


def test_the_largest_that_fits_is_the_last_that_is_not_too_small():
    cells = [
        Found(None if number >= 5 or size == 8 else 1.0, 1.0) for number in range(9) for size in SIZES_GB
    ]
    assert lm_fits.verdict(cells) == (
        "The largest that fits 8 GB: none, 12 GB: 1.7B in int8, 16 GB: 1.7B in int8, 24 GB: 1.7B in int8."
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--lm-fits", "page.md"], f"--lm-fits: 'page.md' has no place for the table; add {BEGIN} and {END}"),
        (["--lm-fits", "none.md"], "--lm-fits: cannot read 'none.md'"),
        (["--lm-fits", "/dev/zero"], "--lm-fits: cannot read '/dev/zero'"),  # which never ends
        (["--lm-fits", "--thinking"], "--lm-fits: has cards and requests of its own; drop --thinking"),
    ],
)
def test_what_it_cannot_do_is_refused_before_anything_is_predicted(
    flags: list[str], message: str, tmp_path: Path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lm_fits, "Processes", lambda: pytest.fail("predicts"))
    Path("page.md").write_text("no marks")
    assert main(flags) == 2
    assert message in capsys.readouterr().err
