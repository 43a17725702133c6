"""What the comment on a pull request says of each commit of the planted history."""

import html
import math
import re

import numpy as np
import planted
import pytest
from planted import DOCS, GROWN, NOISE, REVERT, SLOWER

from benchmarks._matrix import COST_SOURCE, TINY
from scripts.gate.comment import comment
from scripts.gate.comparison import decide
from scripts.gate.exact import STATUS
from scripts.gate.record import Commit, Fit, Machine, Record, Series, write
from scripts.gate.statistics import EXACT_THRESHOLD, THRESHOLD, judge, judge_exact, share
from scripts.gate.suites import facts, held, readings

TIMED, EXACT = "TimeDiT|TimeVAEDecode|TrackStages", "TrackPredictedPeak[.]|track_traffic"
ROUNDS = (4,) * 8
MACHINE = Machine("a-cpu", "A CPU", 2, "none", "2.13.0", 0.4, 1.9, False)
VERDICTS = {0: STATUS["ok"], 20: STATUS["oom"]}


@pytest.fixture(scope="module")
def numbers():
    """What gates of two of the planted series' kinds."""
    return readings((TINY,), TIMED, exact=False), readings((COST_SOURCE,), EXACT, exact=True)


def timed(one, at, series):
    """A timed number of a commit and the one before it, as the gate pairs and judges them."""
    draw = np.random.default_rng(at)
    times = [planted.true_time(one, side) for side in (at - 1, at)]
    if math.isnan(times[0]):
        return None
    base, head = ([time * math.exp(draw.normal(0, NOISE)) for _ in range(sum(ROUNDS))] for time in times)
    judgement = judge(base, head, one.unit, share(series, 1), ROUNDS)
    return Series(
        **facts(one), kind="timed", verdict=judgement.verdict, base=float(np.median(base)),
        head=float(np.median(head)), ratio=judgement.ratio, ratio_low=judgement.low,
        ratio_high=judgement.high, detectable=judgement.detectable, samples_base=sum(ROUNDS),
        samples_head=sum(ROUNDS),
    )  # fmt: skip


def exact(one, at):
    """A number without noise; None where either has none."""
    base, head = (planted.amount(one, side) for side in (at - 1, at))
    if one.method == "track_status" or math.isnan(base) or math.isnan(head):
        return None
    verdict = judge_exact(base, head, one.unit)
    return Series(**facts(one), kind="exact", verdict=verdict, base=base, head=head, ratio=head / base)


def fits(numbers, at):
    """Cards whose verdict is another one."""
    for one in numbers:
        base, head = (VERDICTS.get(planted.amount(one, side)) for side in (at - 1, at))
        if one.method == "track_status" and base != head:
            what = held(one.benchmark, one.component, dict(one.named))
            yield Fit(what, float(one.cell["tier_gb"]), base, head)


@pytest.fixture
def shown(numbers, tmp_path):
    """The comment on a commit, as text."""

    def get(at):
        series, changed, notes = [], [], ("no file differs that runs: nothing was measured",)
        if at not in DOCS:
            pairs = [timed(one, at, len(numbers[0])) for one in numbers[0]]
            series = [one for one in (*pairs, *(exact(one, at) for one in numbers[1])) if one]
            changed, notes = list(fits(numbers[1], at)), ()
        verdict = decide(series, changed) if at not in DOCS else "same"
        record = Record(
            Commit("a" * 40, "Before"), Commit("b" * 40, "After"), verdict, MACHINE, TINY, "now", 300, 600,
            len(ROUNDS), THRESHOLD, EXACT_THRESHOLD, tuple(series), tuple(changed), notes, "again",
        )  # fmt: skip
        write(tmp_path / "gate.json", record)
        text = html.unescape(re.sub("</?code>", "", comment(tmp_path / "gate.json", "b" * 40)))
        return text.replace("\N{NO-BREAK SPACE}", " ")

    return get


def test_the_slowdown_reads_slower(shown):
    text = shown(SLOWER)
    assert "### Gate: slower" in text and re.search(r"\*\*slower\*\* \| diffuse, DiT \| \+2[3-7] % \(", text)
    assert "+6.0 % bytes" in text and "What fits has changed" not in text and "vae_decode" not in text


def test_the_memory_growth_names_the_card(shown):
    text = shown(GROWN)
    assert "### Gate: slower" in text
    assert "* turbo without LM, nothing offloaded on 8 GB (RTX 4060): fits → out of memory" in text
    assert "peak memory, card" in text and "diffuse" not in text


def test_the_revert_reads_faster(shown):
    text = shown(REVERT)
    assert "### Gate: faster" in text and re.search(r"\| faster \| diffuse, DiT \| -(19|2[01]) %", text)
    assert "**slower**" not in text


@pytest.mark.parametrize("at", DOCS)
def test_documentation_reads_the_same(shown, at):
    text = shown(at)
    assert "### Gate: same" in text and "no file differs that runs" in text
    assert "slower**" not in text and "| |" not in text


def test_noise_reads_the_same(shown):
    text = shown(SLOWER - 1)
    assert "### Gate: same" in text and "Nothing is slower." in text
