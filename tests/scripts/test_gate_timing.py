"""What is timed, and for how long: rounds that are made up, so that no test depends on a clock."""

import math
import random
import re
import time

import pytest

from benchmarks import _matrix
from scripts.gate import comparison
from scripts.gate import timing as module
from scripts.gate.statistics import pairs_needed
from scripts.gate.suites import NotMeasured, Reading, readings
from scripts.gate.timing import FEWEST_PAIRS, MOST_PAIRS, ROUNDS, Timing
from scripts.gate.workers import Round

ENDLESS_S = 1e9
COST_S, START_S = 0.5, 5.0


@pytest.fixture(autouse=True)
def _cells(monkeypatch):
    monkeypatch.setenv(_matrix.FILTER, "duration_s=5 batch=1 steps=8 quantization=none backend=pt")
    monkeypatch.delenv(_matrix.SELECTED, raising=False)


class Machine:
    """Measures by a made-up clock. `slower`: by cell; `noise`: of both sides; `refuse`: records by side and
    cell; `header`: statuses; `ends`: after so many rounds it is interrupted."""

    def __init__(self, monkeypatch, slower=(), noise=0.01, refuse=(), header=("ok", "ok"), ends=math.inf):
        self.rounds, self.now_s, self.ends = [], 0.0, ends
        self.slower, self.noise, self.refuse, self.header = dict(slower), noise, dict(refuse), header
        self.lot = random.Random(0)
        monkeypatch.setattr(module, "measure_round", self.measure)
        monkeypatch.setattr(time, "monotonic", lambda: self.now_s)

    def measure(self, sides, job, cells, pairs, until_s, lot, before):
        if len(self.rounds) == self.ends:
            raise KeyboardInterrupt(15)
        self.rounds.append((job, list(cells), pairs))
        records = tuple({"header": {"status": status, "reason": "broken"}} for status in self.header)
        round = Round(records, {}, START_S)
        self.now_s += START_S
        for cell in cells:
            if self.now_s > until_s or "failed" in self.header:
                break
            before(cell)
            self.now_s += pairs * COST_S
            round.cost_s[cell] = COST_S
            for side, factor in enumerate((1.0, self.slower.get(cell, 1.0))):
                ok = {"status": "ok", "cell": cell, "runs": [self.run(factor) for _ in range(pairs)],
                      "counts": {"lm_prefill_tokens": 100, "lm_decode_tokens": 25}}  # fmt: skip
                records[side][cell] = self.refuse.get((side, cell), ok)
        return round

    def run(self, factor):
        stages = dict.fromkeys(_matrix.STAGES, 0.1)
        stages = {
            name: factor * value * self.lot.lognormvariate(0, self.noise) for name, value in stages.items()
        }
        return {"wall_s": sum(stages.values()), "stages_s": stages}


def run(only, budget_s=ENDLESS_S):
    timing = Timing((None, None), readings(["synthetic-tiny"], only, exact=False), budget_s)
    timing.run()
    return timing, {one.reading.name: one for one in timing.series}


DIT, VAE = "dit.TimeDiT.track_diffuse(5, 1, 8, 'none')", "vae.TimeVAEDecode.track_vae_decode(5, 1)"
PLAN = "lm.TimeLMPlanning.track_plan(5, 1, True, 'pt')"
PLANNED = "plan duration_s=5 batch=1 thinking=True"
GENERATED = "generate duration_s=5 batch=1 thinking=False steps=8"


def test_a_quiet_machine_is_asked_for_no_more_than_is_needed(monkeypatch):
    machine = Machine(monkeypatch, slower={PLANNED: 1.3})
    timing, series = run("TimeDiT|TimeVAE|Planning")
    verdicts = {name: one.judgement.verdict for name, one in series.items()}
    assert verdicts.pop(PLAN) == "slower" and set(verdicts.values()) == {"same"}
    pairs = max(FEWEST_PAIRS, -(-pairs_needed(len(series)) // ROUNDS))
    assert timing.rounds == ROUNDS and all(job == ("timing",) for job, *_ in machine.rounds)
    assert [(len(cells), number) for _, cells, number in machine.rounds] == [(3, pairs)] * ROUNDS


def test_noise_takes_more_rounds_of_what_is_open_and_of_nothing_else(monkeypatch):
    machine = Machine(monkeypatch, noise=0.12)
    monkeypatch.setattr(machine, "slower", {PLANNED: 20.0})  # which shows through any noise
    timing, series = run("TimeDiT|" + PLAN.replace("(", r"\(").replace(")", r"\)"))
    assert series[PLAN].judgement.verdict == "slower" and series[DIT].judgement.verdict == "same"
    assert timing.rounds > ROUNDS and series[DIT].looks > 1
    assert all(cells == [GENERATED] for _, cells, _ in machine.rounds[ROUNDS:])
    later = [number for *_, number in machine.rounds[ROUNDS:]]
    assert max(later) == MOST_PAIRS and min(later) >= FEWEST_PAIRS  # no noise is of the processes alone


def test_the_time_is_kept_and_what_it_did_not_suffice_for_is_open(monkeypatch):
    machine = Machine(monkeypatch, noise=1.0)
    timing, series = run("TimeDiT|TimeVAE|Planning", budget_s=120.0)
    assert machine.now_s <= 120.0 + START_S + COST_S * 24
    assert {one.judgement.verdict for one in series.values()} == {"cannot tell"}
    assert all(one.open for one in series.values()) and timing.rounds >= ROUNDS


def test_where_there_is_no_time_for_all_some_are_measured_to_the_end(monkeypatch):
    machine = Machine(monkeypatch)
    pairs = max(FEWEST_PAIRS, -(-pairs_needed(3) // ROUNDS))
    budget_s = 3 * pairs * COST_S + ROUNDS * START_S + (ROUNDS - 1) * pairs * COST_S + 0.1
    timing, series = run(
        "TimeDiT|" + PLAN.replace("(", r"\(").replace(")", r"\)") + "|TimeSolver.*'ode', 'none'", budget_s
    )
    told = [one for one in series.values() if one.judgement]
    assert len(machine.rounds[0][1]) == 3 and [one.judgement.verdict for one in told] == ["same"]
    first, second, whole = sorted(len(one.base) for one in series.values())
    assert first == second == pairs and whole >= pairs_needed(3)
    assert timing.failures == []
    needs_s = START_S + pairs * COST_S
    assert re.fullmatch(
        rf"the next cell, \w+ .+, needs about {math.ceil(needs_s)} s; \d+ s were left;"
        r" --budget \w+ would do it, and \w+ for all 2",
        timing.shortage,
    )


@pytest.mark.parametrize(
    ("rounds", "verdict", "reason"),
    [(ROUNDS, "slower", ""), (0, "cannot tell", "the gate was interrupted before it was measured")],
)
def test_what_was_measured_before_an_interrupt_is_judged_and_told(monkeypatch, rounds, verdict, reason):
    Machine(monkeypatch, slower={PLANNED: 20.0}, noise=0.12, ends=rounds)
    monkeypatch.setattr(comparison, "what_differs", lambda *_: (["acestep/a.py"], []))
    monkeypatch.setattr(comparison, "left_behind", lambda *_: "")
    monkeypatch.setattr(comparison.exact, "compare", lambda *_: comparison.exact.Exact([], [], []))
    timed = readings(["synthetic-tiny"], f"TimeDiT|{re.escape(PLAN)}", exact=False)
    measured = comparison._measured((None, None), timed, "", ENDLESS_S)
    assert measured.interrupt and measured.interrupt.args == (15,)
    dit, plan = sorted(measured.series, key=lambda one: one.component)
    assert (plan.component, plan.verdict, plan.reason) == ("LM", verdict, reason)
    assert (dit.component, dit.verdict) == ("DiT", "cannot tell")
    assert measured.notes == ["the gate was interrupted: what was open then was measured no further"]


FAILED = {"status": "failed", "reason": "latents went NaN"}
NOT_THERE = {"status": "unsupported", "reason": "this commit has none"}


@pytest.mark.parametrize(
    ("refuse", "absent", "problem"),
    [
        ({(1, GENERATED): FAILED}, False, f"{GENERATED}: latents went NaN"),
        ({(1, GENERATED): NOT_THERE}, False, "HEAD has no such number, BASE has one"),
        ({(0, GENERATED): NOT_THERE}, True, ""),
        ({(0, GENERATED): FAILED}, True, ""),
        ({(0, GENERATED): NOT_THERE, (1, GENERATED): NOT_THERE}, True, ""),
    ],
)
def test_what_one_side_has_not_is_measured_once(monkeypatch, refuse, absent, problem):
    machine = Machine(monkeypatch, refuse=refuse)
    timing, series = run("TimeDiT|TimeVAE")
    assert {(one.absent, one.problem) for one in series.values()} == {(absent, problem)}
    assert len(machine.rounds) == 1
    assert bool(timing.failures) == ((0, GENERATED) in refuse and refuse[0, GENERATED] is FAILED)


@pytest.mark.parametrize(("header", "absent"), [(("ok", "failed"), False), (("failed", "ok"), True)])
def test_a_side_that_cannot_start_is_not_tried_again(monkeypatch, header, absent):
    machine = Machine(monkeypatch, header=header)
    _, series = run("TimeDiT")
    (one,) = series.values()
    assert (one.absent, len(machine.rounds)) == (absent, 1)
    assert "broken" in (one.failure if absent else one.problem)


def test_what_gates_is_read_by_every_module_once(monkeypatch):
    monkeypatch.delenv(_matrix.FILTER)
    timed, predicted = (readings(["synthetic-tiny"], exact=exact) for exact in (False, True))
    assert len({one.name for one in (*timed, *predicted)}) == len(timed) + len(predicted)
    ours = {"dit", "generate", "lm", "micro", "streaming", "tasks", "vae"}
    assert {one.module for one in timed} == ours | {"qwen3_tts", "rvc"}
    assert {one.module for one in predicted} == {"costs", "waits"}
    assert {one.component for one in timed} == {
        "DiT", "LM", "VAE", "text encoder", "conditioner", "function", "pipeline", "stream",
        "qwen3_tts", "rvc",
    }  # fmt: skip
    assert all(one.component == one.module for one in timed if one.module not in ours)
    timed = [one for one in timed if one.module in ours]
    calls = {one.stage for one in timed if one.component in ("function", "stream")}
    assert {one.stage for one in timed} - calls <= {*_matrix.STAGES, "wall"}
    assert calls.isdisjoint({*_matrix.STAGES, "wall"})
    assert not [
        one.name for one in timed if "_rate" in one.name or one.cell.kind in ("memory", "parity", "cold")
    ]


def test_a_failure_is_told_from_what_does_not_apply():
    (reading,) = readings(["synthetic-tiny"], "TimeDiT", exact=False)
    assert isinstance(reading, Reading)
    header = {"status": "ok", "source": "synthetic-tiny"}
    assert reading.value({"header": header, GENERATED: NOT_THERE}) is None
    with pytest.raises(NotMeasured, match="latents went NaN"):
        reading.value({"header": header, GENERATED: FAILED})
