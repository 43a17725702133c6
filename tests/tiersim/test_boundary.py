"""What follows from records, and what does not."""

import pytest
from tier_records import record

from tiersim.boundary import batch_limits, ladders, minima
from tiersim.record import Cap

NO_QUANT, NO_OFFLOAD = 0, 1


def found(records, capability=NO_QUANT):
    return minima(records)[capability]


def sizes(records):
    return [made.requested.tier_gb for made in records]


def no_quant(outcomes):
    """Rows without quantization, by size."""
    return [record(size, status, variant="no-quant") for size, status in outcomes.items()]


def test_the_minimum_passes_and_so_does_every_larger_card():
    minimum = found(no_quant({4: "oom", 6: "oom", 8: "ok", 12: "ok"}))
    assert (minimum.record.requested.tier_gb, minimum.last_failure.requested.tier_gb) == (8, 6)
    assert (minimum.offending, minimum.unknown) == ((), ())


def test_the_first_pass_is_no_minimum_while_a_larger_card_fails():
    minimum = found(no_quant({4: "oom", 6: "ok", 8: "oom", 12: "ok", 16: "ok"}))
    assert minimum.record.requested.tier_gb == 12
    assert sizes(minimum.offending) == [8]
    assert minimum.last_failure.requested.tier_gb == 8


def test_where_every_card_fails_there_is_no_minimum():
    minimum = found(no_quant({4: "oom", 8: "host-oom"}))
    assert minimum.record is None and minimum.last_failure.requested.tier_gb == 8 and not minimum.offending


@pytest.mark.parametrize("status", ["timeout", "crash", "error", "invalid", "refused"])
def test_what_did_not_run_out_of_memory_is_unknown_and_no_pass(status):
    minimum = found(no_quant({8: "ok", 12: status, 16: "ok"}))
    assert minimum.record.requested.tier_gb == 16
    assert sizes(minimum.unknown) == [12] and not minimum.offending and minimum.last_failure is None


@pytest.mark.parametrize(
    ("outcomes", "words", "basis"),
    [
        ({4: "oom", 6: "ok", 8: "ok"}, "6 GB (RTX 2060)", ""),
        ({4: "ok", 8: "ok"}, "≤ 4 GB (GTX 1650)", "the smallest tried"),
        ({4: "skip", 8: "ok"}, "≤ 8 GB (RTX 4060)", "the smallest tried"),
        ({4: "oom", 6: "crash", 8: "ok"}, "≤ 8 GB (RTX 4060)", "of 6 GB (RTX 2060) nothing was learned"),
        ({6: "ok", 8: "oom", 12: "ok"}, "12 GB (RTX 3060)", ""),
        ({4: "oom"}, "none that was tried", ""),
        ({4: "oom", 8: "timeout"}, "unknown", ""),
        ({4: "timeout", 8: "oom"}, "none that was tried", ""),
        ({4: "skip"}, "N/A", ""),
    ],
)
def test_a_minimum_is_one_where_the_next_smaller_card_was_tried_and_is_too_small(outcomes, words, basis):
    minimum = found(no_quant(outcomes))
    assert (str(minimum), minimum.basis) == (words, basis)
    assert minimum.proven == (minimum.record is not None and not basis)


def test_skipped_rows_show_nothing():
    minimum = found([record(4, "skip", variant="no-offload"), record(8, variant="no-offload")], NO_OFFLOAD)
    assert minimum.record.requested.tier_gb == 8 and not minimum.unknown
    assert found([record(4, "skip", variant="no-offload")], NO_OFFLOAD).record is None


def test_default_rows_of_tiers_that_lack_a_setting_are_evidence():
    quantized, plain = record(16), record(20)
    assert found([quantized, plain]).record == plain
    assert found([quantized, plain], NO_OFFLOAD).record == plain
    assert found([quantized, record(20, "oom")]).record is None
    # Without offloading says nothing about less: a card may hold the parked models and not all at once.
    assert found([record(8, "oom", variant="no-offload")]).last_failure is None


def test_one_failed_repeat_fails_the_card():
    repeats = [record(8, variant="no-quant", repeat=i, status=s) for i, s in enumerate(("ok", "oom", "ok"))]
    assert found([*repeats, record(12, variant="no-quant")]).record.requested.tier_gb == 12


def climb(size, outcomes, repeats=1, peak_gb=1.0, **changes):
    return [
        record(size, status, peak_gb, batch_size=batch, repeat=i, no_limits=True, **changes)
        for batch, status in outcomes.items()
        for i in range(repeats)
    ]


def test_a_ladder_ends_below_its_first_failure():
    ((alone, lm),) = ladders(climb(8, {1: "ok", 2: "ok", 4: "oom"}) + climb(8, {1: "oom"}, lm=True))
    assert (str(alone), alone.best, str(lm)) == ("2", 2, "FAIL")
    ((top, none),) = ladders(climb(4, {1: "ok", 2: "ok", 4: "ok", 8: "ok"}))
    assert (str(top), top.fell, none) == ("≥ 8", False, None)  # how many fit is not known


def test_another_ending_than_memory_leaves_the_maximum_open():
    ((alone, _),) = ladders(climb(8, {1: "ok", 2: "crash"}))
    assert str(alone) == "≥ 1 (stopped: crash)"
    (limit,) = batch_limits([(alone, None)])
    assert limit.suggestion == "no_lm: unknown"


def test_batches_that_were_not_tried_lower_no_limit():
    both = climb(12, {1: "ok", 2: "ok"}) + climb(12, {1: "ok"}, lm=True)
    assert suggested(both) == ["no_lm: unknown, lm: unknown"]
    assert suggested(climb(12, {1: "ok", 2: "ok", 4: "ok"})) == ["OK"]


def suggested(records):
    return [limit.suggestion for limit in batch_limits(ladders(records))]


def test_a_limit_that_memory_does_not_hold_is_lowered():
    alone, lm = climb(12, {1: "ok", 2: "oom"}), climb(12, {1: "ok", 2: "ok", 4: "oom"}, lm=True)
    assert suggested(alone + lm) == ["no_lm: 4→1"]
    assert suggested(climb(12, {1: "ok", 2: "ok", 4: "ok", 8: "oom"}) + lm) == ["OK"]


def test_a_limit_is_raised_only_on_repeats_and_with_room_to_spare():
    passes = {1: "ok", 2: "ok", 4: "ok", 8: "oom"}
    assert suggested(climb(4, passes)) == ["OK"]
    assert suggested(climb(4, passes, repeats=3)) == ["no_lm: 1→4"]
    assert suggested(climb(4, passes, repeats=3, peak_gb=3.9)) == ["OK"]
    exact = climb(4, passes, cap=Cap("virtual", 2**30, verified=True))
    assert suggested(exact) == ["no_lm: 1→4"]
    tiny = climb(4, passes, repeats=3, environment={"source": "synthetic-tiny"})
    assert suggested(tiny) == ["OK"]
    assert suggested(climb(4, passes, repeats=3, peak_gb=None)) == ["OK"]  # nobody knows how much was left
