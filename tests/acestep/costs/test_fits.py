"""Whether a song fits a card: the first word, how far it goes and whose limit that is, what makes room."""

from __future__ import annotations

import json
from bisect import bisect_right
from dataclasses import replace

import pytest

from acestep.__main__ import main
from acestep.costs import fits, fits_command
from acestep.costs.fits import Fit, Predictor, Question, answer, limits
from harness.cards import find
from harness.errors import BenchError
from harness.memory import GIB
from harness.tiers import BATCHES, LENGTHS_S
from tiersim import Case
from tiersim.prediction import predict_case

CARD = find("rtx4090")
FULL, TINY = "synthetic-full", "synthetic-tiny"


class Counted(Predictor):
    """Takes a card for what `needs_gb` says of a question, and counts."""

    def __init__(self, needs_gb, *tell):
        super().__init__(*tell)
        self.needs_gb, self.asked, self.rests_on = needs_gb, [], ("torch 0", "uncalibrated")

    def _predicted(self, question):
        self.asked.append(question)
        size, needs = int(question.tier_gb * GIB), int(self.needs_gb(question) * GIB)
        wanted = max(needs - size, 0)
        return Fit(question.duration_s, question.batch_size, size, min(needs, size), "vae_decode", wanted)


def song(size_gb: float = 8.0, **changes) -> Question:
    return Question(size_gb, CARD, source=FULL, **changes)


@pytest.mark.parametrize(
    ("words", "size_gb", "name"),
    [
        ("8", 8, "GeForce RTX 4090"), ("8GB", 8, "GeForce RTX 4090"), ("7.5 gib", 7.5, "GeForce RTX 4090"),
        ("rtx4090", 24, "GeForce RTX 4090"), ("RTX 4060", 8, "GeForce RTX 4060"), ("T4", 14.56, "Tesla T4"),
    ],
)  # fmt: skip
def test_a_card_is_a_size_or_a_name(words, size_gb, name):
    assert fits_command.which(words)[0] == size_gb and fits_command.which(words)[1].name == name


@pytest.mark.parametrize(
    ("words", "allowed"),
    [
        ("0", "'0' is not allowed; use GB from 1 to 1024"), ("3060", "'3060' is not allowed; use GB from 1"),
        ("rtx9999", "or GB such as 8"), ("rtx3080", "in several sizes; use e.g. GeForce RTX 3080 (10 GB)"),
        ("8 --duration 900", "--duration: 900.0 is not allowed; use a number from 1 to 600"),
        ("8 --batch-size 0", "--batch-size: 0 is not allowed; use a whole number from 1 to 64"),
        ("4 --lm acestep-5Hz-lm-0.6B", "--lm: acestep-5Hz-lm-0.6B has no use, tier1 has none"),
        ("8 --lm none --lm-quantization int8_weight_only", "there is no language model; drop it"),
    ],
)  # fmt: skip
def test_what_is_no_question_is_one_line_before_torch(words, allowed, capsys, monkeypatch):
    monkeypatch.setattr(Predictor, "_predicted", lambda *_: pytest.fail("predicted"))
    assert main(["fits", *words.split()]) == 2
    said = capsys.readouterr()
    assert allowed in said.err and said.err.count("\n") == 1 and not said.out


@pytest.mark.parametrize("held", range(len(LENGTHS_S) + 1))
def test_the_longest_is_found_in_few_predictions_and_says_whose_limit_it_is(held):
    few = Counted(lambda question: 1 if bisect_right(LENGTHS_S, question.duration_s) <= held else 9)
    longest, _ = limits(song(), few)
    assert (longest.fit and longest.fit.duration_s) == (LENGTHS_S[held - 1] if held else None)
    assert longest.of_request is (held == len(LENGTHS_S))
    tried = {question.duration_s for question in few.asked if question.batch_size == 1}
    assert len(tried) <= (2 if longest.of_request else 6)


@pytest.mark.parametrize("needs", [1, 7.9, 9, 90])
def test_what_is_left_is_told_to_the_last_prediction(needs):
    """As long as a saving is enough; at no moment is it told to be much more, or less, than it is."""
    told, left_out, at = [fits.expected_predictions(song())], [], []

    def begins(question):
        at.append(told[0] - sum(left_out) - len(at))

    few = Counted(lambda question: needs * question.lm + question.duration_s / 900, begins, left_out.append)
    answer(song(), few)
    assert len(few.asked) + sum(left_out) == told[0]
    for expected, rest in zip(at, range(len(few.asked), 0, -1), strict=True):
        assert rest - 2 <= expected <= rest + 2 * fits.SEARCH, at


@pytest.mark.parametrize("error", [BenchError("no trace"), OSError(28, "No space left"), MemoryError("host")])
def test_what_could_not_be_predicted_is_not_what_does_not_fit(error, monkeypatch, capsys):
    def ends(*_):
        raise error

    monkeypatch.setattr(Predictor, "_predicted", ends)
    assert main(["fits", "8", "--source", TINY]) == 4
    printed = capsys.readouterr()
    assert not printed.out and str(error) in printed.err and "Traceback" not in printed.err


def test_batches_go_past_8_to_the_most_that_a_request_may_have():
    def largest(items):
        return limits(song(), Counted(lambda question: 1 if question.batch_size <= items else 9))[1]

    assert [largest(items).fit.batch_size for items in (1, 7, 16, 40, 64)] == [1, 4, 16, 32, 64]
    assert [largest(items).of_request for items in (63, 64)] == [False, True]
    assert BATCHES[-1] == 64


def test_a_fallback_is_told_and_no_limit():
    """With the VAE on the host a song of any length fits."""

    class OnHost(Counted):
        def _predicted(self, question):
            return replace(super()._predicted(question), fallbacks=("vae_decode: memory; on the host",))

    found = answer(song(), OnHost(lambda question: 4))
    assert found.fit.fits and not found.fit.holds and found.longest.fit is None
    assert "instead   vae_decode: memory; on the host" in fits_command.text(found)


def needs_gb(question: Question) -> float:
    """Larger than 8 GB with a language model or unquantized, whatever else."""
    quantized = dict(question.choices).get("quantization") == "int8_weight_only" or question.tier_gb < 20
    parked = question.offload_to_cpu or question.tier_gb < 20
    return 8.5 + question.lm + 20 * (not quantized) + 4 * (not parked) - question.tier_gb / 20


def test_yes_comes_first_with_what_is_to_spare(capsys, monkeypatch):
    monkeypatch.setattr(fits_command, "Predictor", lambda *_: Counted(lambda question: 5.9))
    assert main(["fits", "8", "--source", FULL, "--duration", "60"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "yes: 60 s of turbo with LM 0.6B takes 5.9 of 8 GB, 2.1 GB to spare"
    facts = dict(line.split(maxsplit=1) for line in lines[2 : lines.index("", 2)] if line[0] != " ")
    assert facts["card"] == "8 GB (RTX 4060), tier4"
    assert facts["longest"].startswith("600 s, the most a request may ask for: takes 5.9 GB;")
    assert facts["batch"].startswith("64, the most a request may ask for: takes 5.9 GB;")
    assert "predicted with torch 0, uncalibrated" in " ".join(lines[-2:]) and "makes room" not in "".join(
        lines
    )
    assert max(map(len, lines)) < 80


def test_no_comes_first_with_what_makes_room(capsys, monkeypatch):
    monkeypatch.setattr(fits_command, "Predictor", lambda *_: Counted(needs_gb))
    assert main(["fits", "8", "--source", FULL]) == 1
    out = capsys.readouterr().out
    assert out.startswith(
        "no: 30 s of turbo with LM 0.6B does not fit 8 GB, no room for 1.10 GB in\nvae_decode\n"
    )
    assert "longest   none that was tried fits" in out
    rows = {" ".join(row[:-2]): row[-2:] for row in map(str.split, out.splitlines()) if row[:1] == ["--lm"]}
    assert main(["fits", "24", "--source", FULL, "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["predicted"], found["fits"], found["size_gb"]) == (True, False, 24)
    assert [(one["flags"], one["fit"]["wanted_bytes"] == 0) for one in found["savings"]] == [
        ("--quantization int8_weight_only", True), ("--offload --offload-dit", False),
        ("--lm acestep-5Hz-lm-0.6B", False), ("--lm none", False),
    ]  # fmt: skip
    assert rows


def test_where_nothing_alone_is_enough_all_of_it_is_tried():
    found = answer(song(24.0), Counted(lambda question: 13 + needs_gb(question)))
    assert not any(saving.fit.fits for saving in found.savings[:-1])
    assert found.savings[-1].flags == "all of these" and found.savings[-1].fit.fits


def test_a_tier_test_predicts_the_same():
    """Of small networks."""
    few = replace(song(lm=False, duration_s=2.0), source=TINY)
    fit = Predictor().fit(few)
    record = predict_case(Case(8, card=CARD, duration_s=2.0, source=TINY))
    assert (record.status, record.peak_bytes) == ("ok", fit.peak_bytes) and fit.fits
    assert Predictor().fit(replace(few, tier_gb=2.0)).peak_bytes < fit.peak_bytes  # half of the context
