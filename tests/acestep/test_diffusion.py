"""Schedules against the published tables, noise against its seeds, the solver against a known field."""

import pytest
import torch

from acestep.diffusion import denoise, noise, schedule

TABLES = {
    1: [1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125],
    2: [1, 0.9333333333, 0.8571428571, 0.7692307692, 0.6666666667, 0.5454545455, 0.4, 0.2222222222],
    3: [1, 0.9545454545, 0.9, 0.8333333333, 0.75, 0.6428571429, 0.5, 0.3],
}
BF16_SHIFT_3 = [1, 0.953125, 0.8984375, 0.83203125, 0.75, 0.64453125, 0.5, 0.30078125]


@pytest.mark.parametrize("shift", TABLES)
def test_eight_steps_are_the_published_table(shift: int):
    assert schedule(8, shift) == pytest.approx(TABLES[shift], abs=5e-11)


@pytest.mark.parametrize(("asked", "snapped"), [(0.2, 1), (1.4, 1), (1.6, 2), (2.7, 3), (9, 3)])
def test_eight_steps_snap_the_shift(asked: float, snapped: int):
    assert schedule(8, asked) == schedule(8, snapped)


def test_other_counts_take_the_formula_unsnapped():
    assert schedule(16, 3.0)[::2] == pytest.approx(TABLES[3])
    assert schedule(16, 2.7) != schedule(16, 3.0)
    assert len(schedule(20, 1.0)) == 20


def test_the_model_sees_the_schedule_in_its_own_precision():
    assert torch.tensor(schedule(8, 3.0), dtype=torch.bfloat16).tolist() == BF16_SHIFT_3


def test_an_item_does_not_depend_on_its_batch():
    device = torch.device("cpu")
    together = noise([7, 8, 9], 130, torch.float32, device)
    alone = noise([8], 130, torch.float32, device)
    assert torch.equal(together[1:2], alone)
    assert not torch.equal(together[0], together[1])


class Straight:
    """A field that points from the data to the noise, as a perfect model's would."""

    def __init__(self, data: torch.Tensor, start: torch.Tensor):
        self.velocities = start - data
        self.calls: list[int] = []

    def velocity(self, x, conditions, modulation, step):
        self.calls.append(step)
        return self.velocities


@pytest.mark.parametrize("steps", [1, 8, 16])
def test_euler_lands_on_the_data_of_a_straight_field(steps: int):
    data, start = torch.randn(2, 5, 64, dtype=torch.float64), torch.randn(2, 5, 64, dtype=torch.float64)
    field = Straight(data, start)
    found = denoise(field, start, None, None, schedule(steps, 3.0))  # type: ignore[arg-type]
    assert torch.allclose(found, data, atol=1e-12)
    assert field.calls == list(range(steps))
