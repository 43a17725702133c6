"""`python -m tiersim`: refuses early, prints a row per case, and its exit code means something."""

import subprocess
import sys
from dataclasses import replace

import pytest

import tiersim.__main__ as command
from tiersim import Case, run_case


@pytest.fixture
def outcomes(monkeypatch):
    """Run nothing: each case's record gets the fields that its tier is given here."""
    chosen = {}
    skipped = run_case(Case(4, lm=True, device="cpu"))

    def pretend(case):
        return replace(skipped, requested=case, **chosen.get(case.tier_gb, {"status": "ok", "reason": ""}))

    monkeypatch.setattr(command, "run_case", pretend)
    return chosen


@pytest.mark.parametrize(
    ("by_tier", "code"),
    [
        ({}, 0),
        ({6: {"status": "skip"}}, 0),
        ({6: {"status": "oom"}}, 1),
        ({6: {"status": "timeout"}}, 1),
        ({6: {"status": "error", "exit_code": 3}, 4: {"status": "oom"}}, 3),
    ],
)
def test_exit_codes(outcomes, capsys, by_tier, code):
    outcomes.update(by_tier)
    assert command.main(["--tiers", "6", "4", "6.0", "--device", "cpu"]) == code
    rows = capsys.readouterr().out.splitlines()[4:6]
    assert [row.split()[0] for row in rows] == ["4GB", "6GB"]


def test_flags_reach_the_case(outcomes):
    options = command.arguments().parse_args(
        "--tiers 7.5 --tier-with-lm --source synthetic-tiny --tier-duration 10 --batch-size 2 --steps 16 "
        "--seed 7 --device cpu --case-timeout 60".split()
    )
    (case,) = command.cases(options)
    assert case == Case(7.5, True, "synthetic-tiny", "cpu", 10.0, 2, 16, 7, 60.0)


@pytest.mark.parametrize(
    "arguments",
    ["--tiers 0", "--tiers nan", "--tiers x", "--duration 601", "--steps 0", "--batch-size 1.5", "--seed -1",
     "--device tpu", "--case-timeout 0", "--no-such-flag"],
)  # fmt: skip
def test_wrong_usage_is_exit_2_before_anything_heavy(arguments):
    code = "import sys, tiersim.__main__ as m\n"
    code += "try: code = m.main(sys.argv[1:])\nexcept SystemExit as e: code = e.code\n"
    check = "assert not {'torch', 'numpy'} & set(sys.modules); sys.exit(code)"
    done = subprocess.run(
        [sys.executable, "-c", code + check, *arguments.split()], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_device_is_exit_3(monkeypatch, capsys):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert command.main(["--device", "cuda"]) == 3
    out, err = capsys.readouterr()
    assert "cuda" in err and not out


def test_help_imports_nothing_heavy():
    code = "import sys, tiersim.__main__ as m\ntry: m.main(['--help'])\nexcept SystemExit: pass\n"
    check = "assert not {'torch', 'numpy', 'psutil', 'pynvml', 'rich', 'msgspec'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code + check], stdout=subprocess.DEVNULL).returncode == 0
