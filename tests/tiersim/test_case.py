"""What a case asks for, and how it resolves on a machine."""

import functools
import json
from dataclasses import asdict, replace

import msgspec
import pytest

from harness import accelerators
from harness.accelerators import Accelerator
from harness.cards import find
from harness.errors import MissingPrerequisite, UsageError
from harness.memory import GIB
from tiersim import Case, Record, run_case, supervisor
from tiersim.case import VARIANTS, resolve, subject_of
from tiersim.protocol import Job


@pytest.fixture
def card(monkeypatch):
    """A machine with a 24 GB card."""
    found = Accelerator("cuda", "RTX 4090", 23.6)
    monkeypatch.setattr(accelerators, "detect", lambda device, environ: found)
    return found


def test_the_request_is_fixed_by_the_case():
    case = Case(8, lm=True, duration_s=10, batch_size=2, steps=16, seed=7)
    params, config = subject_of(case).case_request(case)
    assert (params.thinking, params.duration, params.inference_steps) == (True, 10, 16)
    assert params.metadata_complete
    assert config.seeds == (7, 8)


def test_a_preset_says_what_the_case_does_not():
    """What it sets is part of what runs; the length is the case's."""
    case = Case(8, lm=True, preset="upstream", source="synthetic-tiny", device="cpu", duration_s=10)
    params, config = subject_of(case).case_request(case)
    assert (config.preset, config.audio_format, params.duration) == ("upstream", "flac", 10)
    assert params.plans_metadata and params.enable_normalization
    plan, fixed = resolve(case), resolve(replace(case, preset="fixed"))
    assert (plan.effective.preset, plan.effective.duration_s) == ("upstream", 10)
    assert plan.key != fixed.key
    assert "preset" not in subject_of(case).identity(
        fixed.requested, fixed.engine_plan
    )  # keys from before there were any
    assert subject_of(case).identity(case, plan.engine_plan)["preset"] == "upstream"


@pytest.mark.parametrize(
    "fields",
    [
        {"tier_gb": 0}, {"tier_gb": -4}, {"tier_gb": float("nan")}, {"tier_gb": float("inf")},
        {"timeout_s": 0}, {"duration_s": 0}, {"duration_s": 601}, {"duration_s": float("nan")},
        {"batch_size": 0}, {"steps": 0}, {"seed": -1}, {"variant": "all"}, {"cap": "dmem"},
        {"lm_backend": "onnx"}, {"preset": "theirs"},
    ],
)  # fmt: skip
def test_a_case_that_cannot_run_is_refused(fields):
    with pytest.raises(UsageError):
        Case(**{"tier_gb": 8} | fields)


def test_the_key_names_what_runs():
    def key(tier_gb=8, **fields):
        return resolve(Case(tier_gb, **{"source": "synthetic-tiny", "device": "cpu"} | fields)).key

    assert key() == key(8.0) == key(timeout_s=5) == key(device="auto", cap="virtual") == key(no_limits=True)
    assert key(duration_s=360) == key(duration_s=500)  # over the limit of the tier
    others = [
        key(lm=True),
        key(source="synthetic-full"),
        key(seed=1),
        key(7.5),
        key(cap="host"),
        key(repeat=1),
    ]
    others += [key(batch_size=2), key(steps=16), key(duration_s=20), key(variant="no-offload")]
    assert len({key(), *others}) == 11
    assert len(key()) == 16


@pytest.mark.parametrize(
    ("tier_gb", "lm", "tier", "model", "skip"),
    [
        (4, False, "tier1", None, None),
        (4, True, "tier1", None, "the tier of 4 GB (GTX 1650) has no language model"),
        (8, True, "tier4", "acestep-5Hz-lm-0.6B", None),
        (7, True, "tier3", "acestep-5Hz-lm-0.6B", None),
        (12, True, "tier5", "acestep-5Hz-lm-1.7B", None),
        (20, False, "tier6b", None, None),
        (24, True, "unlimited", "acestep-5Hz-lm-4B", None),
        (32, False, "unlimited", None, "exceeds device: RTX 4090 has 23.6 GiB"),
        (0.5, False, "tier1", None, "a CUDA context alone needs 0.5 GiB"),
    ],
)
def test_a_case_resolves_to_its_tier(card, tier_gb, lm, tier, model, skip):
    plan = resolve(Case(tier_gb, lm=lm))
    assert (plan.tier.name, plan.settings.lm, plan.skip) == (tier, model, skip)


def test_on_cuda_the_cap_leaves_room_for_the_context(card):
    assert resolve(Case(8)).cap_bytes == 7.5 * GIB
    assert resolve(Case(8, device="cuda:1")).device == "cuda:1"


def test_on_cuda_torch_reads_the_cap_from_the_environment_too(card, monkeypatch):
    plan = resolve(Case(8))
    old = {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}
    fraction = f"per_process_memory_fraction:{7.5 / 23.6:.6f}"
    monkeypatch.setattr(supervisor, "_torch_reads_a_fraction", lambda: True)
    environment = supervisor.worker_environment(plan, old)
    assert environment["PYTORCH_ALLOC_CONF"] == f"expandable_segments:True,{fraction}"
    monkeypatch.setattr(supervisor, "_torch_reads_a_fraction", lambda: False)
    assert "PYTORCH_ALLOC_CONF" not in supervisor.worker_environment(plan, old)


def test_on_a_cpu_a_card_is_simulated_with_its_own_policy_and_max_cuda_vram_is_ignored(monkeypatch):
    monkeypatch.setenv("MAX_CUDA_VRAM", "not a number")
    plan = resolve(Case(8, device="cpu", lm=True))
    assert (plan.device, plan.cap_kind, plan.cap_bytes) == ("cpu", "virtual", 7.5 * GIB)
    settings = plan.settings
    assert (plan.tier.name, settings.quantization) == ("tier4", "int8_weight_only")
    assert (settings.offload_to_cpu, settings.offload_dit_to_cpu) == (True, True)
    assert (settings.lm_backend, settings.compile, plan.source) == ("pt", False, "synthetic-tiny")
    assert plan.engine_plan.setup.device == "virtual"
    small = resolve(Case(0.8, device="cpu"))  # a scaled-down card has a scaled-down context
    assert small.cap_bytes == int(0.8 * GIB) - int(0.1 * GIB)


def test_host_memory_as_the_cap_is_the_whole_size_and_offloads_nothing():
    plan = resolve(Case(8, cap="host"))
    assert (plan.device, plan.cap_kind, plan.cap_bytes, plan.context_bytes) == ("cpu", "host", 8 * GIB, 0)
    settings = plan.settings
    assert not (settings.offload_to_cpu or settings.offload_dit_to_cpu or settings.quantization)


@pytest.mark.parametrize(("cap", "device"), [("cuda", "cpu"), ("host", "cuda:1"), ("virtual", "mps")])
def test_a_cap_of_another_device_is_refused(cap, device):
    with pytest.raises(UsageError, match=f"cap: {cap} is for device"):
        resolve(Case(8, cap=cap, device=device))
    with pytest.raises(MissingPrerequisite):
        resolve(Case(8, cap="mps"))


def test_a_variant_takes_away_what_its_name_says(card, monkeypatch):
    monkeypatch.setattr("acestep.choices.unquantized", lambda *_: None)
    ways = [resolve(Case(12, variant=variant)).settings for variant in VARIANTS]
    assert [way.quantization for way in ways] == ["int8_weight_only", None, None]
    assert [way.offload_to_cpu for way in ways] == [True, True, False]
    assert resolve(Case(6, variant="no-offload")).skip == "not tried below 8 GB"
    assert resolve(Case(8, variant="no-offload")).skip is None


def test_what_a_tier_asks_for_and_this_machine_lacks_is_said(card, monkeypatch):
    monkeypatch.setattr("acestep.choices.unquantized", lambda *_: "needs a miracle")
    plan = resolve(Case(8))
    assert plan.settings.quantization is None and any("needs a miracle" in note for note in plan.notes)
    assert not resolve(Case(8, variant="no-quant", skip_compile=True)).notes


def test_a_request_over_the_limits_is_clamped_and_says_so():
    plan = resolve(Case(8, lm=True, device="cpu", duration_s=300, batch_size=4))
    assert (plan.effective.duration_s, plan.effective.batch_size) == (240, 2)
    assert [a.field for a in plan.adjustments] == ["batch_size", "duration"]


def test_a_cap_that_is_larger_than_its_device_proves_nothing(monkeypatch):
    for device, cap in (("cpu", "host"), ("mps", "auto"), ("cuda", "auto")):
        found = Accelerator(device, "Machine", 15.6)
        monkeypatch.setattr(accelerators, "detect", lambda device, environ, found=found: found)
        assert resolve(Case(24, device=device, cap=cap)).skip == "exceeds device: Machine has 15.6 GiB"
        assert resolve(Case(16, device=device, cap=cap)).skip is None
    monkeypatch.setattr(accelerators, "detect", lambda device, environ: Accelerator("cpu", "CPU", 15.6))
    assert resolve(Case(24)).skip is None  # a virtual card holds what is used of it


def test_the_backend_of_the_language_model(card, monkeypatch):
    monkeypatch.setattr("acestep.lm.backends.registry.find_spec", lambda name: name)
    plans = [resolve(Case(16, lm=True, lm_backend=name)) for name in ("auto", "pt", "vllm")]
    assert [plan.settings.lm_backend for plan in plans] == ["vllm", "pt", "vllm"]
    assert plans[0].key == plans[2].key != plans[1].key
    assert Job.of(plans[1]).plan.setup.lm_backend == "pt"
    monkeypatch.setattr("acestep.lm.backends.registry.find_spec", lambda name: None)
    with pytest.raises(MissingPrerequisite, match="vllm is not installed"):
        resolve(Case(16, lm=True, lm_backend="vllm"))


def test_a_card_that_stands_in_sees_one_backend_only():
    simulated = Case(8, lm=True, device="cpu")
    assert resolve(replace(simulated, lm_backend="pt")).settings.lm_backend == "pt"
    for case in (simulated, Case(8, lm=True, card=find("rtx4090"))):
        with pytest.raises(UsageError, match="does not see what vllm allocates"):
            resolve(replace(case, lm_backend="vllm"))
    assert resolve(replace(simulated, lm=False, lm_backend="vllm")).settings.lm_backend == ""


def test_a_device_that_is_not_here_is_missing(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(MissingPrerequisite):
        run_case(Case(8, device="cuda"))


def test_a_skipped_case_starts_no_process():
    record = run_case(Case(4, lm=True, device="cpu"), worker=("/no/such/program",))
    assert (record.status, record.exit_code, record.cap) == ("skip", None, None)


def test_records_and_jobs_travel_as_json():
    case = Case(4, lm=True, device="cpu", batch_size=2)
    record = run_case(case)
    assert msgspec.json.decode(msgspec.json.encode(record), type=Record) == record
    assert json.loads(json.dumps(asdict(record)))["requested"]["batch_size"] == 2


@pytest.mark.parametrize("fields", [{"lm": True}, {"tier_gb": 24}, {"cap": "host"}, {"no_limits": True}])
def test_a_job_is_the_plan_as_it_was_shown(fields):
    plan = resolve(Case(**{"tier_gb": 8, "device": "cpu", "source": "synthetic-tiny"} | fields))
    job = Job.decode(Job.of(plan).encode())
    assert job == Job.of(plan)
    assert (job.plan, job.plan.setup) == (plan.engine_plan, plan.engine_plan.setup)
    assert (job.plan.setup.device, job.cap_bytes) == (
        "cpu" if plan.cap_kind == "host" else "virtual",
        plan.cap_bytes,
    )


@pytest.mark.parametrize(
    ("path", "value", "error"),
    [
        ("cap_kind", "none", msgspec.ValidationError),
        ("cap_bytes", "8", msgspec.ValidationError),
        ("subject", "no.such", UsageError),
        ("plan.times", None, msgspec.ValidationError),
        ("plan.setup.device", 1, msgspec.ValidationError),
        ("plan.setup.limits.max_batch", "four", msgspec.ValidationError),
        ("plan.params.duration", 601, UsageError),
        ("plan.config.seeds", [1, 2], UsageError),
        ("plan.params.thinking", False, None),  # the control
    ],
)
def test_a_worker_refuses_a_job_that_no_plan_can_be(path, value, error):
    message = json.loads(Job.of(resolve(Case(8, device="cpu", source="synthetic-tiny"))).encode())
    *parents, name = path.split(".")
    functools.reduce(dict.__getitem__, parents, message)[name] = value
    if error is None:
        Job.decode(json.dumps(message))
    else:
        with pytest.raises(error):
            Job.decode(json.dumps(message))
