"""Books of two cards: together they have the work of one, each its own memory, and each its own end."""

from __future__ import annotations

import json
from dataclasses import replace
from math import inf

import pytest
from allocations import CARD, setup, song

from acestep import resolver
from acestep.costs.__main__ import main
from acestep.request import GenerationConfig
from acestep.setup import Setup
from acestep.subject import SUBJECT
from harness import cards
from harness.memory import GIB
from harness.trace.cost import LOADING, Cost
from harness.trace.predict import predict

OTHER = cards.find("rtx3090")
KEPT = {"offload_to_cpu": False, "offload_dit_to_cpu": False}


def cost(setup: Setup, *beside: cards.Card, card: cards.Card = CARD, lm: bool = False) -> Cost:
    plan = resolver.resolve(song(steps=1, lm=lm), GenerationConfig(), setup)
    return predict(SUBJECT, plan, card, beside=beside)


@pytest.fixture(scope="module")
def alone() -> Cost:
    return cost(setup(lm=True, **KEPT), lm=True)


@pytest.fixture(scope="module")
def pair() -> Cost:
    return cost(setup(lm=True, place="lm=cuda:1", **KEPT), OTHER, lm=True)


def test_two_cards_have_the_work_of_one(alone, pair):
    books = pair.books
    assert list(books) == ["cuda:0", "cuda:1"] and books["cuda:1"].card.name == OTHER.name
    for name in ("flop", "syncs"):
        assert sum(getattr(book.work, name) for book in books.values()) == getattr(alone.work, name)
    of_stage = {stage.stage: stage.work.flop for stage in alone.running if stage.work.flop}
    found: dict[str, int] = {}
    for book in books.values():
        for stage in book.running:
            if stage.work.flop:
                assert stage.stage not in found  # every stage multiplies on one card
                found[stage.stage] = stage.work.flop
    assert found == of_stage
    assert books["cuda:1"].work.flop == of_stage["lm_prefill"] + of_stage["lm_decode"]
    assert pair.stages_s["lm_decode"] > 0 and "transfer" in pair.stages_s
    [out] = [stage for stage in books["cuda:1"].running if stage.stage == "transfer"]
    [into] = [stage for stage in pair.running if stage.stage == "transfer"]
    assert out.work.to_host_bytes == into.work.to_card_bytes > 0


def test_each_card_holds_its_own(alone, pair):
    weights = {book.card.name: book.stages[0].peak_live_bytes for book in (alone, *pair.books.values())}
    assert weights[CARD.name] + weights[OTHER.name] > alone.stages[0].peak_live_bytes  # cuBLAS has two places
    assert pair.peak_live_bytes < alone.peak_live_bytes
    assert pair.beside["cuda:1"].peak_live_bytes < alone.peak_live_bytes
    assert {stage.stage for stage in pair.beside["cuda:1"].stages} >= {LOADING, "lm_prefill", "lm_decode"}


def test_one_device_for_everything_has_the_books_it_had(alone):
    plain = alone.as_dict()
    assert "beside" not in plain
    assert cost(setup(lm=True, place="dit=cuda:0,vae=cuda", **KEPT), lm=True).as_dict() == plain


@pytest.mark.parametrize("small", [0, 1])
def test_the_card_that_is_too_small_is_where_it_ends(small):
    made = setup(place="dit=cuda:1", **KEPT)
    pair = [CARD, OTHER]
    pair[small] = replace(pair[small], memory_gib=(pair[small].context_bytes + 2**24) / GIB)
    found = cost(made, pair[1], card=pair[0])
    assert not found.fits and found.ended
    ended = [book.out_of_memory is not None for book in found.books.values()]
    assert ended == [small == 0, small == 1]
    assert json.loads(json.dumps(found.as_dict()))["fits"] is False


def costs(capsys, *flags: str) -> tuple[int, str, str]:
    code = main(["--source", "synthetic-tiny", "--duration", "10", "--steps", "1", "--no-thinking", *flags])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_the_report_has_a_book_for_each_card(capsys):
    code, out, _ = costs(capsys, "--card", "rtx4060", "rtx3090", "--place", "vae=cuda:1,text_encoder=cpu")
    assert code == 0
    assert "vae stays on cuda:1, text_encoder stays on cpu, whose work is not predicted" in " ".join(
        out.split()
    )
    verdicts = [line for line in out.splitlines() if line.startswith("verdict")]
    assert verdicts == ["verdict fits GeForce RTX 4060 of 8 GiB", "verdict fits GeForce RTX 3090 of 24 GiB"]
    assert "cuda:1  GeForce RTX 3090: 24.00 GiB" in out and "in all" in out
    assert max(map(len, out.splitlines()), default=inf) < 80


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (("--card", "rtx4060", "rtx3090"), 2, "--card: several are for --place"),
        (
            ("--card", "t4", "t4", "--place", "lm=cuda:2"),
            3,
            "--place: lm=cuda:2: --card names 2, and none is cuda:2",
        ),
        (("--place", "lm=vram"), 2, "--place: 'lm=vram' is on no device"),
        (("--place", "lm=cuda:1", "--strict"), 2, "--place: lm=cuda:1 is of a part that this request"),
    ],
)
def test_what_is_no_pair_is_refused(flags, code, message, capsys):
    found, _, err = costs(capsys, *flags)
    assert found == code and message in err and err.count("\n") == 1
