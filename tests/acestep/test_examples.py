"""The example requests that ship with the repository."""

import json
from pathlib import Path

import pytest

from acestep.examples import load_example

EXAMPLES = sorted(Path(__file__).parents[2].joinpath("examples/text2music").glob("*.json"))


def test_numbered_without_a_gap():
    assert [p.name for p in EXAMPLES] == [f"example_{n:02d}.json" for n in range(1, len(EXAMPLES) + 1)]
    assert len(EXAMPLES) >= 8


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_an_example_is_a_complete_request(path):
    params, config = load_example(path)
    assert params.caption and params.lyrics
    assert params.metadata_complete
    assert config.seeds is not None


def test_they_differ_in_language_length_and_planning():
    requests = [load_example(path)[0] for path in EXAMPLES]
    languages = {r.vocal_language for r in requests}
    assert {"ja", "en", "it", "es", "zh", "de", "unknown"} <= languages
    assert {r.thinking for r in requests} == {True, False}
    assert min(r.duration for r in requests) == 10
    assert max(r.duration for r in requests) == 240
    assert any(r.lyrics == "[Instrumental]" for r in requests)


def test_example_05_is_the_long_one():
    data = json.loads(EXAMPLES[4].read_text(encoding="utf-8"))
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
