"""What a command line comes to: values, where each is from, what the header and the warnings say."""

import shlex
from pathlib import Path

import pytest
from places import ROOT

from acestep import components, resolver
from acestep.profiler import prepare
from acestep.profiler.options import Options, parse
from acestep.request import MAX_SEED
from acestep.setup import Setup
from harness.accelerators import Accelerator
from harness.errors import UsageError

CODES = "<|audio_code_17|><|audio_code_4|>"
TINY_CPU = "--device cpu --source synthetic-tiny"


def parsed(line: str, environ: dict[str, str] | None = None, folder: Path = ROOT / "examples") -> Options:
    return parse(shlex.split(line), environ or {}, folder)


def test_the_defaults_are_the_guides():
    options = parsed("")
    assert (options.mode, options.device, options.lm_backend) == ("profile", "auto", "auto")
    assert (options.lm_model, options.config_path) == ("acestep-5Hz-lm-1.7B", None)
    assert (options.params.duration, options.config.batch_size, options.config.seeds) == (200, 1, (42,))
    assert not options.params.thinking and not options.chains and not options.wants_lm
    assert (options.params.lm_temperature, options.params.lm_cfg_scale) == (0.85, 2.0)
    assert options.warmup and options.repeats == 1 and options.benchmark_output is None
    assert parsed("--mode benchmark").repeats == 3


def test_flags_reach_the_request():
    options = parsed(
        "--duration 30 --batch-size 2 --inference-steps 4 --seed 7 --guidance-scale 3 --thinking "
        "--use-cot-caption --lm-temperature 0.5 --lm-cfg-scale 1.5 --strict --reference-audio a.wav"
    )
    params, config = options.params, options.config
    assert (params.duration, params.inference_steps, params.guidance_scale) == (30, 4, 3)
    assert (params.thinking, params.use_cot_caption, params.use_cot_metas) == (True, True, False)
    assert (params.lm_temperature, params.lm_cfg_scale, params.reference_audio) == (0.5, 1.5, ("a.wav",))
    assert (config.batch_size, config.seeds, options.strict) == (2, (7, 8), True)
    assert parsed("--task-type cover --src-audio a.wav").params.task_type == "cover"
    assert parsed("--duration -1 --use-cot-metas").params.duration is None


def test_the_preset_is_the_guides_unless_another_is_named():
    """The guide's has planning by flags alone; another's is below the example, which is below the flags."""
    guide, fixed = parsed(""), parsed("--preset fixed")
    assert guide.config.preset == "guide" and not guide.params.thinking  # though the example has it
    assert fixed.config.preset == "fixed" and fixed.params.thinking and fixed.params.use_cot_metas
    upstream = parsed("--preset upstream --no-use-cot-caption --batch-size 3")
    params, config, origins = upstream.params, upstream.config, upstream.origins
    assert (config.preset, config.batch_size, config.audio_format) == ("upstream", 3, "flac")
    assert (params.use_cot_caption, params.use_cot_language, params.enable_normalization) == (
        False,
        True,
        True,
    )
    names = ("preset", "batch_size", "use_cot_caption", "use_cot_language", "thinking", "lm_temperature")
    assert [origins[name] for name in names] == ["flag", "flag", "flag", "preset", "example", "default"]
    facts = prepare.header_lines(guide, prepare.setup(parsed(f"{TINY_CPU}")), None)
    assert "preset       guide (default)" in facts
    assert parsed("--mode tier-test --preset upstream").tiersim == ("--preset", "upstream")
    with pytest.raises(UsageError, match=r"--preset: .*'nothing'"):
        parsed("--preset nothing")


def test_flags_reach_how_it_is_measured():
    options = parsed("--no-warmup --detailed --llm-debug --trace t.json --repeats 5 --dry-run --max-vram 8")
    assert (options.warmup, options.detailed, options.llm_debug, options.dry_run) == (False, True, True, True)
    assert (options.trace, options.repeats, options.max_vram_gb) == (Path("t.json"), 5, 8.0)
    options = parsed("--mode benchmark --budget 1.5h --benchmark-output a.json --json-compat --no-resume")
    assert (options.budget_s, options.benchmark_output, options.json_compat) == (5400.0, Path("a.json"), True)
    assert not options.resume and parsed("--measure-ceilings").measure_ceilings
    options = parsed("--streaming --chunk 0.5")
    assert (options.streaming, options.chunk_s) == (True, 0.5) and parsed("--streaming").chunk_s == 1.0
    header = prepare.header_lines(parsed(f"{TINY_CPU} --streaming"), prepare.setup(parsed(TINY_CPU)), None)
    assert "streaming    chunks of 1 s (default)" in header
    assert [parsed(f"--mode benchmark --budget {text}").budget_s for text in ("90", "90s", "10m")] == [
        90.0,
        90.0,
        600.0,
    ]


def test_a_drawn_seed_is_one_and_another_each_time():
    seeds = {parsed("--seed -1").config.seeds for _ in range(8)}
    assert len(seeds) > 1 and all(seed and 0 <= seed[0] <= MAX_SEED for seed in seeds)
    assert parsed("--mode understand --seed -1").description.seed >= 0


def test_words_come_from_the_flag_or_from_an_example(tmp_path):
    (tmp_path / "codes").write_text(CODES + "\n")
    assert parsed(f"--mode understand --audio-codes @{tmp_path / 'codes'}").description.audio_codes == CODES
    assert parsed(f"--mode understand --audio-codes '{CODES}'").description.audio_codes == CODES
    assert parsed("--mode understand").origins["audio_codes"] == "example"
    options = parsed(
        "--mode create_sample --sample-query shanty --instrumental --lm-temperature 0.2 --seed 3"
    )
    described = options.description
    assert (described.query, described.instrumental, described.vocal_language) == ("shanty", True, "unknown")
    assert (described.temperature, described.seed) == (0.2, 3)
    assert parsed("--mode create_sample").description.query
    rewritten = parsed("--mode format_sample").description
    assert rewritten.caption == parsed("").params.caption and rewritten.duration == 200


def test_words_and_plans_want_a_language_model_and_a_recording_does_not():
    assert all(parsed(f"--mode {mode}").wants_lm for mode in ("understand", "create_sample", "benchmark"))
    assert parsed("--thinking").wants_lm and parsed("--use-cot-metas --duration -1").wants_lm
    assert not parsed("--task-type cover --src-audio a.wav --thinking").wants_lm


@pytest.mark.parametrize("line", ["--use-cot-caption", "--use-cot-language", "--use-cot-metas"])
def test_a_chain_of_thought_that_does_not_run_loads_no_language_model(line):
    options = parsed(f"{TINY_CPU} {line}")  # the example names all metadata
    plan = resolver.resolve(options.params, options.config, prepare.setup(options))
    assert plan.setup.lm is None and components.LM not in plan.components
    assert any("no chain of thought runs" in warning for warning in prepare.warnings(options, plan))
    open_length = parsed(f"{TINY_CPU} {line} --use-cot-metas --duration -1")
    plan = resolver.resolve(open_length.params, open_length.config, prepare.setup(open_length))
    assert plan.setup.lm and components.LM in plan.components
    assert not any("no chain of thought runs" in warning for warning in prepare.warnings(open_length, plan))


def test_a_flag_wins_over_the_environment_over_the_file_over_the_example(tmp_path):
    (tmp_path / ".env").write_text("ACESTEP_DEVICE=cuda\nACESTEP_LM_MODEL_PATH=acestep-5Hz-lm-4B\n")
    environ = {"ACESTEP_LM_MODEL_PATH": "acestep-5Hz-lm-0.6B"}
    options = parsed("--batch-size 2", environ, tmp_path)
    assert (options.device, options.lm_model) == ("cuda", "acestep-5Hz-lm-0.6B")
    names = ("batch_size", "lm_model", "device", "duration", "lm_backend", "thinking", "offload_to_cpu")
    origins = ["flag", "env", ".env", "example", "default", "default", "tier"]
    assert [options.origins[name] for name in names] == origins
    assert parsed("--device cpu", environ, tmp_path).origins["device"] == "flag"


def test_the_header_says_what_runs_and_who_decided_it():
    options = parsed(f"{TINY_CPU} --thinking --no-warmup --lm-model acestep-5Hz-lm-4B")
    lines = prepare.header_lines(options, prepare.setup(options), "abc1234")
    facts = {line[:13].strip(): line[13:] for line in lines}
    assert facts["device"] == "cpu (flag)" and facts["source"] == "synthetic-tiny (flag)"
    assert (
        facts["LM"] == "acestep-5Hz-lm-4B (flag)"
        and facts["LM backend"] == "pt (auto by default): the one for cpu"
    )
    assert facts["DiT"] == "acestep-v15-turbo (default)" and facts["offload"] == "off (tier)"
    assert (facts["thinking"], facts["warm-up"], facts["commit"]) == ("on (flag)", "off (flag)", "abc1234")
    assert facts["CoT"] == "metas off (default), caption off (default), language off (default)"


def test_the_header_of_words_names_no_dit():
    options = parsed(f"{TINY_CPU} --mode understand")
    text = "\n".join(prepare.header_lines(options, prepare.setup(options), None))
    assert "acestep-5Hz-lm-1.7B (default)" in text and "DiT" not in text and "CoT" not in text
    assert "compile      off (tier)" in text and "graphs       off (tier)" in text  # the LM's, too


def test_a_tiers_own_choice_shows_beside_what_was_asked():
    options = parsed("--source synthetic-tiny --thinking --lm-model acestep-5Hz-lm-4B --duration 30")
    card = Accelerator("cuda", "RTX 4060", 7.66)
    setup = Setup.choose("synthetic-tiny", lm=options.lm_model, accelerator=card)
    text = "\n".join(prepare.header_lines(options, setup, None))
    assert "acestep-5Hz-lm-0.6B (acestep-5Hz-lm-4B by flag)" in text and "8 GB (RTX 4060), tier4" in text
    assert "commit       unknown" in text


def test_what_a_request_may_not_have_meant_is_a_warning():
    def warnings(line: str) -> str:
        options = parsed(f"{TINY_CPU} {line}")
        plan = resolver.resolve(options.params, options.config, prepare.setup(options))
        return "\n".join(prepare.warnings(options, plan))

    assert "--steps: 21" in warnings("--inference-steps 21") and warnings("--inference-steps 20") == ""
    assert warnings("--config-path acestep-v15-base --inference-steps 50") == ""
    assert "no chain of thought runs" in warnings("--use-cot-caption")
    of_lm = "--lm acestep-5Hz-lm-0.6B --lm-backend pt --llm-debug"
    line = "--lm, --lm-backend, --llm-debug: no language model runs, so nothing comes of it; add --thinking"
    assert warnings(of_lm) == line and not warnings(f"{of_lm} --thinking")
    assert not warnings("--lm-backend auto")
    cover = warnings("--lm-backend pt --task cover --src-audio examples/audio/loop.flac")
    assert cover.endswith("--lm-backend: no language model runs, so nothing comes of it")
    assert "guidance_scale" in warnings("--guidance-scale 7")
