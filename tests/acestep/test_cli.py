"""The command line: refusals before torch is imported, exit codes, no traceback for the user's mistakes."""

import json
import os
import subprocess
import sys

import pytest

HEAVY = ("torch", "numpy", "tokenizers", "rich", "soundfile")


def run(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "acestep", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=env)


def imports_of(*arguments: str) -> set[str]:
    code = (
        "import sys\nfrom acestep.__main__ import main\n"
        f"try: main({list(arguments)!r})\nexcept SystemExit: pass\n"
        f"print('loaded:', *[m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split("loaded:")[-1].split())


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("generate", "--help"),
        ("generate", "--steps", "0"),
        ("generate", "--example", "absent.json"),
        ("generate", "--source", "no/such/folder"),
        ("generate", "--batch-size", "0"),
        ("generate", "--seed", "-1"),
    ],
)
def test_help_and_refusals_import_nothing_heavy(arguments: tuple[str, ...]):
    assert imports_of(*arguments) == set()


def test_the_control_imports_torch():
    assert "torch" in imports_of("write-checkpoint", "synthetic-tiny", "/dev/null/nowhere")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((), 2, "COMMAND"),
        (("sing",), 2, "invalid choice"),
        (("generate", "--steps", "0"), 2, "inference_steps: 0"),
        (("generate", "--duration", "nan"), 2, "duration"),
        (("generate", "--lm", "gpt"), 2, "--lm"),
        (("generate", "--threads", "0"), 2, "--threads"),
        (("generate", "--example", "absent.json"), 3, "example_05.json"),
        (("generate", "--source", "no/such/folder"), 3, "synthetic-tiny"),
        (("generate", "--example", "example_01.json", "--lm", "none", "--thinking"), 3, "no language model"),
    ],
)
def test_mistakes_get_one_line_and_their_code(arguments: tuple[str, ...], code: int, words: str):
    done = run(*arguments)
    assert done.returncode == code, done.stderr
    assert words in done.stderr and "Traceback" not in done.stderr


def test_generate_prints_one_record_and_saves_the_audio(tmp_path):
    done = run(
        *("generate", "--example", "example_01.json", "--source", "synthetic-tiny", "--device", "cpu"),
        *("--duration", "6", "--batch-size", "2", "--seed", "3", "--json", "--out", str(tmp_path)),
    )
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["environment"]["source"] == "synthetic-tiny"
    assert sum(record["stages_s"].values()) == pytest.approx(record["wall_s"])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["seed-3.wav", "seed-4.wav"]


def test_a_simulated_card_limits_the_request_and_says_so(tmp_path):
    environment = os.environ | {"MAX_CUDA_VRAM": "4"}
    options = ("--duration", "200", "--batch-size", "2", "--lm", "none", "--no-thinking", "--steps", "1")
    done = run("generate", *options, "--source", "synthetic-tiny", "--out", str(tmp_path), env=environment)
    assert done.returncode == 0, done.stderr
    assert "tier1" in done.stderr and "using 180" in done.stderr and "using 1" in done.stderr
    assert "1 x 180 s" in done.stdout


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    done = run(
        "generate", "--duration", "2", "--source", "synthetic-tiny", "--out", str(tmp_path / "file" / "x")
    )
    assert done.returncode == 3 and "cannot write audio" in done.stderr and "Traceback" not in done.stderr
