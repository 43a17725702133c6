"""A dry run: the request that flags, settings and files come to, and who is named where it cannot be."""

import json

import pytest

from acestep.__main__ import main


def plan(say, *arguments: str) -> dict:
    return json.loads(say("generate", "--dry-run", "--json", *arguments))


def test_a_dry_run_says_what_would_run(say):
    cover = ("--task", "cover", "--src-audio", "examples/audio/loop.flac", "--offload", "--no-offload-dit")
    planned = plan(say, *cover, "--set", "infer_method=sde", "--set", "timesteps=[1.0, 0.5]")
    assert (planned["task_type"], planned["source_s"], planned["steps"]) == ("cover", 8.0, 2)
    assert planned["offload_to_cpu"] and not planned["offload_dit_to_cpu"]
    assert planned["infer_method"] == "sde"


def test_a_dry_run_names_the_components_that_would_be_loaded(say):
    always = ["dit", "condition", "vae", "text_encoder"]
    metadata = ("--set", "bpm=90", "--set", "keyscale=A minor", "--set", "timesignature=4")
    plain = ("--caption", "x", "--duration", "5", *metadata)
    assert plan(say, *plain)["components"] == always
    assert plan(say, *plain, "--thinking")["components"] == [*always, "detokenizer", "lm"]
    recording = ("--src-audio", "examples/audio/loop.flac")
    assert plan(say, "--task", "repaint", *recording)["components"] == [*always, "vae_encoder"]
    covered = plan(say, "--task", "cover", *recording)["components"]
    assert covered == [*always, "vae_encoder", "tokenizer", "detokenizer"]


def test_text_that_reads_as_a_number_is_still_text(say):
    assert plan(say, "--set", "timesignature=4", "--set", "caption=1984", "--set", "bpm=90")["steps"] == 8


SETTINGS = (
    ("use_adg", True),
    ("sampler_mode", "heun"),
    ("duration", -1),
    ("seed", 7),
    ("seed", -1),
    ("inferMethod", "sde"),
    ("mp3_bitrate", "320k"),
    ("batch_size", 2),
    ("retake_seed", -1),
    ("cot_caption", True),
    ("momentum", 0.2),
)


@pytest.mark.parametrize(("name", "value"), SETTINGS)
def test_a_setting_means_what_it_means_in_a_file(say, tmp_path, name: str, value: object):
    """Of a request beyond the defaults, so that one that is left out would show."""
    beside = {"caption": "a waltz", "audio_format": "mp3", "retake_variance": 0.5} | {name: None}
    path, base = tmp_path / "request.json", {key: each for key, each in beside.items() if each is not None}
    path.write_text(json.dumps(base | {name: value}))
    in_file = plan(say, "--dit", "acestep-v15-base", "--set", "duration=-1", "--example", str(path))
    path.write_text(json.dumps(base))
    typed = (
        "--set",
        "duration=-1",
        "--set",
        f"{name}={value if isinstance(value, str) else json.dumps(value)}",
    )
    assert plan(say, "--dit", "acestep-v15-base", *typed, "--example", str(path)) == in_file
    assert in_file != plan(say, "--dit", "acestep-v15-base", "--example", str(path))


def test_a_file_names_its_preset_and_a_flag_another(say, tmp_path, capsys):
    path = tmp_path / "request.json"
    path.write_text('{"caption": "a waltz", "preset": "upstream"}')
    named = plan(say, "--example", str(path))
    for typed in (("--preset", "upstream"), ("--set", "preset=upstream")):
        assert named == plan(say, "--caption", "a waltz", *typed)
    assert plan(say, "--example", str(path), "--preset", "fixed")["preset"] == "fixed"
    path.write_text('{"caption": "a waltz", "preset": "mine"}')
    assert main(["generate", "--dry-run", "--example", str(path)]) == 2
    assert "preset: 'mine' is not allowed; use one of fixed, upstream, guide" in capsys.readouterr().err


def test_examples_are_found_from_any_folder_and_a_file_that_is_there_comes_first(say, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert plan(say)["duration_s"] == plan(say, "--example", "example_05.json")["duration_s"] == 200
    (tmp_path / "example_05.json").write_text('{"caption": "mine", "duration": 7}')
    assert plan(say, "--example", "example_05.json")["duration_s"] == 7
    assert plan(say, "--example", str(tmp_path / "example_05.json"))["duration_s"] == 7


def test_an_empty_caption_is_a_request_and_no_example(say):
    assert plan(say, "--caption", "", "--duration", "7")["duration_s"] == 7
    assert plan(say, "--caption", "")["duration_s"] is None  # where the example says 200


def test_strict_refuses_what_a_card_limits_and_no_limits_does_not(say, monkeypatch, capsys):
    monkeypatch.setenv("MAX_CUDA_VRAM", "4")
    long = ("--example", "example_05.json", "--no-thinking")
    assert plan(say, *long)["adjustments"][0]["requested"] == 200
    assert main(["generate", "--dry-run", *long, "--strict"]) == 2
    assert "example_05.json': duration: 200 is over the limit of 4 GB (GTX 1650)" in capsys.readouterr().err
    assert main(["generate", "--dry-run", *long, "--duration", "190", "--strict"]) == 2
    assert capsys.readouterr().err.startswith("acestep: --duration: 190 is over the limit of 4 GB (GTX 1650)")
    assert plan(say, *long, "--strict", "--no-limits")["duration_s"] == 200


def test_a_language_model_that_is_named_and_has_nothing_to_plan_is_told(say, capsys):
    named = ("--lm", "acestep-5Hz-lm-4B", "--lm-backend", "pt")
    assert not plan(say, *named, "--thinking")["adjustments"]
    adjustments = plan(say, *named, "--no-thinking")["adjustments"]
    assert [(each["field"], each["reason"]) for each in adjustments] == [
        ("lm", "has nothing to plan"),
        ("lm_backend", "has nothing to plan"),
    ]
    assert main(["generate", "--dry-run", *named, "--no-thinking", "--strict"]) == 2
    refusal = "acestep: --lm: acestep-5Hz-lm-4B has nothing to plan; leave it out (strict)\n"
    assert capsys.readouterr().err == refusal


def test_what_an_example_chose_is_said_of_the_example(tmp_path, capsys):
    path = tmp_path / "cover.json"
    path.write_text('{"task_type": "cover", "src_audio": "absent.wav"}')
    command = ["generate", "--source", "synthetic-tiny", "--dry-run", "--example", str(path)]
    assert main(command) == 3
    assert capsys.readouterr().err.startswith(f"acestep: example '{path}': src_audio: no file at '{tmp_path}")
    assert main([*command, "--src-audio", "other.wav"]) == 3
    assert capsys.readouterr().err.startswith("acestep: --src-audio: no file at 'other.wav'")
    assert main([*command, "--set", "src_audio=third.wav"]) == 3
    assert capsys.readouterr().err.startswith("acestep: --set src_audio: no file at 'third.wav'")
    assert main([*command, "--task", "text2music"]) == 2
    assert capsys.readouterr().err.startswith(f"acestep: example '{path}': src_audio: text2music has no")


@pytest.mark.parametrize(
    ("flag", "setting"),
    [
        (("--caption", "a waltz"), "prompt=a polka"),
        (("--steps", "4"), "inferenceSteps=4"),
        (("--seed", "3"), "seed=4"),
        (("--preset", "fixed"), "preset=guide"),
    ],
)
def test_what_a_flag_says_no_setting_says_again(flag: tuple[str, ...], setting: str, capsys):
    assert main(["generate", "--dry-run", *flag, "--set", setting]) == 2
    word = setting.partition("=")[0]
    refusal = f"acestep: --set {word}: given by a flag and by --set; keep one of them\n"
    assert capsys.readouterr().err == refusal


def test_seeds_of_a_setting_are_not_taken_for_the_seed_of_a_flag(capsys):
    two = ("generate", "--dry-run", "--caption", "x", "--batch-size", "2")
    assert main([*two, "--seed", "3", "--set", "seeds=[1, 2]"]) == 2
    assert capsys.readouterr().err == "acestep: --set seeds: given together with --seed; use one of them\n"
    for one, seeds in (("--seed", "3"), "3, 4"), (("--set", "seeds=[1, 2]"), "1, 2"):
        assert main([*two, *one]) == 0
        assert f"seeds={seeds}" in capsys.readouterr().out
