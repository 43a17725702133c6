"""The answer of a tier test: what it says of a least card, of what ran out, and of what was not learned."""

from dataclasses import replace

import pytest
from tier_records import record

from harness.adjustments import Adjustment
from harness.records.schema import SCHEMA, Profile
from tiersim import document
from tiersim.answer import answer, largest_batches
from tiersim.boundary import ladders
from tiersim.case import Case, resolve
from tiersim.results import Results
from tiersim.summary import is_summary, summary
from tiersim.tables import Report

REASON = "24 MiB more were asked for while offloading; 23.1 MiB were free of 4 GB"


def cards(outcomes, **changes):
    return [
        record(size, status, reason=REASON if status == "oom" else "", **changes)
        for size, status in outcomes.items()
    ]


def cells(outcomes, **changes):
    (line,) = answer(cards(outcomes, **changes)).lines
    return line.cells


@pytest.mark.parametrize(
    ("outcomes", "least", "fits", "ended"),
    [
        ({4: "oom", 6: "ok", 8: "ok"}, "6 GB (RTX 2060)", "2 of 3 cards", f"4 GB (GTX 1650): {REASON}"),
        ({4: "ok", 8: "ok"}, "≤ 4 GB (GTX 1650), the smallest tried", "2 of 2 cards", ""),
        ({4: "oom"}, "none that was tried", "0 of 1 cards", f"4 GB (GTX 1650): {REASON}"),
        ({4: "skip"}, "not tried", "n/a", ""),
        ({4: "ok", 6: "oom", 8: "ok"}, "8 GB (RTX 4060)", "2 of 3 cards",
         f"6 GB (RTX 2060): {REASON}; 6 GB (RTX 2060) oom, though a smaller card fits"),
        ({4: "crash", 6: "ok"}, "≤ 6 GB (RTX 2060), of 4 GB (GTX 1650) nothing was learned", "1 of 2 cards",
         "4 GB (GTX 1650): crash"),
    ],
)  # fmt: skip
def test_a_line_is_the_least_card_and_what_ran_out(outcomes, least, fits, ended):
    assert cells(outcomes) == ("30 s, no LM, default", least, fits, ended)


def test_the_headline_counts_every_case_once():
    changed = record(12, adjustments=(Adjustment("batch_size", 2, 1, "is over the limit"),))
    records = [*cards({4: "skip", 6: "oom", 8: "ok", 16: "timeout"}), changed]
    assert answer(records).headline == (
        "2 of 4 cases fit; 1 failed, of whose memory nothing was learned; 1 not tried; "
        "1 not quite as asked for (OK*)"
    )
    assert answer([]).headline == "0 of 0 cases fit"


def test_cases_that_differ_in_more_than_the_card_have_lines_of_their_own():
    records = (
        cards({8: "ok"}) + cards({8: "ok"}, variant="no-quant") + cards({8: "ok"}, batch_size=4, lm=True)
    )
    assert [line.case for line in answer(records).lines] == [
        "30 s, no LM, default",
        "30 s, no LM, no-quant",
        "30 s, batch 4, LM, default",
    ]


def test_a_batch_that_was_the_largest_tried_is_no_maximum():
    climbed = [record(24, batch_size=batch, no_limits=True) for batch in (1, 2, 4, 8, 16)]
    climbed += [record(24, status, batch_size=batch, lm=True) for batch, status in ((8, "ok"), (16, "oom"))]
    assert largest_batches(ladders(climbed)) == ["24 GB (RTX 4090): largest batch ≥ 16, with LM 8"]


def test_the_summary_begins_with_the_answer_and_is_known_again(tmp_path):
    records = cards({4: "oom", 6: "ok"})
    header = document.header([resolve(Case(8, source="synthetic-tiny", cap="virtual"))], [])
    profile = Profile(run=header, items=tuple(map(document.item, records)))
    text = summary(answer(records, ["as *large*"]), profile, ["A ``` table"]).decode()
    first, _, _, _, line, *_ = text.splitlines()
    assert first.startswith("# Tier test: 1 of 2 cases fit <!--") and REASON in line
    assert r"- as \*large\*" in text and text.index("````text") < text.index(SCHEMA) < text.index("| tier2 |")
    (tmp_path / "summary.md").write_text(text)
    with Results(tmp_path):  # replaces no file of others
        assert is_summary(text.encode()) and not is_summary(b"# Tier test: mine\n")


def test_a_terminal_of_80_columns_has_the_answer_in_its_lines():
    said = Report(80).answer(answer(cards({4: "oom", 6: "ok"}), ["x" * 30 + " " + "y" * 60]))
    assert said.startswith("1 of 2 cases fit\n  30 s, no LM, default: 6 GB (RTX 2060); fits 1 of 2 cards;")
    assert max(map(len, said.splitlines())) <= 80


def test_a_case_that_ran_before_is_told_as_it_is_asked_for_now():
    roomy = record(24)
    told = answer([roomy, replace(roomy, requested=replace(roomy.requested, variant="no-offload"))])
    assert [line.fits for line in told.lines] == ["1 of 1 cards"] * 2
