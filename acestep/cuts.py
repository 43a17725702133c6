"""What of a request's texts is read: the text encoder and the language model take so many tokens, no more.

A token is at least a byte, so most texts fit without being counted, and no tokenizer is opened for them.
No torch import here.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from acestep.request import DescriptionParams, GenerationParams
from acestep.text.metadata import Metadata, merge
from acestep.text.prompts import (
    CAPTION_LIMIT,
    LM_CAPTION_LIMIT,
    LYRIC_LIMIT,
    bounded_caption,
    caption_prompt,
    lyric_prompt,
)
from acestep.text.tokenizer import Tokenizer
from harness.adjustments import Adjustments

# Where the language model is to say them: the most tokens that they can take.
WIDEST = Metadata(bpm=300, duration=600, keyscale="D# minor", timesignature="6")


class Cut(NamedTuple):
    """A text of `tokens` tokens, of which `reader` reads the first `read`."""

    field: str
    tokens: int
    read: int
    reader: str

    def note(self, changes: Adjustments) -> None:
        """Tell it."""
        reason = f"are more than {self.reader} reads"
        changes.note(self.field, f"{self.tokens} tokens", f"the first {self.read}", reason)


def user_metadata(params: GenerationParams, duration_s: float | None) -> Metadata:
    """What a request says of the song, which is told to last `duration_s`."""
    return Metadata(
        bpm=params.bpm,
        duration=None if duration_s is None else int(duration_s),
        keyscale=params.keyscale or None,
        timesignature=params.timesignature or None,
    )


def generation_cuts(
    params: GenerationParams,
    duration_s: float | None,
    instructions: Sequence[str],
    *,
    plans_metadata: bool,
    plans_codes: bool,
    tokenizer: Callable[[], Tokenizer],
) -> Iterator[Cut]:
    """The texts of a generation that are not read whole. `duration_s`: what they are told it lasts;
    `plans_...`: what the language model does."""
    metadata = user_metadata(params, duration_s)
    if plans_metadata:
        metadata = merge(metadata, WIDEST)
    cuts: list[Cut | None] = []
    if not (plans_metadata and params.use_cot_caption and params.use_constrained_decoding):  # else rewritten
        cuts += [caption_cut(params.caption, each, metadata, tokenizer) for each in instructions]
    if plans_metadata or plans_codes:
        cuts.append(_lm_cut("caption", params.caption, tokenizer))
    if plans_codes:
        cuts.append(_lm_cut("lm_negative_prompt", params.lm_negative_prompt, tokenizer))
    if not params.instrumental:
        cuts.append(_lyrics_cut("lyrics", params.lyrics, params.vocal_language, tokenizer))
    if params.flow_edit_morph:
        caption, lyrics = params.flow_edit_source_caption, params.flow_edit_source_lyrics
        cuts.append(caption_cut(caption, instructions[0], metadata, tokenizer, "flow_edit_source_caption"))
        cuts.append(_lyrics_cut("flow_edit_source_lyrics", lyrics, params.vocal_language, tokenizer))
    least: dict[str, Cut] = {}
    for cut in filter(None, cuts):
        least[cut.field] = min(cut, least.get(cut.field, cut), key=lambda cut: cut.read)
    yield from least.values()


def description_cuts(params: DescriptionParams, tokenizer: Callable[[], Tokenizer]) -> Iterator[Cut]:
    """The texts of a description that are not read whole."""
    for name, limit in {
        "query": LM_CAPTION_LIMIT,
        "caption": LM_CAPTION_LIMIT,
        "lyrics": LYRIC_LIMIT,
    }.items():
        if cut := _lm_cut(name, getattr(params, name), tokenizer, limit):
            yield cut


def planned_cuts(planned: Iterable[Metadata], instruction: str, tokenizer: Tokenizer) -> Iterator[str]:
    """A line for each caption of the language model that is not read whole."""
    for metadata in planned:
        caption = metadata.caption
        if caption and (cut := caption_cut(caption, instruction, metadata, lambda: tokenizer)):
            yield f"caption: the language model's has {cut.tokens} tokens; {cut.read} were read"


def caption_cut(
    caption: str,
    instruction: str,
    metadata: Metadata,
    tokenizer: Callable[[], Tokenizer],
    field: str = "caption",
) -> Cut | None:
    """What the text encoder leaves of a caption behind which its metadata is to fit."""
    text = str(caption_prompt(instruction, caption, metadata)[0])
    if _fits(text, CAPTION_LIMIT - 3):  # three tokens end the prompt
        return None
    read = bounded_caption(tokenizer(), instruction, caption, metadata)
    tokens, kept = (len(tokenizer().encode(each)) for each in (caption, read))
    return Cut(field, tokens, kept, "the text encoder, beside the metadata,") if kept < tokens else None


def _lm_cut(
    field: str, text: str, tokenizer: Callable[[], Tokenizer], limit: int = LM_CAPTION_LIMIT
) -> Cut | None:
    if _fits(text, limit) or (tokens := len(tokenizer().encode(text))) <= limit:
        return None
    return Cut(field, tokens, limit, "the language model")


def _lyrics_cut(field: str, lyrics: str, language: str, tokenizer: Callable[[], Tokenizer]) -> Cut | None:
    text, head = (str(lyric_prompt(language, each)[0]) for each in (lyrics, ""))
    limit = LYRIC_LIMIT - 1  # a token ends the prompt
    if _fits(text, limit) or (tokens := len(tokenizer().encode(text))) <= limit:
        return None
    before = len(tokenizer().encode(head))
    return Cut(field, tokens - before, limit - before, "the lyric encoder")


def _fits(text: str, tokens: int) -> bool:
    """Whether `text` can be no longer than so many tokens."""
    return len(unicodedata.normalize("NFC", text).encode()) <= tokens
