"""The fit matrix: a cell for every case that was asked for, a word or a number for what its colour says."""

import math
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from itertools import combinations

import numpy as np
import pages
import pytest
from places import ROOT
from tier_records import record

import tiersim.__main__ as main
from harness.cards import find
from tiersim import Case, matrix, picture
from tiersim.case import VARIANTS, Plan, resolve
from tiersim.fits import FULL, LEVELS, UNKNOWN, FitMatrix, fit_matrix
from tiersim.prediction import predict_plan
from tiersim.record import Record

CARD = find("rtx4090")
COMMITTED = ROOT / "docs/fits.svg"
SVG = "{http://www.w3.org/2000/svg}"
# By size, variant and DiT, without a language model: predicted in less than a second each.
QUICK = {(4, "no-quant", "acestep-v15-turbo"), (8, "no-offload", "acestep-v15-turbo")}
HOSTILE = "</text><script>alert(1)</script>\u202e&\x1b[31m"


def plan_of(tier_gb: float, **fields) -> Plan:
    return resolve(Case(tier_gb, card=CARD, source="synthetic-tiny", **fields))


def record_of(plan: Plan, status: str = "ok", peak_gb: float | None = 1.0, **changes) -> Record:
    case = plan.requested
    whole = record(case.tier_gb, status, peak_gb, card=CARD, variant=case.variant, lm=case.lm)
    return replace(whole, key=plan.key, **changes)


def matrix_of(*records: Record, plans: list[Plan]) -> FitMatrix:
    return fit_matrix(plans, {each.key: each for each in records})


def one_cell(status: str, peak_gb: float | None, **changes):
    plan = plan_of(8)
    (cell,) = matrix_of(record_of(plan, status, peak_gb, **changes), plans=[plan]).cells
    return cell


@pytest.mark.parametrize(
    ("peak_gb", "text", "level"),
    [
        (0.0, "100 %", "ample"), (4.0, "50 %", "ample"), (4.01, "49 %", "roomy"), (6.0, "25 %", "roomy"),
        (6.01, "24 %", "enough"), (7.35, "8 %", "enough"), (7.37, "7 %", "tight"), (8.0, "0 %", "tight"),
    ],
)  # fmt: skip
def test_a_cell_is_what_is_left_of_the_card(peak_gb, text, level):
    cell = one_cell("ok", peak_gb)
    assert (cell.text, cell.level) == (text, level)
    assert f"fits, {text} left, peak {peak_gb:.2f} of 8 GB" in cell.story


@pytest.mark.parametrize(
    ("status", "text", "level"),
    [
        ("oom", "does not fit", FULL), ("host-oom", "does not fit", FULL), ("skip", "not tried", UNKNOWN),
        ("timeout", "timeout", UNKNOWN), ("crash", "crash", UNKNOWN), ("ok", "ok", UNKNOWN),
    ],
)  # fmt: skip
def test_what_left_no_figure_has_a_word(status, text, level):
    cell = one_cell(status, None)
    assert (cell.text, cell.level) == (text, level)
    assert status == "ok" or f"it was {status}" in cell.story


def test_what_was_not_quite_as_asked_has_a_star_and_says_in_what():
    cell = one_cell("ok", 4.0, notes=("no int8 here",))
    assert cell.text == "50 %*" and "no int8 here" in cell.story


def test_every_case_has_a_cell_where_one_record_stands_for_several_and_where_there_is_none():
    cases = [(size, lm, variant) for lm in (False, True) for size in (4, 24) for variant in VARIANTS]
    plans = [plan_of(size, lm=lm, variant=variant) for size, lm, variant in cases if not lm or size > 4]
    plans.append(plan_of(8))
    roomy = [plan for plan in plans if plan.requested.tier_gb == 24]
    assert len({plan.key for plan in roomy}) == 2  # nothing is quantized or offloaded there
    fits = matrix_of(*(record_of(plan, peak_gb=6.0) for plan in roomy), plans=plans)
    (block,) = fits.blocks
    assert [column.size_gb for column in fits.columns] == [4, 8, 24]
    assert [(column.card, column.lm) for column in fits.columns][2] == ("RTX 4090", "4B")
    texts = [[cell.text for cell in row.cells] for row in block.rows]
    assert texts == [["not run", "not run", "75 %"], *[["not run", "n/a", "75 %"]] * 2,
                     *[["no LM", "n/a", "75 %"]] * 3]  # fmt: skip
    assert [row.name for row in block.rows][2:4] == ["no LM, no-offload", "LM, default"]


def test_of_repeats_the_one_that_takes_most_is_shown():
    plans = [plan_of(8, repeat=number) for number in range(3)]
    some = [record_of(plan, peak_gb=peak) for plan, peak in zip(plans, (2.0, 6.0, 4.0), strict=True)]
    assert [cell.text for cell in matrix_of(*some, plans=plans).cells] == ["25 %"]
    some[0] = record_of(plans[0], "oom", 1.0)
    assert [cell.text for cell in matrix_of(*some, plans=plans).cells] == ["does not fit"]


def test_the_matrix_is_every_variant_of_the_compared_with_and_without_a_language_model(full_plans):
    fits = matrix_of(plans=full_plans)
    assert [column.size_gb for column in fits.columns] == [4, 6, 8, 12, 16, 20, 24]
    assert [len(block.rows) for block in fits.blocks] == [2 * len(VARIANTS)] * 3
    assert len(fits.cells) == 126


def drawn(fits: FitMatrix, **values) -> ET.Element:
    values = {"facts": ("today",), "links": {}, "predicted": True} | values
    return ET.fromstring(picture.svg(fits, **values))


def verdicts(drawing: ET.Element) -> dict[str, str]:
    """Of each cell the level, or the word in place of one, by what it is of."""
    cells = [group for group in drawing.iter(f"{SVG}g") if group.get("class", "").startswith("cell ")]
    levels = [cell.get("class").removeprefix("cell ") for cell in cells]
    return {
        cell.findtext(f"{SVG}title").rpartition(" s: ")[0]: cell.findtext(f"{SVG}text")
        if level == UNKNOWN
        else level
        for cell, level in zip(cells, levels, strict=True)
    }


def test_a_picture_leads_from_each_cell_to_its_case_and_stays_harmless():
    plans = [plan_of(size, choices=(("request", "example_01.json"),)) for size in (8, 12)]
    fits = matrix_of(record_of(plans[0], "oom", 7.0, reason=HOSTILE), plans=plans)
    drawing = drawn(fits, links={plans[0].key: "#case0"}, facts=(HOSTILE,))
    assert [link.get("href") for link in drawing.iter(f"{SVG}a")] == ["#case0"]
    assert not [*drawing.iter(f"{SVG}script")] and not [*drawn(fits).iter(f"{SVG}a")]
    words = " ".join(drawing.itertext())
    assert "<script>" in words and "\u202e" not in words and "\x1b" not in words
    assert drawing.findtext(f"{SVG}title") == "What fits which card, predicted"
    assert "measured" in drawn(fits, predicted=False).findtext(f"{SVG}title")
    assert drawing.findtext(f"{SVG}desc") == "2 cells: does not fit 1, not run 1"
    assert drawing.get("aria-labelledby") == "fits-title fits-desc"


XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])  # of sRGB
SEEN_BY = {  # Machado, Oliveira, Fernandes 2009, whole deficiencies; linear sRGB to linear sRGB
    "anybody": np.eye(3),
    "protanopes": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                   [-0.003882, -0.048116, 1.051998]],
    "deuteranopes": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                     [-0.011820, 0.042940, 0.968881]],
    "tritanopes": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                   [0.004733, 0.691367, 0.303900]],
}  # fmt: skip


def linear(colour: str) -> np.ndarray:
    """The parts of a colour as amounts of light, by sRGB."""
    parts = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def contrast(*colours: str) -> float:
    """By WCAG 2, of relative luminances."""
    dark, light = sorted(XYZ[1] @ linear(colour) for colour in colours)
    return (light + 0.05) / (dark + 0.05)


def distance(one: str, other: str, viewer: str) -> float:
    """Of two colours in CIE Lab, as somebody sees them; 2.3 can just be told apart side by side."""
    lab = []
    for colour in (one, other):
        light = XYZ @ np.clip(SEEN_BY[viewer] @ linear(colour), 0, 1) / XYZ.sum(1)
        x, y, z = np.where(light > 0.008856, np.cbrt(light), 7.787 * light + 16 / 116)
        lab.append((116 * y, 500 * (x - y), 200 * (y - z)))
    return math.dist(*lab)


@pytest.mark.parametrize("viewer", SEEN_BY)
def test_no_two_levels_look_alike_to_anybody(viewer):
    for mode in ("light", "dark"):
        colours = [getattr(colour, mode) for colour in picture.COLOURS.values()]
        assert min(distance(*pair, viewer) for pair in combinations(colours, 2)) > 10
    assert distance("#000000", "#ffffff", viewer) == pytest.approx(100, abs=0.1)
    assert distance("#5a4617", "#87391c", "protanopes") < 4  # the control: brown and red


def test_every_text_stands_out_from_what_it_is_on():
    style = picture.TEMPLATE.read_text(encoding="utf-8")
    text, faint, ground = (re.findall(rf"\.fits {name} {{ .*?fill: (#\w+)", style) for name in
                           ("text", r"\.faint, .fits .unknown text", r"\.ground"))  # fmt: skip
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    for number, mode in enumerate(("light", "dark")):
        assert contrast(faint[number], ground[number]) >= 4.5
        for level, colour in picture.COLOURS.items():
            on_it = faint if level == UNKNOWN else text
            assert contrast(on_it[number], getattr(colour, mode)) >= 4.5, (level, mode)
    assert contrast(text[0], picture.COLOURS["ample"].dark) < 4.5  # the control
    assert {*picture.COLOURS} == {*LEVELS, FULL, UNKNOWN}


@pytest.fixture(scope="module")
def full_plans() -> list[Plan]:
    """Of the command in the docs that makes the picture."""
    lines = pages.lines(pages.text("docs/tiers.md"))
    (words,) = (
        line.removeprefix("python -m tiersim ") for line in lines if line.endswith("--svg docs/fits.svg")
    )
    options = main.arguments().parse_args([*words.split(), "--source", "synthetic-full"])
    return [plan for base in matrix.bases(options, CARD) for plan in matrix.series(options, base).cells]


def test_the_picture_of_the_readme_is_of_the_matrix_as_it_is(full_plans):
    """As many cells, the same ones without a figure, and of some the same level: else make it anew."""
    quick = [plan for plan in full_plans if asked(plan.requested) in QUICK]
    skipped = [record_of(plan, "skip", None, reason=plan.skip) for plan in full_plans if plan.skip]
    current = verdicts(drawn(matrix_of(*skipped, *map(predict_plan, quick), plans=full_plans)))
    told = {what: verdict for what, verdict in current.items() if verdict != "not run"}
    assert {FULL, "enough"} <= {*told.values()} and len(quick) == len(QUICK)
    drawing = ET.parse(COMMITTED).getroot()
    committed = verdicts(drawing)
    assert len(committed) == 126 and committed.keys() == current.keys()
    assert told.items() <= committed.items()
    assert {committed[what] for what in committed.keys() - told.keys()} <= {*LEVELS, FULL}
    facts = " ".join(" ".join(drawing.itertext()).split())
    assert re.search(r"predicted for .*, torch \d.* synthetic-full, \d{4}-\d\d-\d\d", facts)


def asked(case: Case) -> tuple[float, str, object]:
    return (case.tier_gb, case.variant, "" if case.lm else dict(case.choices)["dit"])
