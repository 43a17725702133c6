"""The trial of the gate: what is planted is what it says, and kept noise is replayed the same each time."""

import json
import random
import time
from importlib import import_module
from operator import attrgetter

import pytest

from scripts.gate import trial
from scripts.gate.trial import PLACES, PLANTED


@pytest.mark.parametrize("component", PLACES)
def test_the_methods_are_there(component):
    for file, methods in PLACES[component].methods.items():
        module = import_module(file.removesuffix(".py").replace("/", "."))
        assert all(callable(attrgetter(method)(module)) for method in methods)


def test_a_share_of_the_calls_is_made_twice():
    calls = []
    layer = type("Layer", (), {"forward": lambda self, x: calls.append(x) or x})
    exec(f"{PLANTED}Layer.forward = _again(Layer.forward, 0.25)", {"Layer": layer})
    assert [layer().forward(x) for x in range(40)] == [*range(40)]
    assert len(calls) == 50


def test_a_call_takes_longer_by_a_share(monkeypatch):
    now_s = [0.0]

    def clock():
        now_s[0] += 0.001
        return now_s[0]

    def work(x):
        now_s[0] += 1.0
        return x

    names = {"work": work}
    monkeypatch.setattr(time, "process_time", clock)
    exec(f"{PLANTED}work = _longer(work, 0.1)", names)
    assert names["work"](7) == 7 and now_s[0] == pytest.approx(1.1, abs=0.01)


PAIRS = {"unit": "seconds", "base": [0.1] * 30, "head": [0.1] * 30}
REFUSED = {
    "no file": ("0", None, "No such file"),
    "no JSON": ("0", "[{", "has no pairs"),
    "nothing": ("0", [], "has no pairs"),
    "no times": ("0", [PAIRS | {"base": [0.0] * 30}], "has no pairs"),
    "no object": ("0", [[]], "has no pairs"),
    "few pairs": ("0", [PAIRS | {"head": [0.1]}], "a run of 1 pairs is too short"),
    "a gain": ("-5", [PAIRS], "percent: -5"),
    "no number": ("nan", [PAIRS], "percent"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_replayed_is_one_line(tmp_path, monkeypatch, capsys, name):
    percent, content, words = REFUSED[name]
    kept = tmp_path / "pairs.json"
    if content is not None:
        kept.write_text(content if isinstance(content, str) else json.dumps(content))
    monkeypatch.setattr("sys.argv", ["trial", "DiT", f"--replay={kept}", "--", percent])
    assert trial.main() == 2
    out, err = capsys.readouterr()
    assert words in err and (out, err.count("\n")) == ("", 1)


@pytest.mark.parametrize("name", ["notes.json", "no-folder/pairs.json"])
def test_what_cannot_be_kept_is_refused_before_anything_is_measured(tmp_path, monkeypatch, capsys, name):
    (tmp_path / "notes.json").write_text("mine")
    monkeypatch.setattr(trial, "_measured", lambda options: pytest.fail("measured"))
    monkeypatch.setattr("sys.argv", ["trial", "DiT", "0", f"--keep={tmp_path / name}"])
    assert trial.main() == 2
    out, err = capsys.readouterr()
    assert err.startswith("trial: --keep: ") and (out, err.count("\n")) == ("", 1)
    assert (tmp_path / "notes.json").read_text() == "mine"


@pytest.mark.parametrize(("percent", "verdicts"), [("0", {"same"}), ("5", {"same"}), ("50", {"slower"})])
def test_kept_pairs_are_replayed(tmp_path, monkeypatch, capsys, percent, verdicts):
    lot = random.Random(0)
    times = [[0.1 * lot.lognormvariate(0, 0.01) for _ in range(30)] for _ in range(2)]
    kept = tmp_path / "pairs.json"
    kept.write_text(json.dumps([{"unit": "seconds", "base": times[0], "head": times[1]}]))
    shown = []
    for _ in range(2):
        words = ["trial", "DiT", percent, "--runs", "8", "--replay", str(kept)]
        monkeypatch.setattr("sys.argv", words)
        assert trial.main() == 0
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1]
    lines = shown[0].splitlines()
    assert {line.split()[1] for line in lines[:-1]} == verdicts and len(lines) == 9
