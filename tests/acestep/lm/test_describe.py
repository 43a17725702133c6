"""Music in words: what is given stays, what is written is read, and the length is a limit."""

import re
from dataclasses import replace

import pytest
import torch
from tiny_lm import tiny_planner

from acestep.fields import without_unused_words
from acestep.lm import describe
from acestep.lm.decode.loop import CachedDecodeLoop
from acestep.lm.describe import bare_lyrics
from acestep.lm.grammar import constraint
from acestep.lm.grammar.allowed import Forced
from acestep.lm.grammar.unconstrained import Unconstrained
from acestep.request import KEYSCALES, LANGUAGES, DescriptionParams
from acestep.text.tokenizer import IM_END, THINK_END
from harness.adjustments import Adjustments
from harness.errors import UsageError

PLANNER = tiny_planner()
PARAMS = DescriptionParams(max_lyrics_tokens=5, max_caption_tokens=6)
MODES = {
    "understand": replace(PARAMS, audio_codes="<|audio_code_17|><|audio_code_4|>"),
    "create": replace(PARAMS, query="a sad song"),
    "format": replace(PARAMS, caption="techno", lyrics="[Verse]\nLa"),
}


@pytest.fixture(autouse=True)
def _small_and_without_gradients(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(constraint, "GENRES_TOKENS", 3)
    monkeypatch.setattr(describe, "MOST_THOUGHT_TOKENS", 9)
    with torch.inference_mode():
        yield


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch):
    """What each description's model read and wrote, as ids; with a reply set, the lyrics are that text."""
    texts: list[list[int]] = []
    read: list[list[list[int]]] = []
    write = CachedDecodeLoop.texts

    def recorded(self, prompts, constraints):
        read.extend(prompts)
        [ids] = write(self, prompts, constraints)
        if reply.text is not None:
            ids = [*ids[: ids.index(THINK_END) + 1], *PLANNER.tokenizer.encode(reply.text), IM_END]
        texts.append(ids)
        return [ids]

    class reply:
        text: str | None = None
        ids = texts
        prompts = read

    monkeypatch.setattr(CachedDecodeLoop, "texts", recorded)
    return reply


@pytest.mark.parametrize("mode", MODES)
def test_a_description_has_metadata_and_lyrics(mode: str):
    description = getattr(PLANNER, mode)(MODES[mode])
    metadata = description.metadata
    assert 30 <= metadata.bpm <= 300
    assert metadata.keyscale is None or metadata.keyscale in KEYSCALES
    assert metadata.language is None or metadata.language in LANGUAGES
    assert description.lyrics and not re.search(r"<\|audio_code_|<\|im_|</?think>", description.lyrics)
    assert description.counts.lm_decode_steps > 0 and description.counts.audio_codes == 0
    assert description == getattr(PLANNER, mode)(MODES[mode]), "the same seed, the same words"
    assert description.lyrics != getattr(PLANNER, mode)(replace(MODES[mode], seed=43)).lyrics


@pytest.mark.parametrize("mode", MODES)
def test_what_is_given_is_kept(mode: str):
    given = replace(
        MODES[mode], bpm=77, duration=33, keyscale="C# major", timesignature="3", vocal_language="ja"
    )
    metadata = getattr(PLANNER, mode)(given).metadata
    assert (metadata.bpm, metadata.duration, metadata.keyscale, metadata.timesignature) == (
        77,
        33,
        "C# major",
        "3",
    )
    assert metadata.language == "ja"
    assert metadata.caption


VALUES = {
    "audio_codes": "<|audio_code_9|>",
    "query": "a polka",
    "instrumental": True,
    "caption": "dub",
    "lyrics": "Oh",
    "top_k": 3,
    "top_p": 0.2,
    "seed": 7,
    "max_caption_tokens": 4,
    "ignore_eos": True,
}


@pytest.mark.parametrize(
    ("mode", "beside", "useless"),
    [
        ("understand", {}, {"query", "instrumental", "caption", "lyrics"}),
        ("format", {}, {"audio_codes", "query", "instrumental"}),
        ("create", {"temperature": 0.0}, {"audio_codes", "caption", "lyrics", "top_k", "top_p", "seed"}),
        (
            "create",
            {"use_constrained_decoding": False},
            {"audio_codes", "caption", "lyrics", "max_caption_tokens", "ignore_eos"},
        ),
    ],
)
def test_a_field_that_changes_no_word_is_told(mode: str, beside: dict, useless: set[str], written):
    base = without_unused_words(replace(MODES[mode], **beside), mode, Adjustments(strict=False))
    getattr(PLANNER, mode)(base)
    for name, value in VALUES.items():
        changes = Adjustments(strict=False)
        params = replace(base, **{name: value})
        used = without_unused_words(params, mode, changes)
        assert [change.field for change in changes] == [name] * (name in useless)
        getattr(PLANNER, mode)(params)
        same = written.prompts[-1] == written.prompts[0] and written.ids[-1] == written.ids[0]
        if name in useless:
            assert same and used == base, name
            with pytest.raises(UsageError, match=rf"^{name}: .* has no use .*leave it out \(strict\)"):
                without_unused_words(params, mode, Adjustments(strict=True))
        elif name != "ignore_eos":  # which shows where the model would end earlier
            assert not same and used == params, name


@pytest.mark.parametrize("limit", [1, 9])
def test_ignoring_the_end_writes_exactly_so_many_tokens(limit: int, written):
    description = PLANNER.create(replace(MODES["create"], ignore_eos=True, max_lyrics_tokens=limit))
    [ids] = written.ids
    assert len(ids) - ids.index(THINK_END) - 1 == limit + 1 and ids[-1] == IM_END
    assert description.truncated


def test_without_the_grammar_a_text_is_truncated_where_it_is_as_long_as_it_may_be(monkeypatch):
    """A model of random weights says nothing that ends a thought: no lyrics have begun when it is cut."""
    plain = replace(MODES["create"], use_constrained_decoding=False)
    assert PLANNER.create(plain).truncated
    monkeypatch.setattr(Unconstrained, "allowed", lambda self, peek: Forced((IM_END,)))
    assert not PLANNER.create(plain).truncated


def test_the_prompt_is_the_modes(monkeypatch: pytest.MonkeyPatch):
    seen = []
    write = CachedDecodeLoop.texts

    def watched(self, prompts, constraints):
        seen.append(prompts)
        return write(self, prompts, constraints)

    monkeypatch.setattr(CachedDecodeLoop, "texts", watched)
    for mode, params in MODES.items():
        getattr(PLANNER, mode)(params)
    texts = [PLANNER.tokenizer.decode(ids) for [ids] in seen]
    assert "user\n<|audio_code_17|><|audio_code_4|><|im_end|>" in texts[0]
    assert "user\na sad song\n\ninstrumental: false<|im_end|>" in texts[1]
    assert "user\n# Caption\ntechno\n\n# Lyric\n[Verse]\nLa<|im_end|>" in texts[2]


@pytest.mark.parametrize(
    ("text", "lyrics"),
    [
        ("\n\n# Lyric\nLa\n\nla\n", "La\n\nla"),
        ("\n# Lyrics\nLa", "La"),
        ("# Lyric", ""),
        ("# Lyrical\nLa", "# Lyrical\nLa"),
        ("La\n# Lyric\nla", "La\n# Lyric\nla"),
        (" \n", ""),
    ],
)
def test_a_header_above_the_lyrics_is_not_lyrics(text: str, lyrics: str):
    assert bare_lyrics(text) == lyrics


@pytest.mark.parametrize(
    ("mode", "changes", "lyrics", "instrumental"),
    [
        ("create", {"instrumental": True}, "[Instrumental]", True),
        ("create", {}, "", False),
        ("format", {}, "[Verse]\nLa", False),
        ("understand", {}, "", False),
    ],
)
def test_no_lyrics(mode: str, changes: dict, lyrics: str, instrumental: bool, written):
    written.text = "\n\n# Lyric\n"
    description = getattr(PLANNER, mode)(replace(MODES[mode], max_lyrics_tokens=30, **changes))
    assert (description.lyrics, description.instrumental, description.truncated) == (
        lyrics,
        instrumental,
        False,
    )


def test_music_without_a_voice_is_instrumental(written):
    written.text = "\n\n# Lyric\n[instrumental]\n"
    description = PLANNER.understand(replace(MODES["understand"], max_lyrics_tokens=30))
    assert description.instrumental and description.lyrics == "[instrumental]"


def test_long_texts_are_cut_before_the_model_sees_them():
    for mode in ("create", "format"):
        hostile = replace(MODES[mode], query="7" * 4096, caption="8" * 4096, lyrics="9" * 16_384)
        limit = 512 if mode == "create" else 512 + 2048
        assert limit < getattr(PLANNER, mode)(hostile).counts.lm_prompt_tokens < limit + 120
