"""Published figures: none is faster than can be; each lies where the others expect it, or says why not."""

from __future__ import annotations

import json
from collections.abc import Callable

import msgspec
import pytest

from acestep.costs import anchor_report, anchors
from acestep.costs.__main__ import main
from acestep.costs.anchors import Anchor, Compared
from harness.cards import find
from harness.errors import MissingPrerequisite, UsageError
from harness.trace.expected import PUBLISHED, Kinds

FIGURES = anchors.read()
GOOD = """
[[anchor]]
name = "VAE"
card = "RTX 3090"
stage = "vae_decode"
ours = "eager"
by = "me"
duration_s = 60
batch = 1
dtype = "bf16"
seconds = 1.5
roofline_s = 0.5
source = "me"
date = "2026-01-02"
"""


@pytest.fixture(scope="module")
def kinds() -> Callable[[Anchor], Kinds]:
    """Predictions of every figure; of one that is planted, those of the figure it was made of."""
    return anchor_report.Predictions(FIGURES).kinds


@pytest.fixture(scope="module")
def rows(kinds) -> tuple[Compared, ...]:
    return anchors.compared(FIGURES, kinds)


def names(rows) -> set[tuple[str, str]]:
    return {(row.anchor.card, row.anchor.name) for row in rows}


def planted(figures, kinds, row: Compared, seconds: float) -> tuple[Compared, ...]:
    """The comparison with another value in the place of one."""
    wrong = msgspec.structs.replace(row.anchor, seconds=seconds, at_most_s=None)
    return anchors.compared([wrong if figure == row.anchor else figure for figure in figures], kinds)


def test_no_figure_is_below_its_floor(rows):
    assert not names(row for row in rows if row.below)


def test_each_lies_where_the_others_expect_it(rows):
    """Which are not fitted to it. One that did not would have to say why in `missed`."""
    assert not names(row for row in rows if row.within is False)
    assert not any(figure.missed for figure in FIGURES)
    assert sum(row.within is not None for row in rows) == sum(figure.comparable for figure in FIGURES) >= 8


def test_predictions_use_the_range_that_is_fitted_to_the_figures():
    count = sum(figure.comparable for figure in FIGURES)
    assert PUBLISHED.otherwise == anchors.refitted(FIGURES), (
        "write it to PUBLISHED of harness/trace/expected.py"
    )
    assert PUBLISHED.basis == f"fitted to {count} published figures of eager PyTorch"


def test_nothing_is_the_matter(rows):
    assert anchor_report.as_recorded(rows)


def test_our_engine_moves_no_more_than_what_was_measured(rows):
    """The rooflines that are written down were its own, before it was made faster."""
    for row in rows:
        if row.anchor.roofline_s:
            assert 0.1 * row.anchor.roofline_s < row.ours_s < 1.001 * row.anchor.roofline_s, row.anchor


def test_a_figure_planted_below_its_floor_is_heard(rows, kinds):
    for row in rows:
        wrong = planted(FIGURES, kinds, row, row.floor_s * 0.99)
        assert names(each for each in wrong if each.below) == names([row])
        assert not anchor_report.as_recorded(wrong)


def test_a_figure_planted_far_outside_is_heard(rows, kinds):
    for row in rows:
        if row.within:
            wrong = planted(FIGURES, kinds, row, row.expected_s.high * 1.01)
            assert names([row]) <= names(each for each in wrong if each.within is False)
            assert not anchor_report.as_recorded(wrong)


def test_other_implementations_are_held_against_the_ideal_of_their_format(rows, kinds):
    for row in rows:
        if row.anchor.ours != "eager":
            assert 0 < row.floor_s < row.ours_s and row.expected_s is None and row.within is None
            floors_s = [
                anchors.compared([msgspec.structs.replace(row.anchor, dtype=dtype)], kinds)[0].floor_s
                for dtype in ("int8", "fp16", "bf16")
            ]
            assert floors_s == sorted(floors_s) and floors_s[0] < floors_s[-1]


def test_the_figures_that_were_to_be_there_are():
    seconds = {(figure.card, figure.name): figure.published for figure in FIGURES}
    of = "RTX PRO 6000"
    for name, low, high in (
        ("DiT turbo, PyTorch", 0.313, 0.313),
        ("DiT turbo, ggml", 0.311, 0.311),
        ("DiT turbo, ggml Q8", 0.274, 0.274),
        ("DiT XL turbo, PyTorch", 0.547, 0.547),
        ("DiT XL turbo, ggml", 0.645, 0.645),
        ("DiT XL turbo, ggml Q8", 0.629, 0.629),
        ("VAE, PyTorch", 0.275, 0.275),
        ("VAE, ggml", 0.43, 0.46),
    ):
        assert seconds[of, name] == (low, high)
    assert seconds["RTX 5090", "VAE, TensorRT"] == (0.0372, 0.0372)
    assert seconds["RTX 5090", "VAE, PyTorch"] == (0.322, 0.322)
    assert seconds["RTX 4070 Ti SUPER", "LM 1.7B x 2, nano-vllm"] == (11.31, 11.31)
    assert seconds["A100-80GB", "whole song, claimed"] == (0, 2)
    assert seconds["RTX 3090", "whole song, claimed"] == (0, 10)
    assert all(find(figure.card) for figure in FIGURES)


def test_the_command_says_first_how_many_lie_where_they_should(rows, kinds, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(anchor_report.Predictions, "kinds", lambda self, anchor: kinds(anchor))
    kept = tmp_path / "anchors.json"
    assert main(["--anchors", "--json", str(kept)]) == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert lines[0] == "8 of 8 figures of eager PyTorch lie where the others expect them"
    assert lines[1] == f"none of {len(FIGURES)} figures is below the floor"
    assert max(map(len, lines)) < 80
    table = out.split("\n\n")[1].splitlines()[2:]
    assert len(table) == len(rows)
    for line, row in zip(table, rows, strict=True):
        assert line.startswith(f"{row.anchor.card:<18}{row.anchor.name:<23}")
        assert ("!" in line) is (row.within is False)
    assert main(["--anchors", "--json", str(kept)]) == 0  # over its own
    (tmp_path / "link").symlink_to(kept)
    assert main(["--anchors", "--json", str(tmp_path / "link")]) == 0 and (tmp_path / "link").is_symlink()
    assert main(["--anchors", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert printed == json.loads(kept.read_text())
    assert (printed["within"], printed["comparable"], printed["below_floor"]) == (8, 8, [])
    assert [one["floor_s"] for one in printed["anchors"]] == [row.floor_s for row in rows]


def test_the_command_fails_where_a_figure_is_not_where_it_should_be(rows, kinds, capsys, monkeypatch):
    wrong = msgspec.structs.replace(FIGURES[0], seconds=rows[0].floor_s / 2)
    monkeypatch.setattr(anchors, "read", lambda: (wrong, *FIGURES[1:]))
    monkeypatch.setattr(anchor_report.Predictions, "kinds", lambda self, anchor: kinds(anchor))
    assert main(["--anchors"]) == 1
    assert "\n1 of 22 figures is below the floor\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        (FIGURES[:4], "2 figures of eager PyTorch are too few; give 3"),
        ((msgspec.structs.replace(FIGURES[0], dit="none-such"), *FIGURES[1:]), "none-such"),
    ],
    ids=["too few", "no such model"],
)
def test_what_cannot_be_predicted_is_told_in_a_line(figures, words, capsys, monkeypatch):
    monkeypatch.setattr(anchors, "read", lambda: figures)
    assert main(["--anchors"]) in (2, 3)
    said = capsys.readouterr()
    last = said.err.splitlines()[-1]
    assert words in last and "'anchors.toml'" in last and not said.out


@pytest.mark.parametrize(
    "flag", [("--card", "rtx3090"), ("--thinking",), ("--duration", "30"), ("--html", "x")]
)
def test_a_flag_that_it_has_no_use_for_is_refused(flag, capsys):
    assert main(["--anchors", *flag]) == 2
    assert f"drop {flag[0]}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("seconds = 1.5", "seconds = -1", "VAE: seconds: Expected `float` > 0.0"),
        ("seconds = 1.5", "seconds = nan", "VAE: seconds: "),
        ("seconds = 1.5", "", "VAE: seconds: is missing, and so is at_most_s"),
        ("roofline_s = 0.5", "", "VAE: roofline_s: belongs to a figure of eager kernels"),
        ("roofline_s = 0.5", "roofline_s = inf", "VAE: roofline_s: Expected `float` <= 100000.0"),
        ('ours = "eager"', 'ours = "none"', "VAE: roofline_s: belongs to a figure of eager kernels"),
        ("seconds = 1.5", "seconds = 2\nat_most_s = 1", "VAE: at_most_s: 1 is less than seconds, 2"),
        ('"RTX 3090"', '"RTX 9999"', "VAE: card: 'RTX 9999' is not known"),
        ('"vae_decode"', '"vae"', "VAE: stage: Invalid enum value 'vae'"),
        ('"vae_decode"', '"lm_decode"', "VAE: lm: which one decodes is missing"),
        ("batch = 1", "batch = 0", "VAE: batch: Expected `int` >= 1"),
        ("batch = 1", "batch = 1\ncodes = 300", "VAE: codes: belongs to an lm"),
        ("batch = 1", 'batch = 1\ncodes = 299\nlm = "x"', "VAE: codes: 299 are not those of 60 s"),
        ("batch = 1", 'batch = 1\nmissed = "x"\nsteps = 0', "VAE: steps: Expected `int` >= 1"),
        ("seconds = 1.5", 'at_most_s = 1\nmissed = "x"', "VAE: missed: only a comparable figure"),
        ("duration_s = 60", "duration_s = 601", "VAE: duration_s: Expected `float` <= 600.0"),
        ('dtype = "bf16"', 'dtype = "fp4"', "VAE: dtype: Invalid enum value 'fp4'"),
        ('date = "2026-01-02"', 'date = "2026-13"', "VAE: date: "),
        ('source = "me"', 'source = "\\u001b[31m"', "VAE: source: "),
        ('source = "me"', "", "VAE: Object missing required field `source`"),
        ('by = "me"', 'by = "me"\nby_the_way = 1', "VAE: Object contains unknown field `by_the_way`"),
        ('name = "VAE"', "", "anchor 1: Object missing required field `name`"),
        ("[[anchor]]", "[anchor]", "has to be tables [[anchor]]"),
        ("[[anchor]]", "[[anchors]]", "has to be tables [[anchor]]"),
        ("seconds = 1.5", "seconds = ", "not TOML"),
    ],
)
def test_a_file_that_is_wrong_is_one_line(old, new, words, tmp_path):
    path = tmp_path / "figures.toml"
    path.write_text(GOOD)
    [figure] = anchors.read(path)
    assert figure.comparable and (figure.published, figure.efficiency) == ((1.5, 1.5), 1 / 3)
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(UsageError) as refused:
        anchors.read(path)
    message = str(refused.value)
    assert words in message and "\n" not in message and "'figures.toml'" in message


def test_a_figure_is_there_once_and_so_is_its_file(tmp_path):
    path = tmp_path / "figures.toml"
    with pytest.raises(MissingPrerequisite, match=r"figures\.toml"):
        anchors.read(path)
    path.write_text(GOOD + GOOD)
    with pytest.raises(UsageError, match="name: RTX 3090 VAE is there twice"):
        anchors.read(path)
