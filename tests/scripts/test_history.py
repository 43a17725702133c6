"""The table of the history: every number from the results, n/a for gaps, nothing of it markup."""

import math
import re
import sys

import pytest
from places import ROOT

from scripts import history as command
from scripts.changes.figures import (
    COST,
    COST_STAGES,
    GAP,
    STAGES,
    Size,
    columns,
    markdown,
    named,
    size_of,
)
from scripts.changes.history import Commit, History, Machine, Series, Unread
from scripts.gate.suites import every

HOSTILE = "@octocat <img src=x> | [a](b) `c` \x1b[2J"
COMMITS = [Commit(f"{at:040x}", f"2026-11-{at + 1:02d}T00:00:00+00:00", f"Commit {at}") for at in range(4)]
COMMITS[3] = Commit("f" * 40, "2026-11-04T00:00:00+00:00", HOSTILE)
DAY_MS = 86_400_000
WALL = ("generate.TimeGenerate.track_wall", 5, 1, True, 8)


def series(name: str, *params: object, values, unit="seconds", **more) -> Series:
    return Series(named(name, *params), "", "", unit, False, values, **more)


def machine(name: str = "a-cpu", walls=(0.5, math.nan, 1.0, 2.0), **facts: str) -> Machine:
    """Commit 1 was not measured; of commit 0 the launches are missing, and commit 3's wall is doubtful."""
    stage = "generate.TrackStages.track_stage"
    measured = [
        series(*WALL, values=[*walls], intervals={2: (0.8, 1.25), 3: (0.0, 4.0)}, doubts={3: "others ran"}),
        series(stage, "diffuse", 5, True, values=[0.25, math.nan, 0.4, 0.0409]),
        series("memory.PeakMemTier.track_peak", 8, True, values=[math.nan, math.nan, 5e8, 6e8], unit="bytes"),
        *(
            series("costs.TrackCost.track_launches", one, *COST, unit="launches",
                   values=[math.nan if one == "post" else 100, math.nan, 100, 200])
            for one in COST_STAGES
        ),
    ]  # fmt: skip
    times = {at: (20_000 + at) * DAY_MS for at in (0, 2, 3)}
    return Machine({"machine": name, "cpu": "A", "gpu": "none", **facts}, "checkout", times, measured)


def table(text: str) -> list[dict[str, str]]:
    """Rows of the first table, by their heads; a cell that is cut by a stray | has no place."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    heads, rule, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    assert set("".join(rule)) == {"-", ":"} and len(rule) == len(heads)
    return [dict(zip(heads, row, strict=True)) for row in rows]


def test_every_number_is_one_of_the_results_and_a_gap_is_one(monkeypatch):
    newest, middle, oldest = table(markdown(History(COMMITS, [machine()], 0, []), 20))
    assert (oldest["wall"], middle["wall"]) == ("500 ms", "1.00 s (800 ms to 1.25 s)")
    assert middle["x_realtime"] == "5.00 x (4.00 x to 6.25 x)"  # 5 s of audio over the wall, and its ends
    assert (
        newest["wall"] == "2.00 s (0.00 µs to 4.00 s) ?"
        and newest["x_realtime"] == "2.50 x (1.25 x to inf x) ?"
    )
    assert [row["diffuse"] for row in (oldest, middle, newest)] == ["250 ms", "400 ms", "40.9 ms"]
    assert [row["lm_decode"] for row in (oldest, middle, newest)] == [GAP] * 3
    assert [row["peak, 8 GB"] for row in (oldest, middle, newest)] == [GAP, "500 MB", "600 MB"]
    launches = [row["launches, predicted"] for row in (oldest, middle, newest)]
    assert launches == [GAP, f"{100 * len(COST_STAGES):,}", f"{200 * len(COST_STAGES):,}"]
    assert oldest["measured"] == "2024-10-04" and "2026-11-01" in oldest["commit"]


def test_what_is_not_shown_is_told():
    unread = [Unread("a-cpu/x|y.json", "it is none")]
    text = markdown(History(COMMITS, [machine()], 2, unread), last=2)
    assert len(table(text)) == 2 and "between these" not in text
    assert "2 results of commits that are not on this branch" in text and "x&#124;y" in text
    assert "* Commits between these that were not measured here: 1." in markdown(
        History(COMMITS, [machine()], 0, []), 20
    )
    assert f"* ? <code>{'f' * 8}</code>: others ran; not to be relied on." in text


def test_unlike_machines_have_tables_of_their_own_the_last_measured_first():
    late = machine("late")
    late.measured = {at: ms + DAY_MS for at, ms in late.measured.items()}
    text = markdown(History(COMMITS, [machine(), late], 0, []), 20)
    assert text.index("late") < text.index("a&#45;cpu") and text.count("| commit |") == 2


def test_nothing_that_others_wrote_is_markup():
    text = markdown(History(COMMITS, [machine(HOSTILE, cpu=HOSTILE)], 0, []), 20)
    assert len(table(text)) == 3
    shown = re.sub(r"<code>[^<>|`@\[\]]*</code>", "", text)
    assert "octocat" not in shown and "<" not in shown and "\x1b" not in text


@pytest.mark.parametrize(
    ("asked", "size"),
    [((None, None), (5, True)), ((None, False), (15, False)), ((60, None), (60, True))],
)
def test_the_size_is_the_shortest_that_was_measured_or_what_is_asked_for(asked, size):
    one = machine()
    one.series.append(series("generate.TimeGenerate.track_wall", 15, 1, False, 8, values=[1.0] * 4))
    assert size_of(one, *asked) == Size(*size)
    assert f"One item of {size[0]} s, {'' if size[1] else 'not '}planned" in markdown(
        History(COMMITS, [one], 0, []), 20, *asked
    )


def test_the_figures_are_series_that_there_are(monkeypatch):
    """A benchmark that is renamed would be n/a for ever."""
    monkeypatch.chdir(ROOT)
    there = {one.name: one.unit for one in every()}
    machines = Machine({}, "", {}, [Series(name, "", "", unit, False, []) for name, unit in there.items()])
    heads = [(head, unit) for head, unit, _ in columns(machines, Size(30, True))]
    assert all(unit for _, unit in heads) and [head for head, _ in heads][1 : 1 + len(STAGES)] == [*STAGES]
    assert all(named("costs.TrackCost.track_launches", stage, *COST) in there for stage in COST_STAGES)


@pytest.mark.parametrize(
    ("words", "refusal"), [(["--last", "0"], "--last: 0"), (["--duration", "7"], "--duration")]
)
def test_mistakes_are_one_line(monkeypatch, capsys, words, refusal):
    monkeypatch.setattr(sys, "argv", ["history", *words])
    assert command.main() == 2
    message = capsys.readouterr().err
    assert refusal in message and message.count("\n") == 1
