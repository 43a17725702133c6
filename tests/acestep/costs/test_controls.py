"""What is planted in the engine shows in the metric that should show it, and in no other.

A gate of 0.5 % looks at every metric of every stage. Each plant is one that a change of the engine could
bring by accident, and is small enough that nothing but the gated metric gives it away.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from allocations import cost, song
from torch import Tensor

from acestep.diffusion import sampler as diffusion
from acestep.models import dit
from harness.nn.attend import Biased, hide
from harness.trace import predict as predicting
from harness.trace.cost import Cost, StageCost

GATE = 0.005
SECONDS, STEPS = 60, 4
FRAMES = 25 * SECONDS
BYTES = 2  # of a number in bf16
SMALL_SEGMENT_BYTES = 2 << 20

Metrics = dict[tuple[str, str], int]


def metrics(found: Cost) -> Metrics:
    return {(stage.stage, name): value for stage in found.stages for name, value in _of(stage).items()}


def _of(stage: StageCost) -> dict[str, int]:
    work = stage.work
    return {
        "flop": work.flop,
        "bytes": work.read_bytes + work.written_bytes,
        "launches": work.launches,
        "syncs": work.syncs,
        "to_card": work.to_card_bytes,
        "to_host": work.to_host_bytes,
        "peak_live": stage.peak_live_bytes,
        "peak_allocated": stage.peak_allocated_bytes,
        "peak_reserved": stage.peak_reserved_bytes,
    }


@pytest.fixture(scope="module")
def before() -> Metrics:
    return metrics(predict_anew())


def predict_anew() -> Cost:
    """With nothing known of a layer: what is planted is not seen in a layer that is done over."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predicting, "_traces", {})
        return cost(params=song(SECONDS, STEPS))


def differences(before: Metrics, after: Metrics) -> Metrics:
    assert before.keys() == after.keys()
    return {key: after[key] - before[key] for key in before if after[key] != before[key]}


def fired(before: Metrics, after: Metrics) -> set[tuple[str, str]]:
    """What a gate would stop."""
    return {key for key, by in differences(before, after).items() if abs(by) > GATE * before[key]}


def each_step(monkeypatch, planted: Callable[[Tensor], object]) -> None:
    """Have `planted` done with every velocity."""
    velocity = diffusion.VelocityField.velocity

    def and_more(*args, **more):
        found = velocity(*args, **more)
        planted(found)
        return found

    monkeypatch.setattr(diffusion.VelocityField, "velocity", and_more)


def test_nothing_planted_moves_nothing(before):
    assert differences(before, metrics(predict_anew())) == {}


def test_a_hundredth_more_arithmetic(before, monkeypatch):
    """One matrix product a step, of 1 % of the step's FLOP, on values that are there. It is one kernel in
    seventy, which is over the gate, too."""
    columns = round(before["diffuse", "flop"] / STEPS / 100 / (2 * FRAMES * 64))
    each_step(monkeypatch, lambda x: x[0] @ x[0, :columns].T)
    after = metrics(predict_anew())
    moved = differences(before, after)
    assert fired(before, after) == {("diffuse", name) for name in ("flop", "bytes", "launches")}
    assert moved.pop(("diffuse", "flop")) == STEPS * 2 * FRAMES * 64 * columns
    assert moved.pop(("diffuse", "launches")) == STEPS
    assert moved.pop(("diffuse", "bytes")) == STEPS * BYTES * (FRAMES * 64 + columns * 64 + FRAMES * columns)
    assert moved == {}


def test_a_value_read_back_at_every_step(before, monkeypatch):
    each_step(monkeypatch, lambda x: x[0, 0, 0].item())
    after = metrics(predict_anew())
    moved = differences(before, after)
    assert fired(before, after) == moved.keys()
    assert moved == {
        ("diffuse", "syncs"): STEPS,
        ("diffuse", "launches"): STEPS,
        ("diffuse", "to_host"): STEPS * BYTES,
    }


def test_a_tensor_kept_at_every_step(before, monkeypatch):
    """Velocities that live as long as the solver. Its last step has all before but the one that lives anyway,
    under its name, until the next is there."""
    plain = diffusion.VelocityField.__init__

    def with_a_list(field, *args, **more):
        plain(field, *args, **more)
        field.kept = []

    monkeypatch.setattr(diffusion.VelocityField, "__init__", with_a_list)
    velocity = diffusion.VelocityField.velocity

    def keeping(field, *args, **more):
        field.kept.append(velocity(field, *args, **more))
        return field.kept[-1]

    monkeypatch.setattr(diffusion.VelocityField, "velocity", keeping)
    after = metrics(predict_anew())
    moved = differences(before, after)
    peaks = {("diffuse", "peak_live"), ("diffuse", "peak_allocated")}
    reserved = ("diffuse", "peak_reserved")  # in whole segments
    assert fired(before, after) - {reserved} == peaks
    assert moved.pop(reserved, 0) % SMALL_SEGMENT_BYTES == 0
    assert moved == dict.fromkeys(peaks, (STEPS - 2) * FRAMES * 64 * BYTES)


def test_a_mask_instead_of_a_band(before, monkeypatch):
    def dense(batch: int, length: int, window: int, dtype: torch.dtype, device: torch.device) -> Biased:
        position = torch.arange(length, device=device)
        return Biased(hide((position[:, None] - position).abs() > window, dtype)[None, None])

    monkeypatch.setattr(dit, "sliding", dense)
    after = metrics(predict_anew())
    stopped = fired(before, after)
    assert {("diffuse", "flop"), ("diffuse", "bytes"), ("diffuse", "peak_live")} <= stopped
    assert {stage for stage, _ in stopped} <= {"condition", "diffuse"}
    assert not any(name in ("syncs", "to_host", "to_card") for _, name in stopped)
