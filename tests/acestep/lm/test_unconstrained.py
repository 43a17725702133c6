"""Without the grammar: any text, read for what it is worth, and as many codes as ever."""

from dataclasses import replace

import pytest
import torch
from tiny_lm import tiny_planner

from acestep.lm import describe, planner
from acestep.lm.grammar.allowed import Done, Forced, Free
from acestep.lm.grammar.constraint import MetadataConstraint
from acestep.lm.grammar.unconstrained import Unconstrained, plausible
from acestep.request import DescriptionParams, GenerationParams
from acestep.text.metadata import Metadata, parse
from acestep.text.tokenizer import IM_END, THINK_END

PLANNER = tiny_planner()
FREE = GenerationParams(
    caption="dub", use_cot_metas=True, thinking=True, use_constrained_decoding=False, lm_cfg_scale=2.0
)

FEW = {"max_caption_tokens": 4, "max_lyrics_tokens": 1}


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch):
    for module in (planner, describe):
        monkeypatch.setattr(module, "MOST_THOUGHT_TOKENS", 20)


def peek() -> int:
    raise AssertionError("nothing depends on the likeliest token")


def test_a_text_ends_by_itself_or_at_its_limit():
    text = Unconstrained(2)
    assert isinstance(text.allowed(peek), Free) and text.certain() == ()
    text.advance([5])
    text.advance([THINK_END])
    assert text.allowed(peek) == Forced((IM_END,)) and text.certain() == (IM_END,)
    text.advance(text.certain())
    assert text.done and text.allowed(peek) == Done() and text.certain() == ()

    text = Unconstrained(2)
    text.advance([IM_END])
    assert text.done and text.most_tokens == 3


def test_values_no_grammar_allows_are_dropped():
    wild = parse(
        "<think>\nbpm: 9000\nduration: 400\nkeyscale: H dur\nlanguage: xx\ntimesignature: 5\ncaption: x"
    )
    assert plausible(wild, 600) == Metadata(caption="x", duration=400)
    assert plausible(wild, 300) == Metadata(caption="x")
    assert parse("bpm: " + "9" * 5000).bpm is None, "longer than any number Python would read"
    good = Metadata(bpm=96, duration=30, keyscale="D minor", language="en", timesignature="4")
    assert plausible(good, 600) == good


def test_a_plan_without_the_grammar_is_a_plan(monkeypatch: pytest.MonkeyPatch):
    built = []
    build = MetadataConstraint.__init__
    monkeypatch.setattr(MetadataConstraint, "__init__", lambda *a, **k: (built.append(a), build(*a, **k))[1])
    with torch.inference_mode():
        plan = PLANNER.plan(
            FREE,
            Metadata(bpm=77),
            (1, 2),
            length_s=lambda _: 2.0,
            max_duration_s=600,
            metadata=True,
            codes=True,
        )
    assert not built, "no grammar was asked"
    assert [item.bpm for item in plan.metadata] == [77, 77]
    assert [len(codes) for codes in plan.codes] == [10, 10]
    assert plan.counts.lm_decode_steps == (20 - 1) + (10 - 1), "a token is a step"


@pytest.mark.parametrize("wanted", [False, True])
def test_without_the_grammar_only_what_was_asked_for_is_taken(wanted: bool, monkeypatch: pytest.MonkeyPatch):
    thought = Metadata(bpm=99, caption="another song", language="fr", genres="polka")
    monkeypatch.setattr(planner, "parse", lambda text: thought)
    params = replace(FREE, use_cot_caption=wanted, use_cot_language=wanted)
    with torch.inference_mode():
        plan = PLANNER.plan(
            params, Metadata(), (1,), length_s=lambda _: 2.0, max_duration_s=600, metadata=True, codes=False
        )
    [metadata] = plan.metadata
    assert (metadata.caption, metadata.language) == (("another song", "fr") if wanted else (None, None))
    assert (metadata.bpm, metadata.genres) == (99, None)


@pytest.mark.parametrize(
    "mode", ["understand", *(pytest.param(mode, marks=pytest.mark.nightly) for mode in ("create", "format"))]
)
def test_a_description_without_the_grammar_is_a_description(mode: str):
    params = DescriptionParams(audio_codes="<|audio_code_1|>", query="x", caption="x", **FEW)
    free = replace(params, use_constrained_decoding=False)
    with torch.inference_mode():
        description = getattr(PLANNER, mode)(free)
        constrained = getattr(PLANNER, mode)(params)
    assert description.metadata == plausible(description.metadata, 600)
    assert constrained.metadata.bpm is not None
