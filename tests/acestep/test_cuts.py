"""Texts that are too long: how much of them is read, told before anything is loaded."""

import dataclasses

import pytest
from places import ROOT

from acestep.cuts import caption_cut
from acestep.request import DescriptionParams, GenerationConfig, GenerationParams
from acestep.resolver import resolve, resolve_description
from acestep.setup import Setup
from acestep.text.metadata import Metadata
from acestep.weights.synthetic_tokenizer import synthetic_tokenizer
from harness.accelerators import Accelerator
from harness.errors import UsageError

CPU = Accelerator("cpu", "CPU", 16.0)
SETUP = Setup.choose("synthetic-tiny", accelerator=CPU)
PLAIN = Setup.choose("synthetic-tiny", accelerator=CPU, lm=None)
SONG = {"bpm": 96, "keyscale": "D minor", "timesignature": "4", "duration": 12.0}


def tokenizer():
    return synthetic_tokenizer("text")


@pytest.mark.parametrize(
    ("setup", "fields", "told"),
    [
        (PLAIN, {"caption": "8" * 150}, {}),
        (PLAIN, {"caption": "8" * 1000}, {"caption": 1000}),
        (PLAIN, {"lyrics": "9" * 2000}, {}),
        (PLAIN, {"lyrics": "9" * 3000}, {"lyrics": 3000}),
        (PLAIN, {"lyrics": "9" * 3000, "caption": "8" * 1000}, {"caption": 1000, "lyrics": 3000}),
        (PLAIN, {"lm_negative_prompt": "7" * 400, "caption": "x" * 3}, None),  # has no use at all
        (SETUP, {"thinking": True, "lm_negative_prompt": "7" * 500}, {}),
        (SETUP, {"thinking": True, "lm_negative_prompt": "7" * 600}, {"lm_negative_prompt": 600}),
        (SETUP, {"bpm": None, "lm_negative_prompt": "7" * 600}, None),  # nor where metadata alone is planned
        (SETUP, {"bpm": None, "use_cot_caption": True, "caption": "8" * 500}, {}),  # rewritten
        (SETUP, {"bpm": None, "use_cot_caption": True, "caption": "8" * 600}, {"caption": 600}),
    ],
)
def test_what_is_not_read_is_told_with_what_is_read_of_it(setup, fields, told):
    request = GenerationParams(**SONG | fields)
    plan = resolve(request, GenerationConfig(), setup)
    if told is None:
        assert [a.field for a in plan.adjustments] == ["lm_negative_prompt"]
        return
    assert {a.field: a.requested for a in plan.adjustments} == {
        name: f"{tokens} tokens" for name, tokens in told.items()
    }
    for line in plan.warnings:
        assert "tokens are more than" in line and "using the first" in line
    strict = dataclasses.replace(setup, strict=True)
    if told:
        with pytest.raises(UsageError, match=rf"^{next(iter(told))}: .*ask for the first \d+ \(strict\)$"):
            resolve(request, GenerationConfig(), strict)
    else:
        assert resolve(request, GenerationConfig(), strict).adjustments == ()


def test_the_words_of_a_recording_that_is_edited_are_cut_like_those_it_is_led_to():
    for field, text in (("flow_edit_source_caption", "8" * 1000), ("flow_edit_source_lyrics", "9" * 3000)):
        cover = {"task_type": "cover", "src_audio": str(ROOT / "examples/audio/loop.flac"), field: text}
        [change] = resolve(
            GenerationParams(flow_edit_morph=True, **cover), GenerationConfig(), PLAIN
        ).adjustments
        assert (change.field, change.requested) == (field, f"{len(text)} tokens")


def test_as_many_tokens_are_read_as_is_told():
    cut = caption_cut("8" * 1000, "Do this:", Metadata(bpm=96), tokenizer)
    assert cut is not None and (cut.tokens, cut.field) == (1000, "caption")
    assert caption_cut("8" * cut.read, "Do this:", Metadata(bpm=96), tokenizer) is None
    assert caption_cut("8" * (cut.read + 1), "Do this:", Metadata(bpm=96), tokenizer) is not None


def test_a_text_that_fits_by_its_bytes_opens_no_tokenizer():
    def none():
        raise AssertionError("opened")

    assert caption_cut("slow dub", "Do this:", Metadata(), none) is None
    with pytest.raises(AssertionError, match="opened"):
        caption_cut("slow dub" * 100, "Do this:", Metadata(), none)


@pytest.mark.parametrize(
    ("mode", "field", "longest"),
    [("create", "query", 512), ("format", "caption", 512), ("format", "lyrics", 2048)],
)
def test_a_description_tells_what_it_cuts(mode: str, field: str, longest: int):
    assert resolve_description(DescriptionParams(**{field: "8" * longest}), mode, SETUP)[1] == ()
    long = DescriptionParams(**{field: "8" * (longest + 1)})
    _, [change] = resolve_description(long, mode, SETUP)
    assert (change.field, change.applied) == (field, f"the first {longest}")
    with pytest.raises(UsageError, match=rf"^{field}: .*strict"):
        resolve_description(long, mode, dataclasses.replace(SETUP, strict=True))
