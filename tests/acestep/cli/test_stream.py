"""`generate --stream -`: audio on standard output, all that is said on standard error."""

import io
import json
import os
import sys

import pytest
import soundfile

from acestep.__main__ import main
from acestep.cli import commands

GENERATE = (
    *("generate", "--source", "synthetic-tiny", "--device", "cpu", "--caption", "a waltz", "--seed", "1"),
    *("--duration", "5.2", "--steps", "1", "--set", "bpm=90", "--set", "keyscale=A minor"),
    *("--set", "timesignature=3"),
)
STREAM = (*GENERATE, "--stream", "-")

pytestmark = pytest.mark.usefixtures("loaded")


def test_standard_output_is_a_wav_and_nothing_else(capsysbinary):
    assert main((*STREAM, "--format", "wav32", "--chunk", "0.7", "--json")) == 0
    out, err = capsysbinary.readouterr()
    samples, rate = soundfile.read(io.BytesIO(out))
    begins, record, warning = err.decode().splitlines()
    assert rate == 48_000 and len(samples) == round(5.2 * rate)
    assert begins.startswith("acestep: WAV FLOAT, 48000 Hz, 2 channels, 5.2 s; begins after ")
    assert json.loads(record)["audios"][0]["peak"] == pytest.approx(abs(samples).max())
    assert "not turned down" in warning


def test_a_reader_that_goes_away_ends_it(monkeypatch: pytest.MonkeyPatch, capfd):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        assert main(STREAM) == 0
    assert "Traceback" not in (said := capfd.readouterr().err) and said.count("\n") == 1


def test_a_terminal_is_no_place_for_it(monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert main(STREAM) == 2
    assert capsys.readouterr().err == (
        "acestep: --stream: standard output is no place for audio; use | PLAYER, or > FILE\n"
    )


REFUSED = {
    ("--stream", "a.wav"): "--stream: 'a.wav' is not allowed; use - > FILE, or --out",
    ("--stream", ""): "argument --stream: is empty; give it a name, or drop it; see --help",
    ("--stream", "-", "--out", "here"): (
        "--out: given together with --stream, which writes no file; use one of them"
    ),
    ("--stream", "-", "--batch-size", "2"): (
        "--batch-size: 2 items are more than one stream holds; use --batch-size 1"
    ),
    ("--stream", "-", "--format", "flac"): (
        "--format: flac is not written as it comes; use --format wav or wav32"
    ),
    ("--stream", "-", "--chunk", "0.001"): "--chunk: 0.001 is not allowed; use a number from 0.01 to 600",
    ("--chunk", "2"): "--chunk: has no use without --stream -; drop it",
}


@pytest.mark.parametrize("flags", REFUSED, ids=" ".join)
def test_what_one_stream_cannot_be_is_refused(monkeypatch, capsys, flags: tuple[str, ...]):
    monkeypatch.delattr(commands, "_engine")
    assert main((*GENERATE, *flags)) == 2
    assert capsys.readouterr() == ("", f"acestep: {REFUSED[flags]}\n")


def test_a_dry_run_shows_the_plan_of_the_stream(capsys):
    normalised = ("--set", "enable_normalization=true", "--dry-run")
    assert main((*STREAM, *normalised, "--json")) == 0
    [change] = json.loads(capsys.readouterr().out)["adjustments"]
    assert (change["field"], change["applied"]) == ("enable_normalization", False)
    assert main((*STREAM, *normalised, "--strict")) == 2
    assert "ask for False (strict)" in capsys.readouterr().err
