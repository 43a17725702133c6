"""The command line of the profiler: the guides' lines, every flag with bad input, and exit codes."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from guides import GUIDES
from places import ROOT

import acestep.profiler
from acestep import resolver
from acestep.lm.backends import registry as backend
from acestep.profiler import command, prepare
from acestep.profiler.defaults import VARIABLES
from acestep.profiler.flags import MODES, flag_of, parser
from acestep.profiler.options import Options, parse
from harness import quantization
from harness.errors import BenchError, UsageError
from harness.flags import ALIASES

TINY_CPU = "--device cpu --source synthetic-tiny"

# What is refused: the exit code, and words of the one line.
REFUSED = {
    "--mode sing": (2, "--mode: 'sing' is not allowed"),
    "--mode profil": (2, "did you mean profile?"),
    "--mode tier_test": (2, "did you mean tier-test?"),
    "--duraton 30": (2, "did you mean --duration?"),
    "--dur 30": (2, "'--dur' is no flag"),
    "benchmark": (2, "'benchmark' is no flag"),
    "--device": (2, "--device: expected one argument"),
    "--device gpu": (2, "--device: 'gpu' is not known"),
    "--device cpu:1": (2, "--device"),
    "--device cuda:99": (3, "--device: cuda:99 is not available here"),
    "--lm-backend onnx": (2, "--lm-backend: 'onnx' is not allowed"),
    "--lm-backend vllm": (3, "--lm-backend: vllm is not installed; pip install '.[vllm]', or use pt"),
    "--lm-backend mlx": (3, "--lm-backend: mlx is not installed"),
    "--source no/such/folder": (3, "--source: no folder"),
    "--config-path acestep-v99": (2, "--config-path: synthetic-tiny has no folder 'acestep-v99'"),
    "--lm-model gpt": (3, "--lm-model: there is no 'gpt'"),
    "--no-offload-to-cpu --offload-dit-to-cpu": (2, "--offload-dit-to-cpu: given with --no-offload"),
    "--quantization int3": (2, "--quantization: 'int3' is not allowed"),
    "--lm-quantization w8a8_dynamic": (2, "--lm-quantization: 'w8a8_dynamic' is not allowed"),
    "--place dit": (2, "--place: 'dit=' is on no device; use cuda, cuda:N, mps or cpu"),
    "--place nope=cpu": (2, "--place: 'nope' is no part; use dit"),
    "--dtype int8": (2, "--dtype: 'int8' is not allowed; use one of auto, bf16, fp16, fp32"),
    "--max-vram 0": (2, "--max-vram: '0' is not allowed"),
    "--max-vram lots": (2, "--max-vram: 'lots' is not allowed"),
    "--strict --max-vram 4": (2, "example_05.json': duration: 200 is over the limit of 4 GB (GTX 1650)"),
    "--max-vram 4 --use-cot-metas --duration -1": (3, "--lm: 4 GB (GTX 1650) has room for no"),
    "--max-vram 4 --thinking": (3, "4 GB (GTX 1650) has room for no"),
    "--example absent.json": (3, "example_05.json"),
    "--example ../text/create.json": (3, "example '../text/create.json': no such file"),
    "--example /etc/passwd": (3, "example '/etc/passwd': not JSON"),
    "--example ..": (3, "example '..': "),
    "--preset theirs": (2, "--preset: invalid choice: 'theirs' (choose from 'fixed', 'upstream', 'guide')"),
    "--task-type remix": (2, "--task-type: 'remix' is not allowed"),
    "--task-type cover": (2, "--src-audio: cover works on a recording"),
    "--task-type cover --src-audio absent.wav": (3, "--src-audio"),
    "--src-audio absent.wav": (2, "--src-audio: text2music has no source"),
    "--reference-audio absent.wav": (3, "--reference-audio"),
    "--duration 9.9": (2, "--duration: 9.9 is not allowed; use a number from 10 to 600"),
    "--duration 601": (2, "--duration: 601"),
    "--duration nan": (2, "--duration: 'nan'"),
    "--duration inf": (2, "--duration: 'inf'"),
    "--duration long": (2, "--duration: 'long' is not allowed; use a number"),
    "--duration -1": (2, "--duration: -1 leaves it to the language model"),
    "--batch-size 0": (2, "--batch-size: 0"),
    "--batch-size 1.5": (2, "--batch-size: '1.5' is not allowed; use a whole number"),
    "--inference-steps 0": (2, "--inference-steps: 0"),
    "--inference-steps 201": (2, "--inference-steps: 201"),
    "--seed -2": (2, "--seed: -2"),
    "--seed 4294967296": (2, "--seed: 4294967296"),
    "--guidance-scale 0.5": (2, "--guidance-scale: 0.5"),
    "--guidance-scale nan": (2, "--guidance-scale: 'nan'"),
    "--use-constrained-decoding --no-constrained-decoding": (2, "keep one of them"),
    "--lm-temperature 2.5": (2, "--lm-temperature: 2.5"),
    "--mode understand --lm-temperature 2.5": (2, "--lm-temperature: 2.5"),
    "--lm-cfg-scale 0.9": (2, "--lm-cfg-scale: 0.9"),
    "--thinking=yes": (2, "--thinking"),
    "--audio-codes x": (2, "--audio-codes: has no meaning in mode profile; drop it, or use it in understand"),
    "--mode understand --audio-codes 17": (2, "--audio-codes: '17' at position 0"),
    "--mode understand --audio-codes @absent": (3, "--audio-codes: '@absent': cannot be read"),
    "--sample-query x": (2, "--sample-query: has no meaning in mode profile"),
    "--instrumental": (2, "--instrumental: has no meaning in mode profile"),
    "--mode understand --thinking": (2, "--thinking: has no meaning in mode understand"),
    "--mode understand --quantization int8_weight_only": (2, "--quantization: has no meaning in mode und"),
    "--mode format_sample --offload-dit": (2, "--offload-dit: has no meaning in mode format_sample"),
    "--mode benchmark --profile-memory": (2, "--profile-memory: has no meaning in mode benchmark"),
    "--mode benchmark --detailed": (2, "--detailed: has no meaning in mode benchmark"),
    "--mode benchmark --llm-debug": (2, "--llm-debug"),
    "--mode benchmark --measure-ceilings": (2, "--measure-ceilings: has no meaning in mode benchmark"),
    "--mode benchmark --trace t.json": (2, "--trace"),
    "--mode benchmark --streaming": (2, "--streaming: has no meaning in mode benchmark; drop it, or use"),
    "--chunk 1": (2, "--chunk: has no use without --streaming; add it, or drop --chunk"),
    "--streaming --chunk 0": (2, "--chunk: 0.0 is not allowed; use a number from 0.01 to 600"),
    "--budget 10m": (2, "--budget: has no meaning in mode profile"),
    "--mode benchmark --budget soon": (2, "--budget: 'soon' is not a time"),
    "--mode benchmark --budget 0": (2, "--budget: 0"),
    "--mode benchmark --budget nan": (2, "--budget: 'nan' is not a time"),
    "--mode benchmark --resume": (2, "--resume: continues a file"),
    "--repeats 0": (2, "--repeats: 0"),
    "--repeats x": (2, "--repeats: 'x'"),
    "--json-compat": (2, "--json-compat: is a form of a file"),
    "--json-plan x/../a.json --benchmark-output a.json": (
        2,
        "--json-plan: 'x/../a.json' is the file of --benchmark-output as well",
    ),
    "--mode understand --json-plan a.json": (2, "--json-plan: has no meaning in mode understand"),
    "--tiers 8": (2, "--tiers: has no meaning in mode profile"),
    "--tier-skip-compile": (2, "--tier-skip-compile"),
    "--tier-duration 30 --mode tier-test --duration 30": (2, "--tier-duration: is --duration in other words"),
    "--mode tier-test --quantization int8_weight_only int3": (2, "--quantization: 'int3' is not allowed"),
    "--mode tier-test --lm-model gpt": (3, "--lm-model: there is no 'gpt'"),
    "--mode tier-test --shift wide": (2, "--shift: 'wide' is not allowed"),
    "--duration 30 60": (2, "--duration: several values are a matrix of mode tier-test; give one"),
    "--config-path acestep-v15-turbo acestep-v15-base": (2, "--config-path: several values are a matrix"),
    "--shift 0": (2, "--shift: 0.0 is not allowed"),
    "--policy theirs": (2, "--policy: invalid choice: 'theirs'"),
    "--dtype bf16 fp32": (2, "--dtype: several values are a matrix of mode tier-test; give one"),
    "--suggest": (2, "--suggest: has no meaning in mode profile"),
    "--max-vram 8 --config-path acestep-v15-xl-turbo --strict": (
        2,
        "--config-path: acestep-v15-xl-turbo is over the limit of 8 GB (RTX 4060), which has no XL DiT;",
    ),
    "--mode tier-test --tiers six": (2, "--tiers: 'six' is not allowed"),
    "--mode benchmark --card rtx4090": (2, "--card: is where nothing runs"),
    "--mode benchmark --dry-run --card rtx4090 --device cpu": (2, "--device: given with --card"),
    "--predict": (2, "--predict: has no meaning in mode profile; drop it, or use it in tier-test"),
    "--run": (2, "--run: has no meaning in mode profile"),
    "--device-json card.json": (2, "--device-json: has no meaning in mode profile"),
    "--card rtx4090": (
        2,
        "--card: has no meaning in mode profile; drop it, or use it in benchmark, scaling, tier-test",
    ),
    "--quick": (2, "--quick: has no meaning in mode profile; drop it, or use it in scaling"),
    "--html plot.html": (2, "--html: has no meaning in mode profile; drop it, or use it in scaling"),
}


def resolved(options: Options) -> int:
    """What a mode does first: it decides all that can be decided without torch."""
    resolver.resolve(options.params, options.config, prepare.setup(options))
    return 0


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    """Runs a command line in an empty folder; gives the exit code, the standard error and tiersim's line."""
    stub = ModuleType("acestep.profiler.modes")
    stub.__dict__["run"] = resolved
    monkeypatch.setitem(sys.modules, stub.__name__, stub)
    monkeypatch.setattr(acestep.profiler, "modes", stub, raising=False)
    for variable in VARIABLES.values():
        monkeypatch.setenv(variable, "")  # so that what the command sets is undone
        monkeypatch.delenv(variable)
    monkeypatch.setenv("ACESTEP_SOURCE", "synthetic-tiny")
    monkeypatch.setattr(backend, "find_spec", lambda name: None)  # whatever is installed here
    monkeypatch.setattr(quantization, "find_spec", lambda name: object())
    monkeypatch.chdir(tmp_path)
    tiersim: list[str] = []

    def go(line: str) -> tuple[int, str, list[str]]:
        code = command.main(shlex.split(line), tier_test=lambda given: tiersim.extend(given) or 0)
        return code, capsys.readouterr().err, tiersim

    return go


@pytest.mark.parametrize(("line", "code"), GUIDES.items())
def test_every_line_of_the_guides_parses_or_says_in_one_line_why_not(run, line, code):
    exit_code, error, _ = run(line)
    assert (exit_code, error.count("\n")) == (code, int(code > 0)), error


@pytest.mark.parametrize(("line", "refusal"), REFUSED.items())
def test_bad_input_gets_its_code_and_one_line(run, line, refusal):
    (code, words), (exit_code, error, _) = refusal, run(line)
    assert exit_code == code, error
    assert error.startswith("profile_inference: ") and error.count("\n") == 1 and words in error


def test_quantization_needs_its_package(run, monkeypatch):
    monkeypatch.setattr(quantization, "find_spec", lambda name: None)
    code, error, _ = run("--quantization w8a8_dynamic")
    assert code == 3 and error.startswith("profile_inference: --quantization: w8a8_dynamic needs torchao")


def test_graphs_need_a_card_that_records(run):
    code, message, _ = run("--graphs --device cpu")
    words = (
        "profile_inference: --graphs: only CUDA records steps, and the device is cpu; leave it out, or choose"
    )
    assert code == 3 and message == f"{words} --device cuda\n"


def test_every_flag_has_a_refusal_or_takes_nothing():
    bare = {"strict", "no_limits", "use_cot_caption", "use_cot_language", "no_warmup"}
    bare |= {"dry_run", "list_devices", "with_lm", "compile", "graphs"}
    lines = " ".join([*REFUSED, *GUIDES])
    spellings = {name: (flag_of(name), *ALIASES.get(flag_of(name), ())) for name in parser().modes_of}
    assert {name for name, flags in spellings.items() if not any(flag in lines for flag in flags)} <= bare


def test_nothing_that_is_refused_imports_torch_and_mistakes_work_from_any_folder(tmp_path):
    code = (
        "import json, shlex, sys\nfrom acestep.profiler.command import main\n"
        "lines = json.loads(sys.stdin.read())\n"
        "codes = [main(shlex.split(line), tier_test=len) for line in lines]\n"
        "print(json.dumps([codes, 'torch' in sys.modules]))"
    )
    early = [line for line in REFUSED if not refused_by_the_machine(line)]
    done = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(early), capture_output=True, text=True, cwd=tmp_path
    )
    assert json.loads(done.stdout) == [[REFUSED[line][0] for line in early], False], done.stderr


def refused_by_the_machine(line: str) -> bool:
    """Whether options are made of a line, so that a mode has to refuse it."""
    try:
        parse(shlex.split(line), {}, Path("/nowhere"))
    except BenchError:
        return False
    return True


def test_the_script_itself_works_from_any_folder(tmp_path):
    script = [sys.executable, str(ROOT / "profile_inference.py")]
    helped = subprocess.run([*script, "--help"], capture_output=True, text=True, cwd=tmp_path)
    assert helped.returncode == 0 and all(mode in helped.stdout for mode in MODES)
    refused = subprocess.run(
        [*script, "--mode", "tier-test", "--tiers", "0"], capture_output=True, text=True, cwd=tmp_path
    )
    assert refused.returncode == 2 and re.match("tiersim: .* 0.0 is not allowed", refused.stderr)


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("ACESTEP_LM_BACKEND", "vllm", "ACESTEP_LM_BACKEND (.env): vllm is not installed"),
        ("ACESTEP_DEVICE", "gpu", "ACESTEP_DEVICE (.env): 'gpu' is not known"),
        ("ACESTEP_LM_MODEL_PATH", "gpt", "ACESTEP_LM_MODEL_PATH (.env): there is no 'gpt'"),
        ("MAX_CUDA_VRAM", "none", "MAX_CUDA_VRAM (.env): 'none' is not allowed"),
        ("ACESTEP_CONFIG_PATH", "dit", "ACESTEP_CONFIG_PATH (.env): synthetic-tiny has no folder"),
    ],
)
def test_a_bad_default_names_its_variable_and_its_file(run, tmp_path, variable, value, words):
    (tmp_path / ".env").write_text(f"{variable}={value}\n")
    assert words in run("")[1]


def test_a_bad_line_of_the_file_is_a_usage_error(run, tmp_path):
    (tmp_path / ".env").write_text("nonsense\n")
    code, error, _ = run("")
    assert code == 2 and "line 1" in error


def test_a_tier_test_is_tiersims_command_line(run):
    line = "--mode tier-test --tiers 6 8.5 --tier-with-lm --tier-duration 10 --inference-steps 2 --device cpu"
    code, error, given = run(f"{line} --tier-boundary --tier-skip-compile --seed 7 --benchmark-output a.json")
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


def test_what_a_tier_test_may_choose_reaches_tiersim(run, monkeypatch):
    """As it was given, each value; a seed of -1 is drawn and told, and one of the environment's LM waits for
    cases that have one."""
    from tiersim.__main__ import arguments

    monkeypatch.setenv("ACESTEP_LM_MODEL_PATH", "acestep-5Hz-lm-0.6B")
    line = (
        "--mode tier-test --dit a b --dtype bf16 fp32 --quantization none --request x.json y.json --shift 1 3"
    )
    code, error, given = run(f"{line} --duration 30 60 --strict --no-limits --policy upstream-2026 --seed -1")
    options = arguments().parse_args(given)
    assert (
        code == 0
        and error == f"profile_inference: warning: seed: {options.seed} is drawn, which repeats this\n"
    )
    assert (options.dit, options.dtype, options.quantization) == (["a", "b"], ["bf16", "fp32"], ["none"])
    assert (options.request, options.shift, options.duration) == (["x.json", "y.json"], [1, 3], [30, 60])
    assert options.strict and options.no_limits and options.policy == "upstream-2026"
    assert options.lm_model is None and options.seed >= 0
    given = run("--mode tier-test --tier-with-lm")[2]
    assert arguments().parse_args(given).lm_model == ["acestep-5Hz-lm-0.6B"]


def test_a_simulated_card_is_one_for_everything_that_runs(run):
    run(f"--max-vram 8 {TINY_CPU}")
    assert os.environ["MAX_CUDA_VRAM"] == "8"


@pytest.mark.parametrize(
    ("failure", "code"),
    [(BenchError("silent"), 1), (UsageError("no"), 2), (OSError("full"), 1), (KeyboardInterrupt(), 130)],
)
def test_a_mode_that_fails_gets_its_code_and_one_line(run, monkeypatch, failure, code):
    def fail(_: Options) -> int:
        raise failure

    monkeypatch.setattr(sys.modules["acestep.profiler.modes"], "run", fail)
    exit_code, error, _ = run("")
    assert exit_code == code and error.startswith("profile_inference: ") and error.count("\n") == 1


def test_a_bug_is_not_a_run_that_failed(run, monkeypatch):
    def broken(_: Options) -> int:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(sys.modules["acestep.profiler.modes"], "run", broken)
    exit_code, error, _ = run("")
    assert exit_code == 4 and "ZeroDivisionError: a bug" in error
