"""The page Speed: what was measured and what was predicted, and neither stands for the other."""

import json
import math
import statistics

import measured
import pytest
from measured import CARD, CPU, FULL, TINY

from acestep.costs import anchors
from harness import cards
from harness.trace.stage_costs import Work
from scripts.site import speed, speed_predicted
from scripts.site.speed_measured import songs, stages
from scripts.site.speed_numbers import Request, confronted, least, predicted, roof
from scripts.site.speed_numbers import measured as times_of

CARD_4090 = cards.find("RTX 4090")
WORK = {"track_flop": 4e13, "track_traffic": 2e11, "track_launches": 100, "track_kernels": 5000}


def timed(stage, *values, duration_s=15, thinking=False, **facts):
    params = {"stage": stage, "duration_s": duration_s, "thinking": thinking}
    return measured.series("generate.TrackStages.track_stage", values, stage, params=params, **facts)


def whole(value, duration_s=15, batch=1, thinking=False, steps=8):
    params = {"duration_s": duration_s, "batch": batch, "thinking": thinking, "steps": steps}
    return measured.series("generate.TimeGenerate.track_wall", [value], "wall", params=params)


def costs(stage="diffuse", duration_s=30, variant="turbo", mode="captured", batch=1, **work):
    params = {"stage": stage, "duration_s": duration_s, "batch": batch, "variant": variant, "mode": mode}
    return [
        measured.series(f"costs.TrackCost.{method}", [value], stage, unit="FLOP", params=params)
        for method, value in (WORK | work).items()
    ]


def text(monkeypatch, *machines):
    (page,) = speed.pages(measured.site(monkeypatch, *machines))
    return page.content


def test_the_first_line_is_the_answer(monkeypatch):
    one = measured.machine(CPU, timed("diffuse", 9.0, 1.5), timed("vae_decode", 9.0, 0.5), whole(2.0))
    content = text(monkeypatch, one)
    assert "Measured: 15 s of music in 2.00 s on a-cpu; 75% is diffuse." in content
    assert "tiny made-up weights on a-cpu" in content


def test_a_stage_that_failed_or_is_na_is_none_of_the_song(monkeypatch):
    gap = timed("vae_decode", 0.5, math.nan, gaps={7: "failed"})
    (times,) = times_of(
        measured.site(monkeypatch, measured.machine(CPU, timed("diffuse", 1.5), gap)).history, ["a"]
    )
    assert times.stages == {Request(15): {"diffuse": 1.5}}


def test_a_doubtful_time_says_so(monkeypatch):
    doubtful = timed("diffuse", 1.0, doubts={7: "other work kept 1.9 of 2 cores busy"})
    assert "Doubtful: other work kept 1.9 of 2 cores busy." in text(
        monkeypatch, measured.machine(CPU, doubtful)
    )


def test_where_nothing_was_timed_it_says_so(monkeypatch):
    nothing = measured.machine(CPU, measured.series("micro.TimeSampling.track_pick", [1.0], "pick"))
    content = text(monkeypatch, nothing)
    assert "No generation was timed yet" in content and "Predicted: " not in content
    assert 'id="stages"' not in content and 'id="roofline"' not in content  # no empty chart


def test_songs_at_once_share_the_time_and_other_steps_are_another_series(monkeypatch):
    one = measured.machine(CPU, whole(6.0, batch=4), whole(99.0, steps=16))
    (row,) = songs(times_of(measured.site(monkeypatch, one).history, ["a"])).rows
    assert (row["batch"], row["seconds"], row["speed"]) == (4, 1.5, 10.0)


def test_bars_add_up_to_the_song(monkeypatch):
    one = measured.machine(
        CPU, timed("diffuse", 3.0), timed("post", 1.0), timed("diffuse", 5.0, duration_s=5)
    )
    rows = stages(times_of(measured.site(monkeypatch, one).history, ["a"])).rows
    assert [(row["music"], row["stage"], row["share"]) for row in rows] == [
        ("5 s", "diffuse", 1.0), ("15 s", "diffuse", 0.75), ("15 s", "post", 0.25),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("bound", "work", "seconds"),
    [  # of an RTX 4090: 165.2 TFLOP/s, 1008 GB/s, 4.5 µs a launch, 2 µs a kernel
        ("compute", Work(flop=10**15, read_bytes=10**9, launches=1, kernels=1), 1e15 / 165.2e12),
        ("memory", Work(flop=10**9, read_bytes=10**12, launches=1, kernels=1), 1e12 / 1008e9),
        ("launches", Work(flop=10**9, read_bytes=10**6, launches=1000, kernels=1000), 1000 * 4.5e-6),
        ("kernels", Work(flop=10**9, read_bytes=10**6, launches=1, kernels=1000), 1000 * 2e-6),
    ],
)
def test_a_stage_takes_as_long_as_the_longest_of_what_it_needs(bound, work, seconds):
    of_stage = least(CARD_4090, work)
    assert of_stage.bound == bound and of_stage.seconds == pytest.approx(seconds, rel=1e-9)


def test_the_roof_has_its_ridge_where_memory_feeds_the_arithmetic():
    corners = list(roof(CARD_4090, 1.0, 1e4))
    ridge = 165.2e12 / 1008e9
    assert corners == [(1.0, 1008e9), (pytest.approx(ridge), pytest.approx(165.2e12)), (1e4, 165.2e12)]


def test_points_lie_on_the_roof_or_below_and_only_what_ran_is_measured(monkeypatch):
    card = measured.machine(CARD, *costs(), *costs("post", track_kernels=10**7), environment=FULL)
    history = measured.site(monkeypatch, card).history
    work = predicted(history)
    chart = speed_predicted.roofline(work, speed_predicted.on_cards(work), [])
    names = {card.name.removeprefix("GeForce "): card for card in map(cards.find, speed_predicted.CARDS)}
    for row in chart.rows:
        known = names[row["card"]]
        most = min(known.flop_per_s, row["intensity"] * known.bytes_per_s) / 1e12
        assert row["rate"] <= most * (1 + 1e-9)
        assert row["source"] in ("peak of the card", "predicted")
    assert {row["bound"] for row in chart.rows if row["stage"] == "post"} == {"kernels"}
    assert "on none of these cards was the same work measured" in chart.story


def runs(monkeypatch, facts=CARD, environment=FULL, **request):
    asked = {"duration_s": 30, "thinking": True} | request
    one = measured.machine(facts, *costs(), timed("diffuse", 0.5, **asked), environment=environment)
    site = measured.site(monkeypatch, one)
    work = predicted(site.history)
    return work, list(confronted(times_of(site.history, site.machines), work))


def test_a_run_of_the_very_work_on_a_card_stands_beside_its_prediction(monkeypatch):
    work, (run,) = runs(monkeypatch)
    assert (run.card, run.stage, run.seconds) == (CARD_4090, "diffuse", 0.5)
    chart = speed_predicted.roofline(work, speed_predicted.on_cards(work), [run])
    (row,) = [row for row in chart.rows if row["source"] == "measured"]
    assert row["rate"] == pytest.approx(4e13 / 0.5 / 1e12) and row["intensity"] == pytest.approx(200)
    (compared,) = [row for row in speed_predicted.against_measured([run]).rows if row["by"] == "rtx"]
    assert compared["ratio"] == pytest.approx(0.5 / (4e13 / 165.2e12)) and compared["high"] is None


@pytest.mark.parametrize(
    "other", [{"environment": TINY}, {"facts": CPU}, {"thinking": False}, {"duration_s": 60}]
)
def test_a_run_of_other_work_does_not(monkeypatch, other):
    assert runs(monkeypatch, **other)[1] == []


def test_only_one_song_of_turbo_with_recorded_steps_is_predicted(monkeypatch):
    others = [*costs(variant="base"), *costs(mode="eager"), *costs(batch=4)]
    assert predicted(measured.site(monkeypatch, measured.machine(CPU, *others)).history) is None


def test_published_figures_are_expected_by_the_others():
    chart = speed_predicted.against_measured([])
    figures = [one for one in anchors.read() if one.comparable]
    assert len(chart.rows) == len(figures) and {row["source"] for row in chart.rows} == {"published"}
    assert "no card was measured here yet" in chart.story
    first, logs = figures[0], [math.log(one.efficiency) for one in figures[1:]]
    middle, reach = statistics.fmean(logs), 2 * statistics.stdev(logs)
    efficiencies = min(math.exp(middle + reach), 1.0), math.exp(middle - reach)
    expected = [first.roofline_s / efficiency for efficiency in efficiencies]
    assert (chart.rows[0]["low"], chart.rows[0]["high"]) == pytest.approx(expected)


@pytest.mark.parametrize("value", [0.0, -1.5])
def test_what_is_no_time_is_none_and_the_page_is_made(monkeypatch, value):
    """Of a clock that was set back. The control: a time is told."""
    wrong = [timed("diffuse", value), whole(value), *costs(track_flop=value, track_traffic=value,
             track_launches=value, track_kernels=value)]  # fmt: skip
    assert "No generation was timed yet" in text(monkeypatch, measured.machine(CPU, *wrong))
    assert "15 s of music in 1.50 s" in text(
        monkeypatch, measured.machine(CPU, timed("diffuse", 1.5), *wrong)
    )


def test_a_hostile_name_chooses_its_own_rows(monkeypatch):
    """What is chosen among is spelled as it is in the rows, or the chart opens empty."""
    names = ["a\u202eb", "plain"]
    ones = [
        measured.machine(CPU | {"machine": name}, timed("diffuse", value))
        for name, value in zip(names, (1.0, 2.0), strict=True)
    ]
    chart = stages(times_of(measured.site(monkeypatch, *ones).history, names))
    spec = json.loads(chart.json)
    (param,) = spec["params"]
    assert {row["machine"] for row in spec["data"]["values"]} == set(param["bind"]["options"])
    assert param["value"] in param["bind"]["options"] and "\u202e" not in chart.json
