"""Example requests: those that ship with the repository, and what a file may not be."""

import hashlib
import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from places import EXAMPLES

from acestep import __main__ as acestep
from acestep.cli.examples import INPUTS, MUSIC, load_description, load_example, music_example, overlaid
from acestep.cli.upstream import LeftOut
from acestep.costs import __main__ as costs
from acestep.costs import command
from acestep.defaults import DEFAULT_EXAMPLE, DEFAULT_SEED
from acestep.fields import DEFAULTS
from acestep.profiler import command as profiler
from acestep.profiler import options
from acestep.request import DescriptionParams
from harness.adjustments import Adjustments
from harness.errors import MissingPrerequisite, UsageError
from harness.subject import item_seeds

REQUESTS = sorted((EXAMPLES / "text2music").glob("*.json"))
LENGTHS_S = {"short": 10, "medium": 60, "long": 240}  # of the reference inputs


def test_numbered_without_a_gap():
    assert [p.name for p in REQUESTS] == [f"example_{n:02d}.json" for n in range(1, len(REQUESTS) + 1)]
    assert len(REQUESTS) >= 8


@pytest.mark.parametrize(
    "path", [*REQUESTS, *(INPUTS / f"{name}.json" for name in LENGTHS_S)], ids=lambda p: p.stem
)
def test_an_example_is_a_complete_request(path):
    params, config = load_example(path)
    assert params.caption and params.lyrics
    assert params.metadata_complete
    assert config.seeds is not None


def test_the_reference_inputs_are_those_of_their_hashes_by_name_from_anywhere(monkeypatch, tmp_path):
    """`sha256sum --check` reads the file, too. A changed input is another: give it another name."""
    monkeypatch.chdir(tmp_path)
    hashes = dict(line.split()[::-1] for line in (INPUTS / "SHA256SUMS").read_text().splitlines())
    assert (
        hashes.keys()
        == {path.name for path in INPUTS.glob("*.json")}
        == {f"{name}.json" for name in LENGTHS_S}
    )
    for name, length_s in LENGTHS_S.items():
        path = music_example(name)
        assert hashlib.sha256(path.read_bytes()).hexdigest() == hashes[path.name]
        params, config = load_example(path)
        assert (params.duration, config.batch_size, params.thinking) == (length_s, 1, False)
        assert options.parse(["--example", name], {}).params == replace(params, use_cot_metas=False)
    (tmp_path / "short").write_text("{}")  # a file of that name is meant before ours
    assert music_example("short") == Path("short")


def test_they_differ_in_language_length_and_planning():
    requests = [load_example(path)[0] for path in REQUESTS]
    languages = {r.vocal_language for r in requests}
    assert {"ja", "en", "it", "es", "zh", "de", "unknown"} <= languages
    assert {r.thinking for r in requests} == {True, False}
    assert min(r.duration for r in requests) == 10
    assert max(r.duration for r in requests) == 240
    assert any(r.lyrics == "[Instrumental]" for r in requests)


def test_every_command_asks_the_same_place(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    params, config = load_example(MUSIC / DEFAULT_EXAMPLE)
    assert (
        load_example(music_example(None)) == load_example(music_example(DEFAULT_EXAMPLE)) == (params, config)
    )
    profiled = options.parse(["--thinking"], {})
    assert profiled.params == replace(params, use_cot_metas=False)
    assert profiled.config == replace(config, preset="guide")
    planned, *_ = command._request(costs.arguments().parse_args(["--thinking"]))
    assert planned == params
    assert item_seeds(DEFAULT_SEED, 1) == config.seeds and DescriptionParams().seed == DEFAULT_SEED


@pytest.mark.parametrize(
    ("fields", "refusal"),
    [
        ({"guidance_scale": 5}, "guidance_scale: 5 has no place in a turbo model"),
        ({"track_name": "drums"}, "track_name: drums has no use in text2music"),
        ({"duration": 12.5, "cfgIntervalEnd": 0.5}, "cfg_interval_end: 0.5 has no use in a turbo model"),
        ({"momentum": 0.5}, "momentum: 0.5 has no counterpart here"),
        ({"fadeOutDuration": 31}, "fade_out_duration: 31 is longer than the audio; ask for 30 (strict)"),
        ({"strange": 1}, "unknown field 'strange'"),
    ],
)
def test_a_file_is_refused_in_the_same_words_by_every_command(fields, refusal, tmp_path, capsys):
    path = tmp_path / "request.json"
    path.write_text(json.dumps({"caption": "a waltz"} | fields))
    refusals = []
    for main in (
        partial(acestep.main, ["generate", "--dry-run", "--strict", "--example", str(path)]),
        partial(costs.main, ["--strict", "--example", str(path)]),
        partial(profiler.main, ["--dry-run", "--strict", "--example", str(path)], tier_test=lambda _: 0),
    ):
        assert main() == 2
        refusals.append(capsys.readouterr().err.partition(": ")[2])
    assert refusals == [refusals[0]] * 3
    assert refusals[0].startswith(f"example {str(path)!r}: {refusal}")


@pytest.mark.parametrize(
    ("fields", "flags", "gone"),
    [
        ({"thinking": True}, {"task_type": "cover", "src_audio": "a.wav"}, "duration, thinking"),
        ({"duration": 12, "lm_top_k": 9}, {"audio_codes": "<|audio_code_1|>"}, "duration"),
        (
            {"task_type": "lego", "src_audio": "b.wav", "track_name": "drums"},
            {"task_type": "cover"},
            "track_name",
        ),
        ({"thinking": True}, {"duration": 9.0}, ""),
        ({"task_type": "cover", "src_audio": "b.wav", "duration": 9}, {"inference_steps": 4}, ""),
    ],
)
def test_what_an_example_has_for_its_own_task_gives_way_to_flags_and_is_noted(fields, flags, gone, tmp_path):
    """It is no error of a strict request: the flags did not ask for it."""
    path = tmp_path / "request.json"
    path.write_text(json.dumps(fields))
    params, _ = load_example(path)
    left_out = LeftOut(Adjustments(strict=True))
    expected = {name: DEFAULTS[name] for name in gone.split(", ") if name}
    assert overlaid(params, flags, left_out) == replace(params, **expected | flags)
    assert [note.partition(":")[0] for note in left_out.notes] == [gone] * bool(gone)


def test_example_05_is_the_long_one():
    data = json.loads(REQUESTS[4].read_text(encoding="utf-8"))
    facts = {k: v for k, v in data.items() if k not in ("caption", "lyrics")}
    assert facts == {
        "think": True,
        "bpm": 100,
        "duration": 200,
        "keyscale": "E♭ minor",
        "language": "ja",
        "timesignature": "4",
    }
    assert 500 <= len(data["caption"]) <= 700
    assert 1300 <= len(data["lyrics"]) <= 1700


BAD_FILES = {
    "": (MissingPrerequisite, "not JSON: Expecting value: line 1 column 1"),
    "{": (MissingPrerequisite, "not JSON: Expecting property name"),
    '{"bpm": 100}{}': (MissingPrerequisite, "not JSON: Extra data"),
    "[]": (UsageError, "the top level is a list, not an object"),
    '"caption"': (UsageError, "the top level is a str"),
    "null": (UsageError, "the top level is a NoneType"),
    "[" * 100_000: (MissingPrerequisite, "not JSON"),
    '{"bpm": ' + "[" * 900 + "]" * 900 + "}": (UsageError, "bpm: "),
    '{"reference_audio": ' + "[" * 900 + "]" * 900 + "}": (UsageError, "reference_audio: "),
    '{"bpm": ' + "9" * 5000 + "}": (MissingPrerequisite, "not JSON: Exceeds the limit"),
    '{"bpm": ' + "9" * 4000 + "}": (UsageError, "bpm: 9999"),
    '{"duration": 1e400}': (UsageError, "duration: inf is not allowed"),
    '{"duration": -Infinity}': (UsageError, "duration: -inf"),
    '{"shift": NaN}': (UsageError, "shift: nan"),
    '{"bpm": 3}': (UsageError, "bpm: 3 is not allowed; use a whole number from 30 to 300"),
    '{"bpm": 100, "bpm": 90}': (UsageError, "field 'bpm' is given twice"),
    '{"think": true, "thinking": false}': (UsageError, "field 'thinking' is given twice"),
    '{"tempo": 3}': (UsageError, "unknown field 'tempo'; allowed: caption, lyrics, duration"),
    '{"' + "x" * 10_000 + '": 3}': (UsageError, "unknown field 'xxxx"),
    '{"a\\nb": 3}': (UsageError, r"unknown field 'a\nb'"),
    '{"caption": ["slow", "dub"]}': (UsageError, "caption: ['slow', 'dub'] is not text"),
    '{"lyrics": 7}': (UsageError, "lyrics: 7 is not text"),
    '{"caption": "\\u001b[2J"}': (UsageError, "control character U+001B"),
    '{"caption": "\\ud800"}': (UsageError, "not valid Unicode"),
    '{"caption": "' + "x" * 2**20 + '"}': (UsageError, "characters are too many"),
    '{"src_audio": {"path": "a"}}': (UsageError, "src_audio: {'path': 'a'}"),
    '{"task_type": "cover", "src_audio": ""}': (UsageError, "src_audio: cover works on a recording"),
    '{"reference_audio": [1]}': (UsageError, "reference_audio: 1"),
    '{"batch_size": "2"}': (UsageError, "batch_size: '2'"),
    '{"batch_size": 1e9}': (UsageError, "batch_size: 1000000000.0"),
    '{"batch_size": 1000000000}': (UsageError, "batch_size: 1000000000"),
    '{"seed": -4}': (UsageError, "seed: -4"),
    '{"seed": [1]}': (UsageError, "seed: [1]"),
    '{"seed": "x"}': (UsageError, "seed: 'x'"),
    '{"seeds": [1, 2]}': (UsageError, "seeds: 2 given for batch_size 1"),
    '{"preset": 0}': (UsageError, "preset: 0 is not allowed; use one of fixed"),
    '{"use_adg": 1}': (UsageError, "use_adg: 1 is not allowed; use true or false"),
    '{"sampler_mode": "rk4"}': (UsageError, 'sampler_mode: \'rk4\' is not allowed; use "heun" or "euler"'),
    '{"audio_format": "ogg"}': (UsageError, "audio_format: 'ogg' is not allowed; use one of wav, flac"),
    '{"mood": 1, "tempo": 2, "key": ""}': (UsageError, "unknown fields 'mood', 'tempo'; allowed: caption"),
    '{"eta": 2}': (UsageError, "eta: 2 has no counterpart here"),
}


@pytest.mark.parametrize("text", BAD_FILES, ids=lambda text: text[:30])
def test_a_bad_file_is_named_in_one_line(tmp_path: Path, text: str):
    error, words = BAD_FILES[text]
    path = tmp_path / "example.json"
    path.write_text(text)
    with pytest.raises(error) as caught:
        load_example(path)
    message = str(caught.value)
    assert message.startswith(f"example '{path}': ") and words in message
    assert message.isprintable() and len(message) < 1000


def test_what_is_no_text_is_no_example(tmp_path: Path):
    (tmp_path / "bytes.json").write_bytes(b'{"caption": "\xff"}')
    names = {
        "bytes.json": "as text",
        ".": "Is a directory",
        "a\0b": "no such file",
        "x" * 300: "no such file",
    }
    for name, words in (names | {"/dev/zero": "characters are too many"}).items():
        with pytest.raises((MissingPrerequisite, UsageError), match=words) as caught:
            load_example(tmp_path / name)
        assert str(caught.value).isprintable()


def test_a_missing_example_lists_some_of_what_is_there(tmp_path: Path):
    for number in range(50):
        (tmp_path / f"{number}.json").write_text("{}")
    with pytest.raises(MissingPrerequisite, match=r"no such file; beside it: 0\.json, 1\.json") as caught:
        load_example(tmp_path / "absent\n.json")
    assert str(caught.value).isprintable() and len(str(caught.value)) < 400


def test_audio_is_looked_for_beside_the_example(tmp_path: Path):
    path = tmp_path / "here" / "example.json"
    path.parent.mkdir()
    clips = ["a.wav", "../b.wav", "/there/c.wav"]
    path.write_text(json.dumps({"task_type": "cover", "src_audio": "song.flac", "reference_audio": clips}))
    params, _ = load_example(path)
    assert params.src_audio == str(path.parent / "song.flac")
    beside = (str(path.parent / "a.wav"), str(path.parent / "../b.wav"), "/there/c.wav")
    assert params.reference_audio == beside
    path.write_text(json.dumps({"reference_audio": "a.wav"}))
    assert load_example(path)[0].reference_audio == beside[:1]


def test_upstreams_names_are_ours(tmp_path: Path):
    path = tmp_path / "example.json"
    path.write_text('{"think": true, "language": "ja", "seed": 7, "batch_size": 2}')
    params, config = load_example(path)
    assert params.thinking and params.vocal_language == "ja" and config.seeds == (7, 8)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"query": ["a song"]}', "query: ['a song'] is not text"),
        ('{"src_audio": "a.wav"}', "unknown field 'src_audio'"),
        ('{"duration": 9}', "duration: 9"),
        ('{"audio_codes": [17]}', "audio_codes: [17] is not text"),
        ('{"top_k": 1, "top_k": 2}', "given twice"),
    ],
)
def test_a_bad_description_is_named_in_one_line(tmp_path: Path, text: str, words: str):
    path = tmp_path / "example.json"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        load_description(path)
    assert str(caught.value).startswith(f"example '{path}': ") and words in str(caught.value)
