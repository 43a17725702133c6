"""The work that the time left is told by is that of the stages that run."""

from collections import Counter
from dataclasses import replace

import pytest
from begun import begun
from short_music import METADATA, SEEDED, SHORT

from acestep import DescriptionParams, GenerationConfig, GenerationParams
from acestep.engine import Engine
from acestep.progress import of_words, parts

FEW = DescriptionParams(query="a polka", max_caption_tokens=4, max_lyrics_tokens=40, ignore_eos=True)


@pytest.mark.parametrize(
    ("fields", "config"),
    [
        ({}, SEEDED),
        ({"thinking": True}, SEEDED),
        (
            {"thinking": True, "lm_cfg_scale": 1.0, "inference_steps": 3},
            GenerationConfig(batch_size=2, seeds=(1, 2)),
        ),
    ],
    ids=["", "planned", "planned, two items"],
)
def test_what_is_counted_begins_as_often_as_is_told(engine: Engine, fields: dict, config: GenerationConfig):
    plan = engine.resolve(GenerationParams(**SHORT | METADATA | fields), config)
    paths = begun(lambda: engine.run(plan))
    expected = parts(plan)
    assert [part.stage for part in expected] == [
        path for path in paths if path in {part.stage for part in expected}
    ]
    assert {part.begins: Counter(paths)[part.begins] for part in expected if part.unit} == {
        part.begins: part.times for part in expected if part.unit
    }


@pytest.mark.parametrize("query", ["a polka", "a slow waltz"])
def test_tokens_whose_number_is_known_are_most_of_a_text(engine: Engine, query: str):
    (part,) = of_words(params := replace(FEW, query=query))
    count = Counter(begun(lambda: engine.create(params)))[part.begins]
    assert part.times == 40 <= count <= 40 + FEW.max_caption_tokens + 20


@pytest.mark.parametrize("open_end", [{"ignore_eos": False}, {"use_constrained_decoding": False}])
def test_nothing_is_told_of_what_ends_by_itself(open_end: dict):
    assert of_words(replace(FEW, **open_end)) == ()
