"""The real worker, with the engine as it is and with output that must not pass."""

import sys
from contextlib import ExitStack
from types import SimpleNamespace

import pytest
import torch
from places import ZOO
from zoo import NoRoom

from harness.errors import MissingPrerequisite
from harness.virtual_card import VirtualCard
from tiersim import Case, run_case, supervisor, worker
from tiersim.case import resolve, subject_of
from tiersim.protocol import Job
from tiersim.telemetry import LOADING

MIB = 2**20


def case(**fields) -> Case:
    """Of a song that is over soon, and without what quantizes, which takes longest to import."""
    tiny = {"tier_gb": 8, "source": "synthetic-tiny", "device": "cpu", "duration_s": 2, "steps": 2}
    return Case(**tiny | {"variant": "no-quant"} | fields)


@pytest.mark.parametrize(
    ("cap", "kind", "command"),
    [
        ("virtual", "virtual", (sys.executable, str(ZOO), "decides_nothing")),
        ("host", "rlimit-data+watchdog", supervisor.WORKER),
    ],
)
def test_a_generation_under_a_verified_cap(cap, kind, command):
    """Of the workers one is not able to decide anything again: all was decided before."""
    record = run_case(case(batch_size=2, lm=True, cap=cap), worker=command)
    assert (record.status, record.reason) == ("ok", ""), record.log
    assert record.cap is not None and record.cap.verified
    assert record.cap.kind in (kind, "cgroup")
    assert record.stages_s.keys() >= {"diffuse", "other"}
    assert sum(record.stages_s.values()) == pytest.approx(record.wall_s, rel=0.01)
    assert record.environment["source"] == "synthetic-tiny"
    assert record.environment["lm"] == record.lm == "acestep-5Hz-lm-0.6B"
    assert record.environment["device"] == ("virtual" if cap == "virtual" else "cpu")
    phases = {"cap", "load/dit", "lm_decode", "text_encode", "diffuse", "vae_decode"}
    assert record.stage_peaks_bytes.keys() >= phases
    assert record.generation_peak_bytes == max(
        peak for phase, peak in record.stage_peaks_bytes.items() if phase.partition("/")[0] not in LOADING
    )
    assert record.process and record.stage_processes.keys() >= phases - {"cap"}
    assert record.process.rss_peak_bytes == max(p.rss_peak_bytes for p in record.stage_processes.values())
    assert record.process.driver_bytes is record.process.context_bytes is record.telemetry is None
    assert 5 < len(record.timeline) <= 200
    assert {sample.phase for sample in record.timeline} & phases
    times = [sample.t_s for sample in record.timeline]
    assert times == sorted(times) and 0 < times[0] < times[-1] < record.process_s


@pytest.fixture
def here(monkeypatch):
    """Do the work of a case here: its exit code and its events. How a process ends is the same for all."""
    with ExitStack() as stack:
        enter = VirtualCard.__enter__
        leave = VirtualCard.__exit__

        def until_the_test_ends(card):
            stack.push(lambda *error: leave(card, *error))
            return enter(card)

        def work(one: Case):
            events = []
            code = worker.main(Job.of(resolve(one)), lambda event, **fields: events.append((event, fields)))
            return code, events

        monkeypatch.setattr(VirtualCard, "__enter__", until_the_test_ends)
        monkeypatch.setattr(worker.cap, "loosen", lambda: None)
        yield work


def test_offloading_is_what_makes_room(here):
    """Tier 4 offloads everything, and its peak is its largest part; without it all of them add up."""
    tier = run_case(case(variant="default"))
    code, events = here(case(variant="no-offload"))
    [everything] = [fields for event, fields in events if event == "result"]
    assert (tier.status, code) == ("ok", 0)
    assert tier.environment["offload"] == "every part is on the host until used"
    assert tier.load_peak_bytes < 0.5 * everything["load_peak_bytes"]
    assert tier.generation_peak_bytes < everything["generation_peak_bytes"]
    assert tier.peak_bytes == tier.generation_peak_bytes + 2**29  # a card's context


def test_running_out_of_memory_is_the_records_phase():
    record = run_case(case(), worker=(sys.executable, str(ZOO), "no_room_from:diffuse:0"))
    assert (record.status, record.exit_code) == ("oom", 20), record.log
    assert (record.phase_reached, record.cap.verified) == ("diffuse", True)
    assert " more were asked for in diffuse; 0 bytes were free of " in record.reason
    assert record.exception.startswith("OutOfMemoryError: Virtual card out of memory.")
    assert record.peak_bytes > 2**29 and record.stage_peaks_bytes["diffuse"] > 0


@pytest.mark.parametrize(
    ("phase", "fields"),
    [
        ("load/dit", {"variant": "no-offload"}),
        ("offload", {}),
        ("lm_prefill", {"lm": True}),
        ("lm_decode", {"lm": True}),
        ("text_encode", {}),
        ("condition", {}),
    ],
)
def test_running_out_of_memory_in_each_phase(here, monkeypatch, phase, fields):
    monkeypatch.setattr(worker, "Reporter", type("NoRoomFrom", (NoRoom,), {"phase": phase}))
    code, events = here(case(**fields))
    assert code == 20
    assert [fields["name"] for event, fields in events if event == "phase"][-1] == phase
    [ended] = [fields for event, fields in events if event == "oom"]
    assert ended["kind"] == "device" and ended["ended_peak_bytes"] > 0


def test_decoding_has_somewhere_to_go_when_memory_runs_out():
    record = run_case(case(), worker=(sys.executable, str(ZOO), "no_room_from:vae_decode:100000"))
    assert (record.status, record.reason) == ("ok", ""), record.log
    (fallback,) = record.fallbacks
    assert "0 MB free, the smallest tile takes" in fallback.reason
    assert "on the CPU in fp32" in fallback.action


def test_a_card_too_small_for_its_largest_part():
    record = run_case(case(tier_gb=0.02))
    assert (record.status, record.phase_reached) == ("oom", "offload"), record.log
    assert record.cap.bytes < 0.02 * 2**30


def test_host_memory_that_runs_out_is_reported_by_the_worker_itself():
    # So long that a tensor of diffusion is the first that is refused. A shorter song first lacks a kernel's
    # own memory, and what is refused there is a segmentation fault now and then.
    record = run_case(case(tier_gb=0.5, cap="host", duration_s=600.0, steps=1, no_limits=True))
    assert (record.status, record.exit_code) == ("host-oom", 21), record.log
    assert record.cap is not None and record.cap.verified
    assert 0 < record.peak_bytes < 0.5 * 2**30 + 64 * MIB


def test_a_cap_that_cannot_be_installed_is_not_claimed():
    record = run_case(case(tier_gb=0.2, cap="host"))
    assert (record.status, record.exit_code, record.cap) == ("error", 22, None), record.log


def test_weights_that_are_missing_are_refused_before_a_process_starts():
    with pytest.raises(MissingPrerequisite, match="/no/such/checkpoints"):
        run_case(case(source="/no/such/checkpoints"))


def audio(samples=480_000, silent=False, fill=0.1):
    return SimpleNamespace(tensor=torch.full((2, samples), fill), silent=silent)


def problem_of(audios, duration_s):
    plan = resolve(case(duration_s=duration_s)).engine_plan
    return subject_of(case()).check(SimpleNamespace(audios=audios), plan)


def test_a_request_shorter_than_the_model_makes_is_held_to_its_length_too():
    assert problem_of([audio(2 * 48_000)], duration_s=2) is None
    assert "lasts 5.12 s, 2 s" in str(problem_of([audio(128 * 1920)], duration_s=2))


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
    message = problem_of(audios, duration_s=10)
    assert message == problem or (problem and problem in message)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_generation_on_a_simulated_card():
    record = run_case(case(device="cuda", tier_gb=4, variant="no-quant", skip_compile=True))
    assert (record.status, record.reason) == ("ok", ""), record.log
    assert record.cap is not None and (record.cap.kind, record.cap.verified) == ("cuda-fraction", True)
    assert record.cap.bytes == 3.5 * 2**30
    assert 2**29 < record.peak_bytes <= 4 * 2**30


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_device_memory_that_runs_out_is_an_oom():
    record = run_case(case(device="cuda", tier_gb=0.52, duration_s=60))
    assert (record.status, record.exit_code) == ("oom", 20), record.log
