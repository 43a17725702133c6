"""The command line: what its commands answer and keep, and outputs that are closed or full."""

import dataclasses
import io
import json
import os
import subprocess
import sys
import unicodedata

import pytest
import soundfile
import torch
from full_disk import REASON, room

from acestep import resolver
from acestep.__main__ import main
from acestep.cli import commands
from acestep.cli.examples import load_description
from acestep.lm.backends.finite import NOT_FINITE
from acestep.request import DescriptionParams, GenerationParams
from acestep.text import audio_codes
from acestep.weights.layout import DEFAULT_DIT
from harness.nn.qwen3 import Qwen3


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "acestep", *arguments], capture_output=True, text=True)


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


def test_a_bug_is_not_a_run_that_failed(monkeypatch, capsys):
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")  # main sets it, and this process goes on
    monkeypatch.setattr(commands, "generate", lambda _: 1 // 0)
    assert main(["generate"]) == 4
    assert capsys.readouterr().err.startswith("Traceback")


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    done = run(
        "generate", "--duration", "2", "--source", "synthetic-tiny", "--out", str(tmp_path / "file" / "x")
    )
    assert done.returncode == 3 and "cannot write audio" in done.stderr and "Traceback" not in done.stderr


# Answers. The engine of these commands is loaded once for all of them.


@pytest.fixture
def resolved(monkeypatch: pytest.MonkeyPatch) -> list:
    """Every plan that is resolved while the test runs."""
    plans, resolve = [], resolver.resolve
    monkeypatch.setattr(resolver, "resolve", lambda *request: plans.append(resolve(*request)) or plans[-1])
    return plans


def test_a_simulated_card_limits_the_request_and_says_so(say, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MAX_CUDA_VRAM", "4")
    options = ("--duration", "200", "--batch-size", "2", "--lm", "none", "--no-thinking", "--steps", "1")
    assert main(("generate", *options, "--source", "synthetic-tiny", "--out", str(tmp_path))) == 0
    out, err = capsys.readouterr()
    assert "tier1" in err and "using 180" in err and "using 1" in err
    assert "1 x 180 s" in out


SMALL = ("--set", "max_caption_tokens=4", "--max-tokens", "8")
CODES = "<|audio_code_17|><|audio_code_4|>"
ANSWERS = {
    ("generate", "--caption", "夜", "--duration", "5.2", "--steps", "1"): "audios",
    ("generate", "--task", "cover", "--codes", CODES, "--set", "bpm=90", "--steps", "1"): "audios",
    ("generate", "--dry-run"): "times",
    ("codes", "examples/audio/loop.flac"): "audio_codes",
    ("understand", "--codes", CODES, *SMALL): "genres",
    ("understand", "--audio", "examples/audio/voice.ogg", *SMALL): "genres",
    ("create", "a sea shanty 夜", *SMALL): "lyrics",
    ("create", "--example", "examples/text/create.json", *SMALL): "lyrics",
    ("format", "--caption", "techno", "--lyrics", "[Verse]\nLa", *SMALL): "lyrics",
}


@pytest.mark.parametrize("arguments", ANSWERS, ids=" ".join)
def test_a_record_is_one_line_of_json(say, tmp_path, arguments: tuple[str, ...]):
    out = ("--out", str(tmp_path)) if arguments[0] == "generate" else ()
    said = say(*arguments, *out, "--json")
    assert said.count("\n") == 1 and said.isascii()
    assert ANSWERS[arguments] in json.loads(said, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))


@pytest.mark.parametrize("arguments", ANSWERS, ids=" ".join)
def test_words_on_a_terminal_give_it_no_orders(say, tmp_path, arguments: tuple[str, ...]):
    out = ("--out", str(tmp_path)) if arguments[0] == "generate" else ()
    said = say(*arguments, *out)
    assert {c for c in said if unicodedata.category(c) == "Cc"} <= {"\n", "\t"}


def test_what_a_model_writes_is_shown_without_its_control_characters(say, engine, monkeypatch):
    made = engine.create(DescriptionParams(max_caption_tokens=4, max_lyrics_tokens=4))
    song = "la la la\n" * 1_000
    rude = dataclasses.replace(made, lyrics=f"{song}la\x1b[2J\x9b2J\nla\tla", caption="a\x07\u202egnp.exe")
    monkeypatch.setattr(type(engine), "create", lambda *_: rude)
    said = say("create", "x")
    assert f"{song}la\\x1b[2J\\x9b2J\nla\tla\n" in said and "caption       a\\x07\\u202egnp.exe\n" in said


def test_no_name_of_a_file_gives_orders_to_a_terminal(say, tmp_path):
    folder = tmp_path / "a\x1b[2J\u202egnp.exe"
    said = say("generate", "--caption", "x", "--duration", "5.2", "--steps", "1", "--out", str(folder))
    said += say("write-checkpoint", "synthetic-tiny", str(folder))
    assert said.count(r"a\x1b[2J\u202egnp.exe") == 5 and said.replace("\n", "").isprintable()


@pytest.mark.parametrize("room_bytes", [0, 10_000, 100_000])
def test_a_checkpoint_without_room_is_one_line_that_names_the_file(tmp_path, capsys, room_bytes):
    with room(room_bytes):
        assert main(["write-checkpoint", "synthetic-tiny", str(tmp_path)]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    file = "config.json" if not room_bytes else "model.safetensors"
    told = f"folder: '{tmp_path}/{DEFAULT_DIT}/{file}': cannot write the checkpoint: {REASON}"
    assert last == f"acestep: {told}"


@pytest.mark.parametrize(
    ("arguments", "requests"),
    {
        ("generate", "--caption", "x", "--duration", "5.2", "--steps", "1"): 1,
        ("generate", "--dry-run"): 1,
        ("codes", "examples/audio/loop.flac"): 1,
        ("understand", "--audio", "examples/audio/voice.ogg", *SMALL): 1,  # its recording
        ("understand", "--codes", CODES, *SMALL): 0,
    }.items(),
)
def test_a_request_is_resolved_once_and_run_as_it_was_shown(say, resolved, tmp_path, arguments, requests):
    out = ("--out", str(tmp_path), "--json") if arguments[:2] == ("generate", "--caption") else ()
    said = say(*arguments, *out)
    assert len(resolved) == requests
    if out:
        assert json.loads(said)["plan"] == json.loads(json.dumps(resolved[0].as_dict()))


def test_a_request_given_to_the_engine_is_resolved_there(engine, resolved):
    engine.plan(GenerationParams(duration=5, thinking=True))
    assert len(resolved) == 1


def test_codes_of_a_recording_are_codes_to_understand(say, tmp_path):
    said = say("codes", "examples/audio/loop.flac")
    assert said.count("\n") == 1 and len(audio_codes.parse(said)) == 40
    (tmp_path / "song.codes").write_text(said)
    assert json.loads(say("understand", "--codes", f"@{tmp_path}/song.codes", *SMALL, "--json"))["bpm"]
    (tmp_path / "song.json").write_text(say("codes", "examples/audio/loop.flac", "--json"))
    assert load_description(tmp_path / "song.json") == DescriptionParams(audio_codes=said.strip())


def test_lyrics_that_were_cut_are_told(say, engine, monkeypatch):
    told = "lyrics  end at the limit of tokens, which --max-tokens raises\n"
    assert told in say("create", "x", *SMALL)
    whole = dataclasses.replace(engine.create(DescriptionParams(max_lyrics_tokens=4)), truncated=False)
    monkeypatch.setattr(type(engine), "create", lambda *_: whole)
    assert told not in say("create", "x")


def test_what_is_left_out_of_a_long_recording_is_said(say, engine, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(type(engine), "encode", lambda *_: CODES)
    monkeypatch.setenv("MAX_CUDA_VRAM", "4")
    song = str(tmp_path / "song.wav")
    soundfile.write(song, [0.1, -0.1] * 100_000, 1_000)
    warned = "duration: 200 is over the limit of 4 GB (GTX 1650) {} LM"
    assert main(["codes", song]) == 0
    assert capsys.readouterr().err.startswith(f"acestep: warning: {warned.format('without')}; using 180")
    assert main(["codes", song, "--strict"]) == 2
    assert capsys.readouterr().err.startswith(f"acestep: {warned.format('without')}; ask for 180 (strict)")
    assert main(["codes", song, "--no-limits"]) == 0
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("MAX_CUDA_VRAM", "6.5")
    soundfile.write(song, [0.1, -0.1] * 150_000, 1_000)
    assert main(["understand", "--audio", song, *SMALL]) == 0
    assert "300 is over the limit of 6.5 GB " in capsys.readouterr().err


def test_what_a_recording_is_not_heard_as_is_said_before_and_after(say, tmp_path, capsys):
    song = str(tmp_path / "loud.wav")
    soundfile.write(song, [4.0, -4.0] * 50_000, 48_000, subtype="FLOAT")
    cover, words = (
        ("generate", "--task", "cover", "--src-audio", song),
        "loud.wav peaks 12.0 dB over full scale",
    )
    assert words in say(*cover, "--dry-run")
    assert main([*cover, "--dry-run", "--strict"]) == 2
    assert capsys.readouterr().err.strip().endswith("; turn it down (strict)")
    assert main([*cover, "--set", "inference_steps=1", "--out", str(tmp_path)]) == 0
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("buffered", [True, False])
@pytest.mark.parametrize("arguments", [("generate", "--dry-run"), ("generate", "--dry-run", "--json")])
def test_a_reader_that_left_is_no_error(arguments: tuple[str, ...], buffered: bool):
    reader, writer = os.pipe()
    os.close(reader)
    environment = os.environ | {"PYTHONUNBUFFERED": "" if buffered else "1"}
    command = [sys.executable, "-m", "acestep", *arguments]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, env=environment)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no full device here")  # noqa: PTH110
@pytest.mark.parametrize("buffered", [True, False])
def test_output_that_cannot_be_written_is_one_line(buffered: bool):
    environment = os.environ | {"PYTHONUNBUFFERED": "" if buffered else "1"}
    command = [sys.executable, "-m", "acestep", "generate", "--dry-run"]
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=environment)
    assert (done.returncode, done.stderr) == (1, "acestep: [Errno 28] No space left on device\n")


def test_no_output_at_all_is_no_error():
    done = subprocess.run(
        ["sh", "-c", '"$0" -m acestep generate --dry-run >&-', sys.executable], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_no_output_at_all_is_no_place_for_a_stream():
    command = ["sh", "-c", '"$0" -m acestep generate --stream - >&-', sys.executable]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and "standard output is no place for audio" in done.stderr


def test_a_terminal_without_a_letter_gets_its_number(say, tmp_path, monkeypatch):
    shown = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(sys, "stdout", shown)
    short = ("--caption", "x", "--duration", "5.2", "--steps", "1", "--source", "synthetic-tiny")
    assert main(("generate", *short, "--out", str(tmp_path / "夜"))) == 0
    assert b"\\u591c/seed-42.wav" in shown.buffer.getvalue()


def test_ctrl_c_leaves_no_part_of_a_file(say, tmp_path, monkeypatch, capsys):
    write = soundfile.write

    def interrupted(*arguments, **options):
        write(*arguments, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(soundfile, "write", interrupted)
    short = ("--caption", "x", "--duration", "5.2", "--steps", "1")
    assert main(["generate", *short, "--out", str(tmp_path / "new")]) == 130
    assert capsys.readouterr().err == "acestep: interrupted\n"
    assert not list((tmp_path / "new").iterdir())


def test_a_language_model_that_overflows_is_one_line_and_no_file(loaded, tmp_path, monkeypatch, capsys):
    extend = Qwen3.extend
    monkeypatch.setattr(Qwen3, "extend", lambda self, *args: extend(self, *args) * torch.nan)
    short = ("--caption", "x", "--duration", "10", "--thinking", "--steps", "1", "--source", "synthetic-tiny")
    assert main(["generate", *short, "--out", str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"acestep: {NOT_FINITE}\n"
    assert not list(tmp_path.iterdir())
