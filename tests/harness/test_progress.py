"""Progress: drawn in place on a terminal, now and then elsewhere, with what is left as far as it is known."""

from __future__ import annotations

import io
import sys
import threading

import pytest

from harness.progress import Follower, Part, Progress, following, minutes
from harness.screen import PLAIN_EVERY_S, REDRAW_EVERY_S, Screen
from harness.spans import record, span

ORDERS = "\x1b[2J\u202e夜"


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Stream(io.StringIO):
    """What is written, and whether it is a terminal."""

    def __init__(self, terminal: bool = False):
        super().__init__()
        self.terminal, self.writes = terminal, 0

    def isatty(self) -> bool:
        return self.terminal

    def write(self, text: str) -> int:
        self.writes += bool(text)
        return super().write(text)

    @property
    def lines(self) -> list[str]:
        return self.getvalue().splitlines()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(autouse=True)
def _terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")


def shown(text: str) -> list[str]:
    """What a terminal of any size would show in the end."""
    screen, row, column = [""], 0, 0
    steps = text.replace("\x1b[?7l", "").replace("\x1b[?7h", "")
    while steps:
        if steps.startswith("\x1b[K"):
            screen[row], steps = screen[row][:column], steps[3:]
        elif steps.startswith("\x1b[A"):
            row, steps = row - 1, steps[3:]
        elif steps[0] == "\r":
            column, steps = 0, steps[1:]
        elif steps[0] == "\n":
            row, column, steps = row + 1, 0, steps[1:]
            screen += [""] * (row + 1 - len(screen))
        else:
            screen[row] = screen[row][:column] + steps[0] + screen[row][column + 1 :]
            column, steps = column + 1, steps[1:]
    return screen


def test_what_is_left_is_as_long_as_what_is_done_was_and_unknown_before(clock):
    progress = Progress(120.0, 3, stream=Stream(), clock=clock)
    progress.say("loading")
    clock.now += 7
    assert progress.lines() == ["[0/3] loading; 0:07 so far"] and progress.expected_s(10) is None
    progress.begin("first")  # how long loading took says nothing of it
    clock.now += 30
    assert progress.lines() == ["[1/3] first; 0:37 so far"]
    progress.end(60.0)
    assert progress.expected_s(10) == 5.0
    progress.left_out(20.0)
    progress.begin("third")
    clock.now += 5
    assert progress.lines() == ["[3/3] third; 0:42 so far, about 0:15 to go"]
    clock.now += 99
    assert progress.lines()[0].endswith("about 0:00 to go")


@pytest.mark.parametrize("columns", [40, 60, 80])
def test_where_a_line_has_no_room_the_times_stay_whole(columns, clock, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    stream = Stream(terminal=True)
    with Progress(3.0, 3, stream=stream, clock=clock) as progress:
        progress.step("10 s, batch 2, not thinking, 1 steps")
        clock.now += 10
        progress.step("10 s, batch 4, not thinking, 1 steps, run 3 of 3, vae_decode")
        line = shown(stream.getvalue())[0]
    assert len(line) < columns and line.startswith("[2/3]")
    assert line.endswith("…; 0:10 so far, about 0:20 to go")


def test_what_is_done_once_is_no_measure_of_the_rest(clock):
    progress = Progress(2.0, stream=Stream(), clock=clock)
    progress.begin("a")
    clock.now += 50
    progress.prepared()
    clock.now += 5
    progress.end()
    assert progress.expected_s(1) == 5.0


def test_what_is_left_falls_while_a_piece_runs_and_says_which_stage(clock):
    """By 10 s a piece; counting what of a piece is done as no work would let it grow to 40 s."""
    progress = Progress(3.0, stream=Stream(), clock=clock)
    follower = Follower(progress)
    left_s = []
    for what in ("a", "b"):
        progress.step(what)
        for stage in ("load/load/vae", "diffuse/step"):
            clock.now += 5
            follower(stage)
            left_s.append(progress.left_s())
    assert left_s == [None, None, 15.0, 10.0]
    assert progress.lines() == ["b, diffuse; 0:20 so far, about 0:10 to go"]
    follower("load/load/vae")
    assert progress.lines()[0].startswith("b, loading vae;")


def test_a_stage_that_is_no_part_is_no_measure_of_those_that_are(clock):
    progress = Progress(4.0, stream=Stream(), clock=clock)
    follower = Follower(progress, [Part("diffuse", 4.0, "step", 4)])
    for path, took_s in (("load/dit", 60), ("diffuse", 0), ("diffuse/step", 3), ("diffuse/step", 0)):
        follower(path)
        clock.now += took_s
    assert progress.left_s() == 9.0


def test_steps_end_one_another(clock):
    progress = Progress(4.0, stream=Stream(), clock=clock)
    for what, work in (("a", 1.0), ("b", 3.0)):
        progress.step(what, work)
        clock.now += 10 * work
    progress.step("c")
    assert progress.expected_s(1) == 10.0


def test_elsewhere_a_plain_line_comes_now_and_then_and_nothing_of_what_is_over_soon(clock):
    stream = Stream()
    with Progress(100, 100, stream=stream, clock=clock) as progress:
        for number in range(31):
            progress.step(f"case {number}")
            clock.now += 1
    assert len(stream.lines) == 3 == 31 // PLAIN_EVERY_S
    assert stream.lines[0] == "[10/100] case 9; 0:10 so far, about 1:30 to go"
    assert "\x1b" not in stream.getvalue() and "\r" not in stream.getvalue()
    each = Stream()
    with Progress(2, 2, each=True, stream=each, clock=clock) as progress:
        progress.step("a")
        progress.step("b")
    assert [line.split(";")[0] for line in each.lines] == ["[1/2] a", "[2/2] b"]


def test_on_a_terminal_lines_are_redrawn_below_what_is_printed_and_gone_in_the_end(clock, monkeypatch):
    stream = Stream(terminal=True)
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", stream)
    with Screen(clock=clock) as screen:
        screen.draw(lambda: ["one", "two", "three"], now=True)
        assert shown(stream.getvalue()) == ["one", "two", "three"]
        print("a row")
        screen.draw(lambda: ["four"], now=True)
        assert shown(stream.getvalue())[:2] == ["a row", "four"]
        print("a warning", file=sys.stderr)
        screen.draw(lambda: ["five"], now=True)
    assert [line for line in shown(stream.getvalue()) if line] == ["a row", "a warning"]
    assert sys.stdout is stream and sys.stderr is stream


def test_rows_that_go_to_a_file_have_nothing_of_it(clock, monkeypatch):
    terminal, file = Stream(terminal=True), Stream()
    monkeypatch.setattr(sys, "stdout", file)
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress(1, 1, clock=clock) as progress:
        progress.begin("a case")
        print("a row")
    assert file.getvalue() == "a row\n" and "a case" in terminal.getvalue()


@pytest.mark.parametrize("columns", [20, 80])
def test_a_line_is_harmless_and_never_wider_than_the_terminal(clock, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    stream = Stream(terminal=True)
    with Screen(stream, clock) as screen:
        screen.draw(lambda: [ORDERS + "x" * 200], now=True)
        (line,) = shown(stream.getvalue())
        assert len(line) < columns and line.startswith(r"\x1b[2J\u202e") and line.endswith("…")


def test_one_inside_another_shows_nothing(clock):
    outer, inner = Stream(), Stream()
    with Progress(1, each=True, stream=outer, clock=clock) as one:
        one.begin("outer")
        with Progress(1, each=True, stream=inner, clock=clock) as other:
            other.begin("inner")
        one.begin("outer again")
    with Progress(1, each=True, stream=inner, clock=clock) as other:
        other.begin("alone")
    assert len(outer.lines) == 2 and [line.split(";")[0] for line in inner.lines] == ["alone"]


def test_a_terminal_that_is_gone_ends_nothing(clock):
    class Gone(Stream):
        def write(self, text: str) -> int:
            raise OSError(5, "Input/output error")

    with Progress(1, each=True, stream=Gone(terminal=True), clock=clock) as progress:
        progress.begin("a")
        progress.end()
    assert progress.done == 1.0


def test_a_dumb_terminal_gets_plain_lines(clock, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    stream = Stream(terminal=True)
    with Progress(1, each=True, stream=stream, clock=clock) as progress:
        progress.begin("a")
    assert stream.getvalue() == "a; 0:00 so far\n"


def test_no_thread_draws_and_a_line_is_drawn_twice_a_second_at_most(clock):
    """Whoever times draws nothing while it does: a thread would take a core from it."""
    threads, stream = threading.active_count(), Stream(terminal=True)
    with Progress(10_000, stream=stream, clock=clock) as progress:
        for done in range(10_000):
            clock.now += 3 / 10_000
            progress.reach(done)
        assert threading.active_count() == threads
        assert 0 < stream.writes <= 3 / REDRAW_EVERY_S
        before = stream.writes
        for done in range(10):
            progress.begin(str(done))
    assert stream.writes >= before + 10  # the control: what begins is drawn at once


PARTS = (Part("lm_decode", 40.0, "forward", 100), Part("diffuse", 8.0, "step", 8), Part("vae_decode", 9.0))


def test_a_run_is_followed_by_its_spans(clock):
    progress = Progress(57.0, stream=Stream(), clock=clock)
    follow = Follower(progress, PARTS)
    seen = []
    for path in (
        *("text_encode", "lm_decode", *["lm_decode/forward"] * 51, "lm_decode/sampling", "condition"),
        *("diffuse", *["diffuse/step"] * 3, "vae_decode", "vae_decode/tile", "save"),
    ):
        follow(path)
        seen.append((path, round(progress.done, 6)))
    assert dict(seen) == {
        "text_encode": 0.0, "lm_decode": 0.0, "lm_decode/forward": 20.0, "lm_decode/sampling": 20.0,
        "condition": 20.0, "diffuse": 40.0, "diffuse/step": 42.0, "vae_decode": 48.0, "vae_decode/tile": 48.0,
        "save": 48.0,
    }  # fmt: skip
    follow("diffuse/step")
    assert progress.done == 48.0 and progress.lines()[0].startswith("diffuse 4 of 8; ")


def test_stages_that_take_turns_are_one_part(clock):
    """Here four turns of two stages, 3 s and 2 s, and a stage of 20 s behind them."""
    progress = Progress(40.0, stream=Stream(), clock=clock)
    follow = Follower(progress, [Part("frame", 20.0, times=4, beside=("draw",)), Part("decode", 20.0)])
    clock.now += 100  # of loading
    for turn in range(1, 5):
        for path, took_s in (("frame", 3), ("draw", 0.5), ("draw", 1.5)):
            follow(path)
            assert progress.lines()[0].startswith(f"{path} {turn} of 4; ")
            clock.now += took_s
        assert progress.done == 5.0 * (turn - 1)
    follow("decode")
    assert progress.done == progress.left_s() == 20.0


def test_what_follows_a_run_leaves_nothing_behind_and_the_stages_as_they_are(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Stream())
    with following("making", PARTS) as progress, record() as times:
        with span("diffuse"), span("step"):
            pass
        assert progress.done == 40.0
    with span("vae_decode"):
        pass
    assert progress.done == 40.0 and list(times.stages()) == ["diffuse", "other"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1.0, "0:00"), (7.4, "0:07"), (59.6, "1:00"), (3599.0, "59:59"), (3722.0, "1:02:02")],
)
def test_time_is_read_at_a_glance(seconds, text):
    assert minutes(seconds) == text
