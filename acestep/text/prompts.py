"""Prompts, as the models were trained on them: for the text encoder and for the 5 Hz language model.

Every prompt is a list of parts: special tokens as ids, everything else as text (`Tokenizer.encode_prompt`
joins them). User text only ever enters a text part, so it cannot end a turn or plant a token.

    >>> encoder_ids(tokenizer, lyric_prompt("en", "[Verse]\\nLa la"), LYRIC_LIMIT)
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from acestep.tasks import TASKS
from acestep.text.metadata import Metadata
from acestep.text.tokenizer import ENDOFTEXT, FIRST_CODE, IM_END, IM_START, THINK, THINK_END, Tokenizer

Part = int | str

PLAN = TASKS["cover"].instruction
UNDERSTAND = "Understand the given musical conditions and describe the audio semantics accordingly:"
CREATE = "Expand the user's input into a more detailed and specific musical description:"
FORMAT = "Format the user's input into a more detailed and specific musical description:"
NO_USER_INPUT = "NO USER INPUT"  # what stands for nothing; as a negative prompt, it means none
INSTRUMENTAL = "[Instrumental]"  # what stands for lyrics where nobody sings

# In tokens. What is longer is cut: by the text encoder, and before it reaches the language model.
CAPTION_LIMIT = 256
LYRIC_LIMIT = 2048
LM_CAPTION_LIMIT = 512  # captions, negative prompts and queries


def caption_prompt(instruction: str, caption: str, metadata: Metadata) -> list[Part]:
    """The text encoder's caption branch. A caption already in this form is unwrapped first."""
    colon = "" if instruction.endswith(":") else ":"
    text = (
        f"# Instruction\n{instruction}{colon}\n\n# Caption\n{_bare_caption(caption)}\n\n"
        f"# Metas\n{metadata.metas()}"
    )
    return [text, ENDOFTEXT, "\n"]


def bounded_caption(tokenizer: Tokenizer, instruction: str, caption: str, metadata: Metadata) -> str:
    """As much of `caption` as fits into CAPTION_LIMIT tokens with the prompt around it: it is what is cut,
    never the metadata behind it."""

    def tokens(text: str) -> int:
        return len(tokenizer.encode_prompt(caption_prompt(instruction, text, metadata)))

    limit = CAPTION_LIMIT - 1  # `encoder_ids` appends one
    if tokens(caption) <= limit:
        return caption
    caption = _bare_caption(caption)
    room = limit - tokens("") + 2  # at its edges a caption may merge with what is around it
    while tokens(text := tokenizer.truncate(caption, max(room, 0))) > limit and room > 0:
        room -= 1
    return text


def lyric_prompt(language: str, lyrics: str) -> list[Part]:
    """The lyric branch, of which the model uses the token embeddings only."""
    return [f"# Languages\n{language}\n\n# Lyric\n{lyrics}", ENDOFTEXT]


def encoder_ids(tokenizer: Tokenizer, parts: list[Part], limit: int) -> list[int]:
    """Ids for the text encoder, at most `limit`: truncated, then ENDOFTEXT appended.

    The published tokenizer's post-processor appends that token to the one in the template, so
    untruncated prompts end in two (caption: with a newline between them).
    """
    return [*tokenizer.encode_prompt(parts)[: limit - 1], ENDOFTEXT]


def phase1_prompt(caption: str, lyrics: str) -> list[Part]:
    """Ask the LM for metadata: it answers with a chain of thought."""
    return _turns(PLAN, [f"# Caption\n{caption}\n\n# Lyric\n{lyrics}\n"])


def phase2_prompt(caption: str, lyrics: str, cot: str) -> list[Part]:
    """Ask the LM for audio codes, given the chain of thought (`Metadata.to_yaml()`).

    The assistant's turn stays open and codes follow the thought in it. Upstream names this the layout of
    the training, and has built it so since 2026-04-22; before, it closed the turn.
    """
    return phase1_prompt(caption, lyrics) + _thought(cot)


def phase2_unconditional(negative: str = NO_USER_INPUT) -> list[Part]:
    """What guidance of phase 2 leads away from: no thought, and in the user's turn the negative prompt or
    NO_USER_INPUT, bare. It is how the training drops its conditions, by upstream of the same date."""
    return _turns(PLAN, [negative if _is_meaningful(negative) else NO_USER_INPUT]) + _thought("")


def understand_prompt(codes: Iterable[int]) -> list[Part]:
    """Ask the LM what the music of audio `codes` is: the one prompt that holds codes."""
    return _turns(UNDERSTAND, [FIRST_CODE + code for code in codes] or [NO_USER_INPUT])


def create_prompt(query: str, instrumental: bool) -> list[Part]:
    """Ask the LM for a song from a few words."""
    flag = "true" if instrumental else "false"
    return _turns(CREATE, [f"{query or NO_USER_INPUT}\n\ninstrumental: {flag}"])


def format_prompt(caption: str, lyrics: str) -> list[Part]:
    """Ask the LM to write out a caption and lyrics in full."""
    return _turns(FORMAT, [f"# Caption\n{caption or NO_USER_INPUT}\n\n# Lyric\n{lyrics or INSTRUMENTAL}"])


def _turns(instruction: str, user: list[Part]) -> list[Part]:
    """System and user turn in Qwen3's chat format, and the head of the assistant's."""
    system = [IM_START, f"system\n# Instruction\n{instruction}\n\n", IM_END, "\n"]
    return [*system, IM_START, "user\n", *user, IM_END, "\n", IM_START, "assistant\n"]


def _thought(cot: str) -> list[Part]:
    """A chain of thought, and the blank line that the chat template puts behind it."""
    return [THINK, f"\n{cot}\n", THINK_END, "\n\n"]


def _is_meaningful(negative: str) -> bool:
    return negative.strip() not in ("", NO_USER_INPUT)


def _bare_caption(caption: str) -> str:
    """The Caption section of a caption that is a whole prompt; any other caption as it is."""
    if "# Instruction" not in caption:
        return caption
    section = re.search(r"# Caption\n(.*?)(?:\n\s*# Metas|\Z)", caption, re.DOTALL)
    return section.group(1).strip() if section else caption
