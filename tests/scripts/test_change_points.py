"""Change points of made-up histories whose truth is known: what is found, how soon, and what is left alone.

Nightly many more histories are drawn, from other seeds.
"""

import math
import os

import numpy as np
import pytest

from scripts.changes.points import LEAST_STEP, detectable, exact_changes, lone_last, noise, noisy_changes

pytestmark = pytest.mark.hypothesis  # the nightly run of properties has these too

HISTORIES = 4000 if os.environ.get("HYPOTHESIS_PROFILE") == "nightly" else 120
RATIO = {0.01: 1.05, 0.03: 1.16, 0.1: 1.65}  # five widths of noise: the step that must be found
RECALL, FALSE = 0.95, 0.08  # at least; at most, per 60 commits
NEAR = 2  # commits from where it is

by_noise = pytest.mark.parametrize("width", RATIO, ids="{:.0%}".format)


def histories(commits, width, seed=0):
    """Logarithms of measurements of a level of 1, a row per history."""
    return np.random.default_rng(seed).normal(0, width, (HISTORIES, commits))


def recall(logs, *truth):
    """Share of the changes at `truth` that are found near, over all histories; and others, per history."""
    hits = others = 0
    for row in logs:
        changes = noisy_changes(np.exp(row))
        found = sum(any(abs(one.at - at) <= NEAR and not one.drift for one in changes) for at in truth)
        hits, others = hits + found, others + len(changes) - found
    return hits / len(truth) / len(logs) if truth else None, others / len(logs)


@by_noise
def test_noise_alone_changes_nothing(width):
    assert recall(histories(60, width))[1] <= FALSE
    heavy = np.random.default_rng(1).standard_t(4, (HISTORIES, 60)) * width
    assert recall(heavy)[1] <= FALSE


def lasting(correlation, width):
    """The same with noise that lasts: autoregressive of order 1."""
    logs = histories(60, width, 11)
    for at in range(1, 60):
        logs[:, at] = correlation * logs[:, at - 1] + math.sqrt(1 - correlation**2) * logs[:, at]
    return logs


@pytest.mark.parametrize(("correlation", "most"), [(0.2, 0.1), (0.4, 0.4)])
def test_noise_that_lasts_changes_little(correlation, most):
    """Taken for noise that does not it would make 0.14 and 0.8 changes. Its width is told as it is."""
    logs = lasting(correlation, 0.03)
    assert recall(logs)[1] <= most
    assert np.mean([noise(np.exp(row)) for row in logs]) >= 0.03
    logs[:, 30:] += math.log(RATIO[0.03])
    assert recall(logs, 30)[0] >= RECALL


@by_noise
@pytest.mark.parametrize(("before", "after"), [(30, 2), (20, 3), (30, 30), (5, 20)])
@pytest.mark.parametrize("sign", [1, -1], ids=["slower", "faster"])
def test_a_step_is_found_once_two_commits_have_it(width, before, after, sign):
    logs = histories(before + after, width, before)
    logs[:, before:] += sign * math.log(RATIO[width])
    found, others = recall(logs, before)
    assert found >= RECALL
    assert others <= FALSE


@by_noise
def test_one_measurement_is_none(width):
    """Neither in the middle, however far off, nor at the end."""
    for at in (30, 59):
        logs = histories(60, width, at)
        logs[:, at] += np.random.default_rng(at).uniform(5 * width, 3, HISTORIES)
        assert recall(logs)[1] <= FALSE


@by_noise
def test_a_step_among_spikes(width):
    """One measurement in twenty is far off, always upwards."""
    draw = np.random.default_rng(2)
    logs = histories(60, width, 3)
    logs += (draw.random(logs.shape) < 0.05) * draw.uniform(5 * width, 1, logs.shape)
    assert recall(logs)[1] <= FALSE
    logs[:, 30:] += math.log(RATIO[width])
    found, others = recall(logs, 30)
    assert found >= RECALL
    assert others <= FALSE


@by_noise
@pytest.mark.parametrize("commits", [4, 10])
def test_a_revert_is_two(width, commits):
    logs = histories(50, width, 4)
    logs[:, 20 : 20 + commits] += math.log(RATIO[width])
    found, others = recall(logs, 20, 20 + commits)
    assert found >= RECALL
    assert others <= FALSE


@by_noise
def test_commits_that_were_not_measured_leave_the_places(width):
    """Half of them; a change is told of the first that was."""
    logs = histories(80, width, 5)
    logs[:, 40:] += math.log(RATIO[width])
    logs[:, 1::2] = math.nan
    logs[:, 38:42] = math.nan
    found, others = recall(logs, 42)
    assert found >= RECALL
    assert others <= FALSE


@by_noise
def test_a_drift_is_one_drift(width):
    """Twenty widths of noise in sixty commits, one by one: no step, and its size is right."""
    logs = histories(60, width, 6) + np.linspace(0, 20 * width, 60)
    changes = [noisy_changes(np.exp(row)) for row in logs]
    drifts = [one[0] for one in changes if len(one) == 1 and one[0].drift]
    assert len(drifts) >= RECALL * HISTORIES
    inside = [one.low <= math.exp(20 * width) <= one.high for one in drifts]
    assert np.mean(inside) >= 0.9


def test_the_interval_of_a_step_holds_its_size():
    logs = histories(60, 0.01, 7)
    logs[:, 30:] += math.log(1.05)
    changes = [change for row in logs for change in noisy_changes(np.exp(row)) if abs(change.at - 30) <= NEAR]
    assert np.mean([change.low <= 1.05 <= change.high for change in changes]) >= 0.9
    assert np.mean([change.earliest <= 30 <= change.latest for change in changes]) >= 0.9
    assert np.median([change.before for change in changes]) == pytest.approx(1, abs=0.002)


def test_a_detector_that_calls_every_point_a_change_is_caught():
    """The control: these statements can fail."""
    rows = histories(60, 0.01)
    assert recall(rows * np.where(np.arange(60) % 2, 1, 30))[1] <= FALSE  # wide noise is noise
    assert recall(np.cumsum(rows, 1))[1] > FALSE  # a level that walks is not


@pytest.mark.parametrize(
    "values", [[], [1.0], [1.0, 2.0, 2.0, 2.0], [math.nan] * 30, [0.0] * 30, [-1.0] * 30]
)
def test_too_little_says_nothing(values):
    assert noisy_changes(values) == []
    assert math.isnan(noise(values))


def test_a_clock_without_noise_is_given_some():
    assert noisy_changes([1.0] * 20 + [1.015] * 20) == []  # less than LEAST_STEP
    (change,) = noisy_changes([1.0] * 20 + [1.03] * 2)
    assert (change.at, change.earliest, change.latest) == (20, 20, 20)
    assert change.ratio == pytest.approx(1.03) and change.ratio > 1 + LEAST_STEP


@by_noise
def test_the_least_step_is_that_which_is_found(width):
    for share, least, most in ((1, RECALL, 1), (0.3, 0, 0.1)):
        logs = histories(32, width, 8)
        logs[:, 30:] += share * math.log1p(detectable(width))
        assert least <= recall(logs, 30)[0] <= most


def test_what_the_last_measurement_alone_says_is_told_as_that():
    """Neither where it is like the others, nor where a second one agrees, nor on the way of a drift."""
    logs = histories(40, 0.01, 9)
    assert np.mean([lone_last(np.exp(row)) is not None for row in logs]) <= 0.05
    logs[:, -1] += math.log(1.3)
    assert np.median([lone_last(np.exp(row)) or 0 for row in logs]) == pytest.approx(1.3, abs=0.01)
    assert lone_last([*np.exp(logs[0]), math.nan]) is None
    logs[:, -2] += math.log(1.3)
    assert not any(lone_last(np.exp(row)) for row in logs)
    drifts = histories(40, 0.01, 10) + np.linspace(0, 0.4, 40)
    assert np.mean([lone_last(np.exp(row)) is not None for row in drifts]) <= 0.05


@pytest.mark.parametrize(
    ("values", "at", "ratios"),
    [
        ([1000.0, 1004.0, 1000.0], [], []),
        ([1000.0, 1006.0], [1], [1.006]),
        ([1006.0, math.nan, 1000.0, 1006.0], [2, 3], [1000 / 1006, 1.006]),  # a revert is two
        ([1000.0, 1004.0, 1008.0, 1012.0], [2], [1.008]),  # little by little is a change, too
        ([0.0, 0.0, 1.0, 0.0], [2, 3], [math.inf, 0.0]),
        ([math.nan, math.nan], [], []),
    ],
)
def test_where_there_is_no_noise_the_commit_is_the_very_one(values, at, ratios):
    changes = exact_changes(values)
    assert [change.at for change in changes] == at
    assert [change.ratio for change in changes] == pytest.approx(ratios)
    assert all(change.earliest == change.at == change.latest for change in changes)
