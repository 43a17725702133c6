"""The real worker, with the engine as it is and with output that must not pass."""

from types import SimpleNamespace

import pytest
import torch

from acestep.errors import MissingPrerequisite
from tiersim import Case, run_case, worker

MIB = 2**20


def case(**fields) -> Case:
    return Case(**{"tier_gb": 8, "source": "synthetic-tiny", "device": "cpu", "duration_s": 2} | fields)


def test_a_generation_under_a_verified_cap():
    record = run_case(case(batch_size=2, lm=True))
    assert (record.status, record.reason) == ("ok", ""), record.log
    assert record.cap is not None and record.cap.verified and record.cap.bytes == 8 * 2**30
    assert 100 * MIB < record.peak_bytes < 2**30
    assert record.peak_bytes == record.generation_peak_bytes
    assert record.stages_s.keys() >= {"diffuse", "other"}
    assert sum(record.stages_s.values()) == pytest.approx(record.wall_s, rel=0.01)
    assert record.environment["source"] == "synthetic-tiny"
    assert record.environment["lm"] == record.lm == "acestep-5Hz-lm-0.6B"


def test_out_of_memory_is_reported_by_the_worker_itself():
    record = run_case(case(tier_gb=0.4))
    assert (record.status, record.exit_code) == ("host-oom", 21), record.log
    assert record.cap is not None and record.cap.verified
    assert 0 < record.peak_bytes < 0.4 * 2**30 + 64 * MIB


def test_a_cap_that_cannot_be_installed_is_not_claimed():
    record = run_case(case(tier_gb=0.2))
    assert (record.status, record.exit_code, record.cap) == ("error", 22, None), record.log


def test_weights_that_are_missing_are_refused_before_a_process_starts():
    with pytest.raises(MissingPrerequisite, match="/no/such/checkpoints"):
        run_case(case(source="/no/such/checkpoints"))


def audio(samples=480_000, silent=False, fill=0.1):
    return SimpleNamespace(tensor=torch.full((2, samples), fill), silent=silent)


def test_the_shortest_audio_there_is_satisfies_a_shorter_request():
    shortest = SimpleNamespace(audios=[audio(128 * 1920)])
    assert worker.check(shortest, duration_s=2.0, batch_size=1) is None


@pytest.mark.parametrize(
    ("audios", "problem"),
    [
        ([audio()], None),
        ([audio(480_000 + 1920)], None),
        ([], "0 items"),
        ([audio(), audio()], "2 items"),
        ([audio(470_000)], "lasts 9.79 s"),
        ([audio(fill=float("nan"))], "not numbers"),
        ([audio(silent=True)], "silent"),
    ],
)
def test_output_that_is_not_music_is_invalid(audios, problem):
    found = worker.check(SimpleNamespace(audios=audios), duration_s=10.0, batch_size=1)
    assert found == problem or (problem and problem in found)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_generation_on_a_simulated_card():
    record = run_case(case(device="cuda", tier_gb=4))
    assert (record.status, record.reason) == ("ok", ""), record.log
    assert record.cap is not None and (record.cap.kind, record.cap.verified) == ("cuda-fraction", True)
    assert record.cap.bytes == 3.5 * 2**30
    assert 2**29 < record.peak_bytes <= 4 * 2**30


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_device_memory_that_runs_out_is_an_oom():
    record = run_case(case(device="cuda", tier_gb=0.52, duration_s=60))
    assert (record.status, record.exit_code) == ("oom", 20), record.log
