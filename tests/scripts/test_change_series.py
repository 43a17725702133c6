"""What a change is in one series, and which of its measurements are doubtful."""

import numpy as np
import pytest
from changing import NOISE

from scripts.changes.history import Series, doubt
from scripts.changes.report import changes


@pytest.mark.parametrize("doubtful", [False, True])
def test_a_doubtful_point_alone_makes_no_change(doubtful):
    """Nor do three. The control: beyond doubt they do."""
    values = [float(value) for value in np.exp(np.random.default_rng(0).normal(0, NOISE, 30))]
    values[-3:] = [1.3 * value for value in values[-3:]]
    doubts = dict.fromkeys((27, 28, 29), "load") if doubtful else {}
    series = Series("x", "diffuse", "DiT", "seconds", False, values, doubts)
    assert len(changes(series)) == (0 if doubtful else 1)


def test_what_is_too_small_to_matter_is_not_told():
    values = [1e-4] * 20 + [2e-4] * 20
    assert changes(Series("x", "save", "pipeline", "seconds", False, values)) == []
    assert len(changes(Series("x", "save", "pipeline", "bytes", False, values))) == 1


@pytest.mark.parametrize(
    ("conditions", "reason"),
    [
        ({}, None),
        (
            {
                "other_cores": None,
                "cores": 2,
                "throttle_events": None,
                "quota_waits_s": None,
                "gpu_slowed": None,
            },
            None,
        ),
        ({"other_cores": 0.19, "cores": 2, "gpu_slowed": False, "cpu_temperature_c": 95}, None),
        ({"other_cores": 0.21, "cores": 2}, "other work"),
        ({"other_cores": "many", "cores": []}, None),
        ({"throttle_events": 3}, "too hot"),
        ({"quota_waits_s": 1.5}, "quota"),
        ({"gpu_slowed": True}, "card"),
    ],
)
def test_what_makes_a_measurement_doubtful(conditions, reason):
    told = doubt(conditions)
    assert (told is None) == (reason is None) and (reason or "") in (told or "")


@pytest.mark.parametrize(("unit", "step"), [("dB", 3.0), ("log-log slope", 0.2)])
@pytest.mark.parametrize("level", [-40.0, 0.0, 40.0])
def test_values_of_any_sign_are_compared_by_difference(unit, step, level):
    """The same step is the same change wherever it begins. The control: of amounts a ratio is told."""
    noise = np.random.default_rng(1).normal(0, step / 20, 30)
    values = (level + noise + step * (np.arange(30) >= 20)).tolist()
    (change,) = changes(Series("x", "parity", "DiT", unit, False, values))
    assert change.at == 20 and change.after - change.before == pytest.approx(step, rel=0.1)
    assert change.low < step < change.high
    (change,) = changes(Series("x", "parity", "DiT", unit, True, [level] * 3 + [level + step] * 3))
    assert (change.at, change.low) == (3, pytest.approx(step))
    (change,) = changes(Series("x", "parity", "DiT", "bytes", True, [40.0] * 3 + [43.0] * 3))
    assert change.low == pytest.approx(43 / 40)
