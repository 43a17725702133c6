"""Flags of tier tests that contradict one another or the machine, and which of the two ways they choose."""

import pytest
from fake_nvml import FakeGPU, FakeNVML

import tiersim.__main__ as main
from acestep.profiler import options
from harness.accelerators import Accelerator
from tiersim import usage


@pytest.mark.parametrize(
    ("device", "line", "predicts"),
    [
        ("cpu", "", True), ("cuda", "", False), ("cuda", "--predict", True), ("cpu", "--run", False),
        ("cpu", "--cap virtual", False), ("cpu", "--device cpu", False), ("cpu", "--gpus 0", False),
        ("cpu", "--scheduler tcp://x", False), ("cuda", "--card rtx4060", True),
        ("cpu", "--repeats 3", False), ("cpu", "--case-timeout 60", False),
    ],
)  # fmt: skip
def test_the_machine_decides_where_no_flag_does(monkeypatch, device, line, predicts):
    monkeypatch.setattr(usage, "here", lambda: Accelerator(device, "", 24.0))
    card = usage.card_of(main.arguments().parse_args(line.split()))
    assert (card is not None) == predicts
    if card:
        assert card.name == ("GeForce RTX 4060" if "4060" in line else "GeForce RTX 4090")


def test_the_profiler_passes_the_choice_on():
    line = "--mode tier-test --predict --card rtx4060 --tiers 8"
    passed = options.parse(line.split(), {}).tiersim
    assert passed == ("--tiers", "8.0", "--predict", "--card", "rtx4060")
    assert options.parse(["--mode", "tier-test", "--run"], {}).tiersim == ("--run",)
    passed = options.parse(["--mode", "tier-test", "--lm-backend", "pt"], {}).tiersim
    assert passed == ("--lm-backend", "pt")


@pytest.mark.parametrize("line", ["--jobs 2", "--jobs 2 --scheduler tcp://x", "--gpus 0 --scheduler tcp://x"])
def test_how_many_cases_run_at_a_time_is_not_asked_for_in_vain(monkeypatch, capsys, line):
    FakeNVML(monkeypatch, FakeGPU())
    assert main.main(f"--run --dry-run --tiers 4 --source synthetic-tiny {line}".split()) == 2
    assert capsys.readouterr().err.startswith(f"tiersim: {line.partition(' ')[0]}: ")
    assert main.main("--run --dry-run --tiers 4 --source synthetic-tiny --gpus 0".split()) == 0


@pytest.mark.parametrize("flag", ["tiers", "case-timeout", "steps", "duration", "batch-sizes"])
def test_a_wrong_value_is_said_of_its_flag(capsys, flag):
    assert main.main([f"--{flag}", "-1"]) == 2
    assert capsys.readouterr().err.startswith(f"tiersim: --{flag}: -1")


def test_a_missing_device_or_baseline_is_exit_3(monkeypatch, capsys):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert main.main(["--device", "cuda"]) == 3
    out, err = capsys.readouterr()
    assert "cuda" in err and not out
    assert main.main(["--baseline", "/no/such.json", "--cap", "virtual"]) == 3
    assert "tiersim: --baseline: '/no/such.json': cannot be read: No such file" in capsys.readouterr().err
    assert main.main("--tiers 8 --with-lm --lm-backend vllm --cap host --source synthetic-tiny".split()) == 3
    assert "vllm is not installed" in capsys.readouterr().err
    assert main.main(["--device-json", "/no/such.json"]) == 3
    assert "/no/such.json" in capsys.readouterr().err
