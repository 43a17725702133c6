"""One configuration measured: with nothing drawn meanwhile, and what the card did."""

from __future__ import annotations

import csv

import pytest
from fake_nvml import FakeGPU, FakeNVML
from msgspec.structs import replace as changed
from profiler_runs import DONE, ONE_CELL, SHORT

from acestep import engine as engines
from acestep import resolver
from acestep.profiler import measure
from acestep.subject import SUBJECT
from harness.records import writer as output
from harness.records.schema import Sample
from harness.records.telemetry import Telemetry
from harness.telemetry import CardSampler


@pytest.fixture
def hot_card(monkeypatch) -> FakeGPU:
    """A card that is too hot, beside whatever the engine runs on; a song takes it 60 J."""
    gpu = FakeGPU(reasons=0x4 | 0x40)
    FakeNVML(monkeypatch, gpu)

    class Beside(CardSampler):
        def __init__(self, device: str):
            super().__init__("cuda", 3600.0)

        def __exit__(self, *error: object) -> None:
            gpu.energy_mj += 60_000
            super().__exit__(*error)

    monkeypatch.setattr(engines, "CardSampler", Beside)
    return gpu


WARNING = "the card was throttled: thermal slowdown by the hardware 100% of the time"


def test_a_throttled_run_says_so_and_what_a_song_took(run, tmp_path, hot_card):
    path = tmp_path / "hot.json"
    code, out, err = run(*SHORT, "--no-warmup", "--device", "cpu", "--benchmark-output", str(path))
    [item] = output.load(path)[1]
    assert code == 0 and f"warning: {WARNING}" in err and item.warnings[-1] == WARNING
    of = item.samples[0].telemetry
    assert (of.joules_per_song, of.joules_per_audio_s, of.power_limit_w) == (60.0, 6.0, 699.5)
    assert "\nenergy 60 J a song, 6 J a second of audio; " in out and "the limit is 699.5 W\n" in out
    held_back = "power cap 100%, thermal slowdown by the hardware 100%"
    assert f"\nclock 1980 MHz to 1980 MHz; throttling: {held_back}\n" in out


def test_a_throttled_row_says_so(run, tmp_path, monkeypatch):
    path, hot = tmp_path / "hot.csv", Telemetry(seconds=2.0, throttling={"hardware slowdown": 0.5})
    samples = (Sample(wall_s=2.0, telemetry=hot),)
    monkeypatch.setattr(measure.Bench, "music", lambda *_: changed(DONE, samples=samples))
    _, out, _ = run(*ONE_CELL, "--benchmark-output", str(path))
    assert out.count("OK THROTTLED") == 2
    row, *_ = csv.DictReader(path.read_text().splitlines())
    figures = (row["joules_per_song"], row["mean_w"], row["throttling"])
    assert figures == ("", "", "hardware slowdown 50%")


def test_nothing_is_drawn_while_something_is_timed():
    """A bench tells of a run before its clock starts, and in no run of any kind."""
    timed, labels = [], []

    class Engine:
        def run_lm(self, plan):
            return work()

    def work():
        timed.append(len(labels))
        return Result()

    class Result:
        wall_s, stages_s = 1.0, {"lm_decode": 1.0}

    bench = measure.Bench(Engine(), True, 2, lambda what: labels.append((what, len(timed))))  # type: ignore[arg-type]
    bench.engine.budget = type("Budget", (), {"reset_peak": lambda self: None})()
    bench._run(work)
    plan = resolver.resolve(*SUBJECT.request(10), SUBJECT.setup(source="synthetic-tiny", device="cpu"))
    bench.unguided_lm_s(plan)
    assert [what for what, _ in labels] == [
        "warm-up", "run 1 of 2", "run 2 of 2",
        *(f"planning without guidance, {number} of 3" for number in (1, 2, 3)),
    ]  # fmt: skip
    assert timed == [1, 2, 3, 4, 5, 6] and [before for _, before in labels] == [0, 1, 2, 3, 4, 5]
