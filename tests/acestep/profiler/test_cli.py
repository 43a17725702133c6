"""The command line of the profiler: the lines of the guides, what a tier test is given, and exit codes."""

import os
import re
import subprocess
import sys

import pytest
from guides import GUIDES
from places import ROOT

from acestep.profiler.flags import MODES
from acestep.profiler.options import Options
from harness.errors import BenchError, UsageError


@pytest.mark.parametrize(("line", "code"), GUIDES.items())
def test_every_line_of_the_guides_parses_or_says_in_one_line_why_not(typed, line, code):
    exit_code, error, _ = typed(line)
    assert (exit_code, error.count("\n")) == (code, int(code > 0)), error


def test_the_script_itself_works_from_any_folder(tmp_path):
    script = [sys.executable, str(ROOT / "profile_inference.py")]
    helped = subprocess.run([*script, "--help"], capture_output=True, text=True, cwd=tmp_path)
    assert helped.returncode == 0 and all(mode in helped.stdout for mode in MODES)
    refused = subprocess.run(
        [*script, "--mode", "tier-test", "--tiers", "0"], capture_output=True, text=True, cwd=tmp_path
    )
    assert refused.returncode == 2 and re.match("tiersim: .* 0.0 is not allowed", refused.stderr)


def test_a_tier_test_is_tiersims_command_line(typed):
    line = "--mode tier-test --tiers 6 8.5 --tier-with-lm --tier-duration 10 --inference-steps 2 --device cpu"
    line += " --tier-boundary --tier-skip-compile --seed 7 --benchmark-output a.json"
    code, error, given = typed(line)
    assert (code, error) == (0, "")
    assert given == [
        *("--device", "cpu", "--source", "synthetic-tiny", "--inference-steps", "2", "--seed", "7"),
        *("--tiers", "6.0", "8.5", "--tier-with-lm", "--tier-skip-compile"),
        *("--tier-boundary", "--benchmark-output", "a.json", "--tier-duration", "10.0"),
    ]
    from tiersim.__main__ import arguments

    options = arguments().parse_args(given)
    assert (options.tiers, options.with_lm, options.boundary, options.seed) == ([6.0, 8.5], True, True, 7)
    assert (options.duration, options.steps, options.skip_compile) == ([10.0], 2, True)


def test_what_a_tier_test_may_choose_reaches_tiersim(typed, monkeypatch):
    """As it was given, each value; a seed of -1 is drawn and told, and one of the environment's LM waits for
    cases that have one."""
    from tiersim.__main__ import arguments

    monkeypatch.setenv("ACESTEP_LM_MODEL_PATH", "acestep-5Hz-lm-0.6B")
    line = (
        "--mode tier-test --dit a b --dtype bf16 fp32 --quantization none --request x.json y.json --shift 1 3"
    )
    line += " --duration 30 60 --strict --no-limits --policy upstream-2026 --seed -1"
    code, error, given = typed(line)
    options = arguments().parse_args(given)
    assert (
        code == 0
        and error == f"profile_inference: warning: seed: {options.seed} is drawn, which repeats this\n"
    )
    assert (options.dit, options.dtype, options.quantization) == (["a", "b"], ["bf16", "fp32"], ["none"])
    assert (options.request, options.shift, options.duration) == (["x.json", "y.json"], [1, 3], [30, 60])
    assert options.strict and options.no_limits and options.policy == "upstream-2026"
    assert options.lm_model is None and options.seed >= 0
    given = typed("--mode tier-test --tier-with-lm")[2]
    assert arguments().parse_args(given).lm_model == ["acestep-5Hz-lm-0.6B"]


def test_a_simulated_card_is_one_for_everything_that_runs(typed):
    typed("--max-vram 8 --device cpu --source synthetic-tiny")
    assert os.environ["MAX_CUDA_VRAM"] == "8"


@pytest.mark.parametrize(
    ("failure", "code"),
    [(BenchError("silent"), 1), (UsageError("no"), 2), (OSError("full"), 1), (KeyboardInterrupt(), 130)],
)
def test_a_mode_that_fails_gets_its_code_and_one_line(typed, monkeypatch, failure, code):
    def fail(_: Options) -> int:
        raise failure

    monkeypatch.setattr(sys.modules["acestep.profiler.modes"], "run", fail)
    exit_code, error, _ = typed("")
    assert exit_code == code and error.startswith("profile_inference: ") and error.count("\n") == 1


def test_a_bug_is_not_a_run_that_failed(typed, monkeypatch):
    def broken(_: Options) -> int:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(sys.modules["acestep.profiler.modes"], "run", broken)
    exit_code, error, _ = typed("")
    assert exit_code == 4 and "ZeroDivisionError: a bug" in error


def test_a_one_is_a_value_and_no_switch(typed):
    from tiersim.__main__ import arguments

    code, error, given = typed("--mode tier-test --seed 1 --batch-size 1 --steps 1 --tiers 1 --shift 1")
    options = arguments().parse_args(given)
    assert (code, error) == (0, "")
    assert (options.seed, options.batch_size, options.steps) == (1, 1, 1)
    assert (options.tiers, options.shift) == ([1], [1])
