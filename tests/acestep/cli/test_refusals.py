"""The command line's refusals: before torch is imported, each with its code, in one line."""

import json
import subprocess
import sys

import pytest

from acestep.__main__ import main

HEAVY = ("torch", "numpy", "tokenizers", "rich", "soundfile")


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
        ("generate", "--help"),
        ("generate", "--steps", "0"),
        ("generate", "--example", "absent.json"),
        ("generate", "--source", "no/such/folder"),
        ("generate", "--batch-size", "0"),
        ("generate", "--seed", "-2"),
    ],
)
def test_help_and_refusals_import_nothing_heavy(arguments: tuple[str, ...]):
    assert imports_of(*arguments) == set()


def test_the_control_imports_torch():
    assert "torch" in imports_of("write-checkpoint", "synthetic-tiny", "/dev/null/nowhere")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--",), "COMMAND"),
        (("sing",), "invalid choice"),
        (("generate", "--lm", "gpt"), "--lm"),
        (("generate", "--steps", "eight"), "--steps"),
        (("generate", "--task", "karaoke"), "--task"),
        (("codes",), "audio"),
        (("generate", "--place", ""), "--place: is empty"),
        (("codes", "a.wav", "b\nc"), "unrecognized arguments: b c"),
    ],
)
def test_flags_that_are_none_are_refused_in_one_line(arguments: tuple[str, ...], words: str, capsys):
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("acestep: ") and words in said
    assert said.endswith("; see --help\n") and said[:-1].isprintable()


LONG = "x" * 300
ODD = "a\nb\x1b[2J"
REFUSED = {
    ("generate", "--steps", "0"): (2, "--steps: 0"),
    ("generate", "--steps", "9" * 400): (2, "--steps: 9999"),
    ("generate", "--duration", "nan"): (2, "--duration: 'nan' is not allowed; use a number"),
    ("generate", "--duration", "1e400"): (2, "--duration: '1e400' is not allowed; use a number"),
    ("generate", "--duration", "8_0"): (2, "--duration: '8_0' is not allowed; use a number"),
    ("generate", "--steps", "٨"): (2, "--steps: '٨' is not allowed; use a whole number"),
    ("generate", "--seed", "9" * 5000): (2, "--seed: '9999"),
    ("generate", "--threads", "0"): (2, "--threads: 0"),
    ("generate", "--threads", "1000000"): (2, "--threads: 1000000"),
    ("generate", "--batch-size", "1000000000"): (2, "--batch-size: 1000000000"),
    ("generate", "--seed", "-2"): (2, "--seed: -2"),
    ("generate", "--device", "tpu"): (2, "--device: 'tpu'"),
    ("generate", "--dit", "../base"): (2, "'../base'"),
    ("generate", "--source", "no/such/folder"): (3, "synthetic-tiny"),
    ("generate", "--source", ODD): (3, "no folder"),
    ("generate", "--source", LONG): (3, "no folder"),
    ("generate", "--example", "absent.json"): (3, "example_05.json"),
    ("generate", "--example", ODD): (3, "no such file"),
    ("generate", "--example", LONG): (3, "no such file"),
    ("generate", "--example", ""): (2, "is empty; give it a name, or drop it"),
    ("generate", "--example", "/dev/zero"): (2, "characters are too many"),
    ("generate", "--task", "cover"): (2, "--src-audio: cover works on a recording"),
    ("generate", "--task", "repaint", "--src-audio", "absent.wav"): (
        3,
        "--src-audio: no file at 'absent.wav'",
    ),
    ("generate", "--task", "lego", "--src-audio", "README.md"): (3, "is no audio, or damaged"),
    ("generate", "--src-audio", "examples/audio/loop.flac"): (2, "--src-audio: text2music has no source"),
    ("generate", "--caption", "x", "--reference-audio", "absent.wav"): (3, "--reference-audio: no file"),
    ("generate", "--codes", "17"): (2, "--codes: '17' at position 0 is no code"),
    ("generate", "--codes", "@absent.codes"): (3, "--codes: '@absent.codes': cannot be read: No such file"),
    ("generate", "--codes", "@"): (3, "Is a directory"),
    ("generate", "--lyrics", "@/dev/zero"): (2, "characters are too many"),
    ("generate", "--lyrics", "@examples/audio/loop.flac"): (3, "cannot be read as text"),
    ("generate", "--caption", ODD): (2, "--caption: control character U+001B at position 3"),
    ("generate", "--caption", "\udcff"): (2, "--caption: not valid Unicode"),
    ("generate", "--set", "bpm"): (2, "--set: 'bpm' has no value; use NAME=VALUE"),
    ("generate", "--set", f"{LONG}=1"): (2, "unknown field"),
    ("generate", "--set", "dcw_enbled=true"): (2, "unknown field 'dcw_enbled' (did you mean dcw_enabled?)"),
    ("generate", "--set", "sampler_mode=rk4"): (
        2,
        "--set sampler_mode: 'rk4' is not allowed; use \"heun\" or",
    ),
    ("generate", "--set", "mp3_bitrate=129k"): (
        2,
        "--set mp3_bitrate: '129k' is not allowed; use one of 128k",
    ),
    ("generate", "--set", "seed=x"): (2, "--set seed: 'x'"),
    ("generate", "--set", "seeds=3, x"): (2, "--set seeds: '3, x'"),
    ("generate", "--set", "seeds=3, 9"): (2, "--set seeds: 2 given for batch_size 1"),
    ("generate", "--set", "preset=0"): (2, "--set preset: 0 is not allowed"),
    ("generate", "--set", "eta=1", "--strict"): (2, "--set eta: 1 has no counterpart here; leave it out"),
    ("generate", "--set", "bpm=300.5"): (2, "--set bpm: 300.5 is not allowed; use a whole number"),
    ("generate", "--set", "bpm=" + "9" * 5000): (2, "--set bpm: '9999"),
    ("generate", "--set", "timesteps=" + "[" * 10**5): (2, "--set timesteps: '[[["),
    ("generate", "--set", "thinking=yes"): (2, "--set thinking: 'yes' is not allowed; use true or false"),
    ("generate", "--set", "keyscale=H major"): (2, "--set keyscale: 'H major'"),
    ("generate", "--set", "lm_top_p=NaN"): (2, "--set lm_top_p: nan"),
    ("generate", "--set", "language=tlh"): (2, "--set language: 'tlh'"),
    ("create", "--set", "lm_temperature=9"): (2, "--set lm_temperature: 9 is"),
    ("generate", "--set", "task_type=karaoke"): (2, "--set task_type: 'karaoke'"),
    ("generate", "--lm", "none", "--thinking", "--example", "example_01.json"): (3, "no language model"),
    ("generate", "--out", "/dev/null/x"): (3, "--out: '/dev/null/x': cannot write audio"),
    ("understand", "--codes", "<|audio_code_-1|>"): (2, "--codes: '<|audio_code_-1|>' at position 0"),
    ("understand", "--codes", "<|audio_code_64000|>", "--strict"): (2, "--codes: 64000 is beyond"),
    ("understand", "--codes", "<|audio_code_1|>", "--audio", "a.wav"): (2, "--codes: given together"),
    ("understand", "--audio", "absent.wav"): (3, "--audio: no file"),
    ("understand", "--audio", "/dev/zero"): (3, "--audio: no file"),
    ("understand", "--lm", "none"): (3, "--lm: no language model"),
    ("create", "x" * 5000): (2, "query: 5,000 characters are too many"),
    ("create", "a song", "--lm", "none"): (3, "--lm: no language model"),
    ("create", "--language", "zh-cn"): (2, "--language: 'zh-cn' is not allowed; use one of ar, az"),
    ("create", "a song", "--language", "tlh"): (2, "--language: 'tlh'"),
    ("create", "a song", "--max-tokens", "0"): (2, "--max-tokens: 0"),
    ("create", "a song", "--seed", "4294967296"): (2, "use a whole number from 0 to 4294967295"),
    ("create", "--example", "examples/text2music/example_01.json"): (2, "unknown field 'think'"),
    ("format", "--lyrics", "@absent.txt"): (3, "--lyrics: '@absent.txt': cannot be read"),
    ("format", "--set", "duration=9"): (
        2,
        "--set duration: 9 is not allowed; use a whole number from 10 to 600",
    ),
    ("codes", "absent.wav"): (3, "acestep: audio: no file"),
    ("codes", "examples"): (3, "acestep: audio: no file"),
    ("codes", "README.md"): (3, "is no audio, or damaged"),
    ("write-checkpoint", "synthetic-tiny", "out", "--seed", "9" * 30): (2, "--seed: 9999"),
}


@pytest.fixture(scope="module")
def refusals() -> dict[tuple[str, ...], tuple[int, str, bool]]:
    """Exit code, standard error and whether torch was imported, of every command in one process."""
    code = (
        "import contextlib, io, json, sys\nfrom acestep.__main__ import main\n"
        "for arguments in json.load(sys.stdin):\n"
        "    with contextlib.redirect_stderr(io.StringIO()) as said:\n"
        "        code = main(arguments)\n"
        "    print(json.dumps([code, said.getvalue(), 'torch' in sys.modules]))"
    )
    commands = json.dumps([*REFUSED])
    done = subprocess.run([sys.executable, "-c", code], input=commands, capture_output=True, text=True)
    told = [tuple(json.loads(line)) for line in done.stdout.splitlines()]
    assert len(told) == len(REFUSED), done.stderr
    return dict(zip(REFUSED, told, strict=True))


@pytest.mark.parametrize("arguments", REFUSED, ids=lambda words: ascii(" ".join(words))[1:60])
def test_mistakes_get_one_line_and_their_code_before_torch(refusals, arguments: tuple[str, ...]):
    code, words = REFUSED[arguments]
    returned, said, torch_was_imported = refusals[arguments]
    assert returned == code and words in said
    assert said.startswith("acestep: ") and said.endswith("\n") and said[:-1].isprintable()
    assert not torch_was_imported
