"""The books of memory are those of PyTorch's own caching allocator, step by step, as recorded from it."""

import gzip
import json
from bisect import bisect_left
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import ROOT

from harness.trace import allocator
from harness.trace.allocator import MIB, Allocator, Block, NoMemory
from scripts.allocator_vectors import NO_MEMORY, ROW, difference

RECORDED = ROOT / "tests/data/allocator/programs.json.gz"
PROGRAMS = json.loads(gzip.decompress(RECORDED.read_bytes()))


def differences() -> list[str]:
    return [text for program in PROGRAMS if (text := difference(program, program["books"]))]


def test_every_step_is_pytorchs():
    assert differences() == []


def test_the_programs_meet_all_that_can_happen():
    rows = [dict(zip(ROW, row, strict=True)) for program in PROGRAMS for row in program["books"]]
    steps = [step for program in PROGRAMS for step in program["steps"]]
    refused = sum(row["address"] == NO_MEMORY for row in rows)
    retries = sum(program["books"][-1][-1] for program in PROGRAMS)
    assert len(rows) == len(steps) >= 5000
    assert refused >= 20
    assert retries >= refused + 5  # some succeed
    assert {kind for kind, *_ in steps} == set("mfep")
    assert ["m", 0] in steps
    assert {program["cap_bytes"] for program in PROGRAMS} == {512 * MIB, 2048 * MIB, 8192 * MIB, 2**50}
    assert any(program["cap_bytes"] == program["card_bytes"] == 2048 * MIB for program in PROGRAMS)


def worst_fit(pool, size):
    return pool.free.pop()[2] if pool.free and pool.free[-1][0] >= size else None


def best_fit_of_the_youngest(pool, size):
    place = bisect_left(pool.free, (size,))
    if place == len(pool.free):
        return None
    return pool.free.pop(bisect_left(pool.free, (pool.free[place][0] + 1,)) - 1)[2]


def merge_forwards_only(block: Block, merge=allocator.merge):
    before, block.before = block.before, None
    merge(block)
    block.before = before


@pytest.mark.parametrize(
    ("rule", "wrong"),
    [
        ("ROUND_BYTES", 256),
        ("ROUND_BYTES", 1024),
        ("SMALL_BYTES", MIB - 512),
        ("SMALL_BYTES", MIB + 512),
        ("SMALL_SEGMENT_BYTES", MIB),
        ("SHARED_BYTES", 10 * MIB + 512),
        ("SHARED_BYTES", 10 * MIB - 512),
        ("SHARED_SEGMENT_BYTES", 10 * MIB),
        ("SEGMENT_ROUND_BYTES", 512),
        ("SMALL_REST_BYTES", 1024),
        ("LARGE_REST_BYTES", MIB),
        ("LARGE_REST_BYTES", MIB + 1024),
        ("LARGE_REST_BYTES", 512),
        ("merge", lambda block: None),
        ("merge", merge_forwards_only),
        ("best_fit", lambda pool, size: None),
        ("best_fit", worst_fit),
        ("best_fit", best_fit_of_the_youngest),
    ],
)
def test_a_wrong_rule_is_caught(rule: str, wrong, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(allocator, rule, wrong)
    assert differences()


def test_a_missing_retry_is_caught(monkeypatch: pytest.MonkeyPatch):
    """Up to the first step that empties the cache, which would go wrong as well."""
    monkeypatch.setattr(Allocator, "empty_cache", lambda books: None)
    lengths = [(program["steps"] + [["e"]]).index(["e"]) for program in PROGRAMS]
    heads = [
        (program | {"steps": program["steps"][:length]}, program["books"][:length])
        for program, length in zip(PROGRAMS, lengths, strict=True)
    ]
    assert any(difference(*head) for head in heads)


def test_a_card_that_is_a_byte_smaller_is_caught():
    assert any(
        difference(program | {"cap_bytes": program["cap_bytes"] - 1}, program["books"])
        for program in PROGRAMS
    )


STEPS = st.lists(
    st.one_of(
        st.integers(0, 64 * MIB),  # bytes to allocate
        st.integers(0, 2 * MIB),
        st.floats(0, 1, exclude_max=True),  # which block to free
        st.none(),  # empty the cache
    ),
    max_size=80,
)


@given(steps=STEPS, cap_bytes=st.integers(0, 256 * MIB))
def test_books_balance_whatever_happens(steps: list[int | float | None], cap_bytes: int):
    books = Allocator(cap_bytes)
    live: list[tuple[int, Block]] = []
    for step in steps:
        if step is None:
            books.empty_cache()
        elif isinstance(step, float):
            if live:
                books.free(live.pop(int(step * len(live)))[1])
        else:
            try:
                live.append((step, books.malloc(step)))
            except NoMemory as refusal:
                assert refusal.reserved_bytes + refusal.wanted_bytes > cap_bytes
        assert cap_bytes >= books.reserved_bytes >= books.allocated_bytes >= books.live_bytes
        assert books.live_bytes == sum(size for size, _ in live)
        assert books.allocated_bytes == sum(block.size_bytes for _, block in live)
        assert books.peak_reserved_bytes >= books.reserved_bytes
        spans = sorted((b.address, b.address + b.size_bytes) for _, b in live if b.size_bytes)
        assert all(end <= start for (_, end), (start, _) in pairwise(spans))
    for _, block in live:
        books.free(block)
    assert books.allocated_bytes == books.live_bytes == 0
    books.empty_cache()
    assert books.reserved_bytes == 0


def test_what_is_refused_says_what_there_was():
    books = Allocator(64 * MIB)
    kept, cached = books.malloc(3 * MIB), books.malloc(30 * MIB)
    books.free(cached)
    with pytest.raises(NoMemory, match="a segment of 52428800 bytes does not fit") as caught:
        books.malloc(50 * MIB - 1000)
    refusal = caught.value
    assert (refusal.wanted_bytes, refusal.cap_bytes) == (50 * MIB, 64 * MIB)
    assert (refusal.allocated_bytes, refusal.reserved_bytes) == (3 * MIB, 20 * MIB)  # the cache was flushed
    assert books.retries == 1
    books.free(kept)
    assert books.malloc(50 * MIB).size_bytes == 50 * MIB
    assert (books.retries, books.reserved_bytes) == (2, 50 * MIB)


def test_nothing_is_a_block_and_a_block_is_freed_once():
    books = Allocator(0)
    nothing = books.malloc(0)
    books.free(nothing)
    assert (nothing.size_bytes, books.reserved_bytes) == (0, 0)
    books = Allocator(2 * MIB)
    block = books.malloc(1)
    books.free(block)
    with pytest.raises(ValueError, match="freed twice"):
        books.free(block)


def test_a_new_peak_starts_where_the_books_are():
    books = Allocator(64 * MIB)
    kept, gone = books.malloc(5000), books.malloc(30 * MIB)
    books.free(gone)
    assert (books.peak_live_bytes, books.peak_reserved_bytes) == (5000 + 30 * MIB, 32 * MIB)
    books.reset_peak()
    assert (books.peak_live_bytes, books.peak_allocated_bytes) == (5000, 5120)
    assert books.peak_reserved_bytes == 32 * MIB
    books.free(kept)
    assert books.peak_live_bytes == 5000
