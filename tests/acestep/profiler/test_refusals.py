"""What the profiler's command line refuses: each mistake its exit code, one line, before torch is there."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from guides import GUIDES

from acestep.profiler.flags import flag_of, parser
from acestep.profiler.options import parse
from harness import quantization
from harness.errors import BenchError
from harness.flags import ALIASES

# What is refused: the exit code, and words of the one line.
REFUSED = {
    "--mode sing": (2, "--mode: 'sing' is not allowed"),
    "--mode profil": (2, "did you mean profile?"),
    "--mode tier_test": (2, "did you mean tier-test?"),
    "--duraton 30": (2, "did you mean --duration?"),
    "--dur 30": (2, "'--dur' is no flag"),
    "benchmark": (2, "'benchmark' is no flag; write --mode benchmark"),
    "tier-test --tiers 8": (2, "'tier-test' is no flag; write --mode tier-test"),
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


@pytest.mark.parametrize(("line", "refusal"), REFUSED.items())
def test_bad_input_gets_its_code_and_one_line(typed, line, refusal):
    (code, words), (exit_code, error, _) = refusal, typed(line)
    assert exit_code == code, error
    assert error.startswith("profile_inference: ") and error.count("\n") == 1 and words in error


def test_quantization_needs_its_package(typed, monkeypatch):
    monkeypatch.setattr(quantization, "find_spec", lambda name: None)
    code, error, _ = typed("--quantization w8a8_dynamic")
    assert code == 3 and error.startswith("profile_inference: --quantization: w8a8_dynamic needs torchao")


def test_graphs_need_a_card_that_records(typed):
    code, message, _ = typed("--graphs --device cpu")
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
def test_a_bad_default_names_its_variable_and_its_file(typed, tmp_path, variable, value, words):
    (tmp_path / ".env").write_text(f"{variable}={value}\n")
    assert words in typed("")[1]


def test_a_bad_line_of_the_file_is_a_usage_error(typed, tmp_path):
    (tmp_path / ".env").write_text("nonsense\n")
    code, error, _ = typed("")
    assert code == 2 and "line 1" in error


def test_a_request_that_can_be_read_once_only_is_refused_by_its_name(typed, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    code, error, _ = typed("--example pipe")
    words = "profile_inference: --example: 'pipe' is a pipe, which is read once only; name a file\n"
    assert (code, error) == (2, words)
