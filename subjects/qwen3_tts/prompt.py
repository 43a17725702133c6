"""The prompt: rows that are each a text side plus a codec side, as ids first and embedded afterwards.

                        text side                   codec side
    instruct, role      its tokens                  -
    tags                tts_pad.., tts_bos          think, think_bos, language, think_eos, speaker, pad
    text, streaming     its first token             bos; its other tokens come with the frames
    text, else          its tokens, tts_eos         pad.., then tts_pad + bos
    with a reference    its text, text, tts_eos     bos, its frames; side by side, or one after the other

What is left of the text is `trailing`: the text side of the rows that frames make, one each, then tts_pad.
Texts are token ids of the published templates, with their control tokens. Names of languages and speakers are
lower-case. No torch import before rows are embedded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from harness.checks import one_of, shown
from harness.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from subjects.qwen3_tts.models.code_predictor import CodePredictor
    from subjects.qwen3_tts.models.talker import Talker

AUTO = "auto"  # the language: the model's own choice
CHINESE = "chinese"
ROLE = 3  # tokens before a text: im_start, the role, a line break
TEXT_END, REFERENCE_END = 5, 2  # tokens behind a text, with the turn that follows; behind that of a reference


@dataclass(frozen=True)
class ControlIds:
    """Ids of control tokens, languages and speakers, and what a frame holds; by default the published ones.

    `tts_*` are text tokens, all others rows of the talker's codec table, after its `codes`. `dialects`: the
    language that a speaker has instead of Chinese, or of none. A frame has `groups` codes.
    """

    tts_pad: int = 151_671
    tts_bos: int = 151_672
    tts_eos: int = 151_673
    pad: int = 2_148
    bos: int = 2_149
    eos: int = 2_150
    think: int = 2_154
    nothink: int = 2_155
    think_bos: int = 2_156
    think_eos: int = 2_157
    languages: Mapping[str, int] = field(
        default_factory=lambda: {
            "english": 2050,
            "german": 2053,
            "spanish": 2054,
            CHINESE: 2055,
            "japanese": 2058,
            "french": 2061,
            "sichuan_dialect": 2062,
            "korean": 2064,
            "russian": 2069,
            "italian": 2070,
            "portuguese": 2071,
            "beijing_dialect": 2074,
        }
    )
    speakers: Mapping[str, int] = field(
        default_factory=lambda: {
            "aiden": 2861,
            "sohee": 2864,
            "ono_anna": 2873,
            "eric": 2875,
            "dylan": 2878,
            "uncle_fu": 3010,
            "ryan": 3061,
            "vivian": 3065,
            "serena": 3066,
        }
    )
    dialects: Mapping[str, str] = field(
        default_factory=lambda: {"eric": "sichuan_dialect", "dylan": "beijing_dialect"}
    )
    groups: int = 16
    codes: int = 2_048


PUBLISHED = ControlIds()


class Reference(NamedTuple):
    """A recording to speak like: its text as token ids of the template, its codes, 16 a frame."""

    text: Sequence[int]
    codes: Sequence[Sequence[int]]


class Row(NamedTuple):
    """One row: text side of `text`; codec side of no code, of one, of a frame's 16, or the x-vector."""

    text: int
    codes: tuple[int, ...] = ()
    x_vector: bool = False


@dataclass(frozen=True)
class Prompt:
    """`trailing[n]`: the text side of the row that frame n makes; afterwards it is `pad`."""

    rows: list[Row]
    trailing: list[int]
    pad: int


def layout(
    text: Sequence[int],
    *,
    language: str = AUTO,
    speaker: str | None = None,
    instruct: Sequence[int] = (),
    x_vector: bool = False,
    reference: Reference | None = None,
    streaming: bool = False,
    ids: ControlIds = PUBLISHED,
) -> Prompt:
    """The prompt of a text.

    `text`, `instruct`, `reference.text`: token ids of their templates. A speaker is a name of CustomVoice or,
    `x_vector`, what Base hears in a recording; VoiceDesign has neither. `streaming`: text comes with the
    frames. Raises UsageError for a language or speaker that is none, two speakers, a text without tokens, and
    codes of a reference that are none.
    """
    role, body = [*text[:ROLE]], [*text[ROLE:-TEXT_END]]
    if not body:
        raise UsageError("text: has no tokens; give some text to speak")
    if speaker is not None and x_vector:
        raise UsageError("speaker: a name and a recording are not allowed together; use one of them")
    rows = [Row(token) for token in (*instruct, *role)]
    rows += _tags(language, speaker, x_vector, ids)
    if reference is None:
        spoken, trailing = _plain(body, streaming, ids)
    else:
        spoken, trailing = _in_context(body, reference, streaming, ids)
    return Prompt(rows + spoken, trailing, ids.tts_pad)


def _tags(language: str, speaker: str | None, x_vector: bool, ids: ControlIds) -> list[Row]:
    """Rows of language and speaker: all tags but the last, `bos`, which begins what is spoken."""
    language = _spoken_language(language, speaker, ids)
    if language == AUTO:
        codes = [ids.nothink, ids.think_bos, ids.think_eos]
    else:
        codes = [ids.think, ids.think_bos, ids.languages[language], ids.think_eos]
    rows = [Row(ids.tts_pad, (code,)) for code in codes]
    if x_vector:
        rows.append(Row(ids.tts_pad, x_vector=True))
    elif speaker is not None:
        rows.append(Row(ids.tts_pad, (ids.speakers[speaker],)))
    return [*rows, Row(ids.tts_bos, (ids.pad,))]


def _spoken_language(language: str, speaker: str | None, ids: ControlIds) -> str:
    """The language that is tagged: a speaker of a dialect has it in place of Chinese, and of none."""
    one_of("language", language, (AUTO, *ids.languages))
    if speaker is not None:
        one_of("speaker", speaker, tuple(ids.speakers))
        if language in (AUTO, CHINESE):
            return ids.dialects.get(speaker, language)
    return language


def _plain(body: list[int], streaming: bool, ids: ControlIds) -> tuple[list[Row], list[int]]:
    """Rows of a text and what trails."""
    if streaming:
        return [Row(body[0], (ids.bos,))], [*body[1:], ids.tts_eos]
    rows = [Row(token, (ids.pad,)) for token in (*body, ids.tts_eos)]
    return [*rows, Row(ids.tts_pad, (ids.bos,))], [ids.tts_pad]


def _in_context(
    body: list[int], reference: Reference, streaming: bool, ids: ControlIds
) -> tuple[list[Row], list[int]]:
    """Rows of a text that goes on after a reference's, and of the reference's frames; what trails."""
    for number, frame in enumerate(reference.codes):
        if len(frame) != ids.groups or not all(0 <= code < ids.codes for code in frame):
            raise UsageError(
                f"reference: frame {number} is {shown([*frame])}; use {ids.groups} codes a frame, each from "
                f"0 to {ids.codes - 1}"
            )
    texts = [*reference.text[ROLE:-REFERENCE_END], *body, ids.tts_eos]
    frames = [(ids.bos,), *(tuple(frame) for frame in reference.codes)]
    if streaming:
        beside = texts[: len(frames)] + [ids.tts_pad] * (len(frames) - len(texts))
        rows = [Row(token, frame) for token, frame in zip(beside, frames, strict=True)]
        return rows, texts[len(frames) :] or [ids.tts_pad]
    rows = [Row(token, (ids.pad,)) for token in texts]
    return rows + [Row(ids.tts_pad, frame) for frame in frames], [ids.tts_pad]


class Embedded(NamedTuple):
    """A prompt as the talker reads it: `rows [S, H]`, `trailing [N, H]`, and `pad [H]` after them."""

    rows: Tensor
    trailing: Tensor
    pad: Tensor


def embed(
    prompt: Prompt, talker: Talker, predictor: CodePredictor, x_vector: Tensor | None = None
) -> Embedded:
    """The rows of a prompt, in the dtype and on the device of the talker. `x_vector [H]`: the speaker's."""
    import torch

    device = talker.codec_head.weight.device
    texts = [*(row.text for row in prompt.rows), *prompt.trailing, prompt.pad]
    places = {token: place for place, token in enumerate(dict.fromkeys(texts))}
    distinct = talker.text(torch.tensor(list(places), device=device))
    sides = distinct[torch.tensor([places[token] for token in texts], device=device)]
    rows, trailing = sides[: len(prompt.rows)], sides[len(prompt.rows) : -1]

    tags = [place for place, row in enumerate(prompt.rows) if len(row.codes) == 1]
    frames = [place for place, row in enumerate(prompt.rows) if len(row.codes) > 1]
    speakers = [place for place, row in enumerate(prompt.rows) if row.x_vector]
    codes = torch.tensor([prompt.rows[place].codes[0] for place in tags], device=device)
    rows[tags] += talker.codec(codes)
    if frames:
        codes = torch.tensor([prompt.rows[place].codes for place in frames], device=device)
        rows[frames] += predictor.summed(talker.codec(codes[:, 0]), codes[:, 1:])
    if speakers:
        if x_vector is None:
            raise ValueError("the prompt has a speaker's row, and no x-vector is given")
        rows[speakers] += x_vector.to(rows)
    return Embedded(rows, trailing, sides[-1])
