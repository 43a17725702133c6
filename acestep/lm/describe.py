"""The text modes of the language model: understand audio codes, create a sample, format a request.

All three are one text by the language model: a thought that holds the metadata, closed, then lyrics.

    understand   audio codes           -> metadata, lyrics
    create       a query               -> metadata, lyrics
    format       caption and lyrics    -> metadata, lyrics

No guidance: the prompt has nothing to be contrasted with. Metadata that the user gave is injected.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from acestep.lm.backends.interface import DecodeLoop
from acestep.lm.grammar.constraint import MAX_DURATION_S, Constraint, MetadataConstraint
from acestep.lm.grammar.open_text import Lyrics
from acestep.lm.grammar.unconstrained import MOST_THOUGHT_TOKENS, Unconstrained, plausible
from acestep.request import DescriptionParams
from acestep.result import Counts
from acestep.text import audio_codes
from acestep.text.metadata import Metadata, merge, parse
from acestep.text.prompts import (
    INSTRUMENTAL,
    LM_CAPTION_LIMIT,
    LYRIC_LIMIT,
    Part,
    create_prompt,
    format_prompt,
    understand_prompt,
)
from acestep.text.tokenizer import IM_END, THINK_END, Tokenizer
from harness.spans import span

HEADER = re.compile(r"# Lyrics?[ \t]*(?:\n|\Z)")


@dataclass(frozen=True)
class Description:
    """`truncated`: the text hit its token limit. `instrumental`: nobody sings."""

    metadata: Metadata
    lyrics: str
    truncated: bool
    instrumental: bool
    counts: Counts


def understand(loop: DecodeLoop, tokenizer: Tokenizer, params: DescriptionParams) -> Description:
    """Describe `params.audio_codes`."""
    return _describe(loop, tokenizer, params, understand_prompt(audio_codes.parse(params.audio_codes)), "")


def create(loop: DecodeLoop, tokenizer: Tokenizer, params: DescriptionParams) -> Description:
    """Make up a song from `params.query`."""
    query = tokenizer.truncate(params.query, LM_CAPTION_LIMIT)
    default = INSTRUMENTAL if params.instrumental else ""
    return _describe(loop, tokenizer, params, create_prompt(query, params.instrumental), default)


def format_request(loop: DecodeLoop, tokenizer: Tokenizer, params: DescriptionParams) -> Description:
    """Write out `params.caption` and `params.lyrics`."""
    caption = tokenizer.truncate(params.caption, LM_CAPTION_LIMIT)
    lyrics = tokenizer.truncate(params.lyrics, LYRIC_LIMIT)
    return _describe(loop, tokenizer, params, format_prompt(caption, lyrics), params.lyrics)


def _describe(
    loop: DecodeLoop, tokenizer: Tokenizer, params: DescriptionParams, prompt: list[Part], default: str
) -> Description:
    """Let the model write; `default`: the lyrics where it wrote none."""
    user = _user_metadata(params)
    constraint = _constraint(tokenizer, user, params)
    with span("lm_prefill"):
        ids = tokenizer.encode_prompt(prompt)
    [ids] = loop.texts([ids], [constraint])
    end = ids.index(THINK_END) if THINK_END in ids else len(ids)
    thought, song = ids[:end], [token for token in ids[end + 1 :] if token != IM_END]
    lyrics = bare_lyrics(tokenizer.decode(song)) or default
    # Without the grammar lyrics have no limit of their own, and may not even have begun.
    constrained = params.use_constrained_decoding
    limit_hit = len(song) == params.max_lyrics_tokens if constrained else len(ids) == constraint.most_tokens
    return Description(
        metadata=merge(user, plausible(parse(tokenizer.decode(thought)), MAX_DURATION_S)),
        lyrics=lyrics,
        truncated=limit_hit,
        instrumental=params.instrumental or lyrics.lower() == INSTRUMENTAL.lower(),
        counts=loop.counts(),
    )


def _constraint(tokenizer: Tokenizer, user: Metadata, params: DescriptionParams) -> Constraint:
    if not params.use_constrained_decoding:
        return Unconstrained(MOST_THOUGHT_TOKENS + params.max_lyrics_tokens)
    return MetadataConstraint(
        tokenizer,
        user,
        caption=True,
        genres=True,
        language=True,
        caption_tokens=params.max_caption_tokens,
        lyrics=Lyrics(params.max_lyrics_tokens, ignore_eos=params.ignore_eos),
    )


def bare_lyrics(text: str) -> str:
    """Lyrics without the header line the model may put above them, and white space around them."""
    text = text.strip()
    header = HEADER.match(text)
    return text[header.end() :].strip() if header else text


def _user_metadata(params: DescriptionParams) -> Metadata:
    return Metadata(
        bpm=params.bpm,
        duration=params.duration,
        keyscale=params.keyscale or None,
        language=None if params.vocal_language == "unknown" else params.vocal_language,
        timesignature=params.timesignature or None,
    )
