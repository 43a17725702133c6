"""What is shown while cases run: on a terminal lines that are redrawn, elsewhere one per phase."""

import io
from dataclasses import replace

import pytest
from tier_records import bare_record

from tiersim import Case
from tiersim.progress import Progress

CASE = Case(8, lm=True, device="cpu", source="synthetic-tiny", batch_size=2)
GIB = 2**30


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


def told(progress: Progress, clock: Clock, case: Case = CASE) -> None:
    progress.on_event(case, {"event": "hello"})
    progress.on_event(case, {"event": "cap", "bytes": 8 * GIB})
    progress.on_event(case, {"event": "phase", "name": "diffuse", "used_bytes": 2 * GIB})
    clock.now += 7
    progress.on_event(case, {"event": "progress", "phase": "diffuse", "i": 3, "n": 8, "used_bytes": 3 * GIB})


def test_a_line_says_phase_step_memory_and_time(clock):
    progress = Progress(3, io.StringIO(), clock)
    told(progress, clock)
    assert progress.lines() == ["8 GB (RTX 4060), default LM batch 2  diffuse 3/8  3.00 of 8.00 GiB  7 s"]


def test_what_is_expected_comes_from_the_cases_that_ended(clock):
    progress = Progress(5, io.StringIO(), clock)
    told(progress, clock)
    progress.on_record(bare_record(CASE, process_s=90.0))
    told(progress, clock, replace(CASE, batch_size=1))
    assert progress.lines() == [
        "8 GB (RTX 4060), default LM batch 1  diffuse 3/8  3.00 of 8.00 GiB  7 of about 90 s",
        "3 more cases, about 4:30",
    ]


def test_a_part_that_is_loaded_is_told_in_words(clock):
    progress = Progress(1, io.StringIO(), clock)
    progress.on_event(CASE, {"event": "phase", "name": "load/load/dit"})
    assert progress.lines() == ["8 GB (RTX 4060), default LM batch 2  loading dit  0 s"]


def test_a_token_has_no_known_number(clock):
    progress = Progress(1, io.StringIO(), clock)
    progress.on_event(CASE, {"event": "progress", "phase": "lm_decode", "i": 70, "n": None})
    assert "start 70" in progress.lines()[0]


def test_elsewhere_a_plain_line_comes_now_and_then(clock):
    stream = io.StringIO()
    with Progress(1, stream, clock) as progress:
        told(progress, clock)  # takes 7 s
        clock.now += 2
        progress.on_event(CASE, {"event": "phase", "name": "vae_decode", "used_bytes": GIB})
        clock.now += 1
        progress.on_event(CASE, {"event": "hb", "used_bytes": GIB})
        progress.on_event(CASE, {"event": "hb", "used_bytes": GIB})
    assert stream.getvalue().splitlines() == [
        "8 GB (RTX 4060), default LM batch 2  start  0 s",
        "8 GB (RTX 4060), default LM batch 2  vae_decode  1.00 of 8.00 GiB  10 s",
    ]


def test_a_case_that_was_skipped_says_nothing_of_time(clock):
    progress = Progress(2, io.StringIO(), clock)
    progress.on_record(replace(bare_record(CASE), status="skip"))
    told(progress, clock)
    assert progress.lines()[0].endswith("  7 s")


def test_what_comes_after_the_record_of_a_case_is_not_shown(clock):
    """A prediction tells how far it is by another way than its result."""
    progress = Progress(2, io.StringIO(), clock)
    told(progress, clock)
    progress.on_record(bare_record(CASE, process_s=90.0))
    told(progress, clock)
    assert progress.lines() == ["1 more case, about 1:30"]


def test_a_terminal_is_redrawn(clock, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    stream = io.StringIO()
    stream.isatty = lambda: True
    with Progress(1, stream, clock) as progress:
        told(progress, clock)
        assert "diffuse 3/8" in stream.getvalue()
    assert "\x1b[" in stream.getvalue()
