"""Where the engine departs from upstream: what each side comes to, from the formulas, and by how much.

`departures.json` is what this file says; `python tests/oracle/departures.py` writes it anew. Nothing of the
engine is used here but the vocabulary, in which texts are counted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from acestep.text.tokenizer import Tokenizer
from acestep.weights.synthetic_tokenizer import synthetic_tokenizer

GOLDEN = Path(__file__).with_suffix(".json")
RATE, HOP = 48_000, 1920
METAS = "- bpm: 91\n- timesignature: 3\n- keyscale: A minor\n- duration: 30 seconds\n"
CAPTION_LIMIT, LM_CAPTION_LIMIT = 256, 512
COVER = "Generate audio semantic tokens based on the given conditions:"
TEXT2MUSIC = "Fill the audio semantic mask based on the given conditions:"


def shifted(steps: int, shift: float) -> list[float]:
    fractions = [1 - i / steps for i in range(steps)]
    return [shift * u / (1 + (shift - 1) * u) for u in fractions]


def furthest(ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]) -> list[float]:
    return [
        max(abs(a - b) for a, b in zip(mine, other, strict=True))
        for mine, other in zip(ours, theirs, strict=True)
    ]


def turbo_shift() -> tuple[Any, Any, str]:
    """At shift 1.4, 2.5 and 5, eight steps."""
    ours, theirs = [shifted(8, s) for s in (1, 2, 3)], [shifted(8, s) for s in (1.4, 2.5, 5)]
    return ours, theirs, "times up to {:.2f}, {:.2f} and {:.2f} away".format(*furthest(ours, theirs))


def turbo_steps() -> tuple[Any, Any, str]:
    """Asked for 4 and for 20."""
    return [4, 20], [8, 8], "4 or 20 steps, not 8"


def base_times() -> tuple[Any, Any, str]:
    """Steps of no length in bf16, of 50 and of 60 at shift 3."""

    def empty(times: torch.Tensor) -> int:
        return int((times[1:] == times[:-1]).sum())

    theirs = []
    for steps in (50, 60):
        u = torch.linspace(1, 0, steps + 1, dtype=torch.bfloat16)
        theirs.append(empty(3 * u / (1 + 2 * u)))
    ours = [empty(torch.tensor([*shifted(steps, 3), 0.0]).bfloat16()) for steps in (50, 60)]
    return ours, theirs, f"{theirs[0]} of 50 steps and {theirs[1]} of 60 are empty there"


def sde_times() -> tuple[Any, Any, str]:
    """Where the steps of a base model arrive, four at shift 3."""
    ours, theirs = [*shifted(4, 3)[1:], 0.0], [0.75, 0.5, 0.25, 0.0]
    return ours, theirs, f"times up to {max(furthest([ours], [theirs])):.2f} away at shift 3"


def last_timestep() -> tuple[Any, Any, str]:
    """Steps of a base model from `timesteps` 1, 0.5."""
    return [[1.0, 0.5], [0.5, 0.0]], [[1.0, 0.5]], "a step more"


def region() -> tuple[Any, Any, str]:
    """The frame at 1.16 s."""
    ours, theirs = round(1.16 * RATE) // HOP, int(1.16 * RATE // HOP)
    return ours, theirs, f"frame {ours}, not {theirs}"


def outpaint() -> tuple[Any, Any, str]:
    """Frames of 10.84 s that are painted from 1.16 s before them."""
    wave = round(10.84 * RATE)
    ours, theirs = (wave + round(1.16 * RATE)) // HOP, (wave + int(1.16 * RATE)) // HOP
    return ours, theirs, f"{ours} frames, not {theirs}"


def outpaint_words() -> tuple[Any, Any, str]:
    """Seconds that the words say of the same."""
    ours, theirs = int(10.84 + 1.16), int(10.84)
    return ours, theirs, f"{ours} seconds, not {theirs}"


def shortest() -> tuple[Any, Any, str]:
    """Samples of 3 s."""
    ours, theirs = 3 * RATE, 128 * HOP
    return ours, theirs, f"3 s of audio, not {theirs / RATE:g}"


def overlap() -> tuple[Any, Any, str]:
    """Frames that a tile of the VAE hears on either side."""
    return 9, 64, "no sample; a tile of 512 frames keeps 494, not 384"


def later_prompt() -> tuple[Any, Any, str]:
    """Tokens of the prompt of a cover's later steps."""
    ours, theirs = (len(prompt(each, "slow dub")) for each in (TEXT2MUSIC, COVER))
    return ours, theirs, f"{abs(theirs - ours)} token"


def caption() -> tuple[Any, Any, str]:
    """Whether the metadata behind a long caption is read."""
    whole = prompt(TEXT2MUSIC, "dub " * 300)
    tail = vocabulary().encode(METAS)
    return True, whole[:CAPTION_LIMIT][-len(tail) :] == tail, "four lines of metadata"


def lm_caption() -> tuple[Any, Any, str]:
    """Tokens of a caption of 600 words that the language model reads."""
    tokens = len(vocabulary().encode("dub " * 600))
    return LM_CAPTION_LIMIT, tokens, f"{LM_CAPTION_LIMIT} tokens at most"


def language() -> tuple[Any, Any, str]:
    """What the lyric encoder is told where the language model says French and the request nothing."""
    return "fr", "unknown", "a word"


def norwegian() -> tuple[Any, Any, str]:
    """Its line in a chain of thought."""
    return "language: 'no'", "language: no", "two quotes"


def quotes() -> tuple[Any, Any, str]:
    """What is read of `caption: 'dub: slow'`."""
    return "dub: slow", "'dub: slow'", "two quotes each time it is planned"


def codes() -> tuple[Any, Any, str]:
    """Of a word between codes."""
    return "refused", "skipped", "an error, not another song"


DEPARTURES: dict[str, Callable[[], tuple[Any, Any, str]]] = {
    "turbo shift": turbo_shift,
    "turbo steps": turbo_steps,
    "base times": base_times,
    "sde times": sde_times,
    "last timestep": last_timestep,
    "region": region,
    "outpaint": outpaint,
    "outpaint's words": outpaint_words,
    "shortest song": shortest,
    "VAE overlap": overlap,
    "later prompt": later_prompt,
    "long caption": caption,
    "LM caption": lm_caption,
    "planned language": language,
    "Norwegian": norwegian,
    "quotes": quotes,
    "words among codes": codes,
}


def vocabulary() -> Tokenizer:
    return synthetic_tokenizer("text")


def prompt(instruction: str, caption: str) -> list[int]:
    """The caption branch up to its first special token."""
    return vocabulary().encode(f"# Instruction\n{instruction}\n\n# Caption\n{caption}\n\n# Metas\n{METAS}")


def formulas() -> dict[str, dict[str, Any]]:
    """Of each departure: ours, theirs, and the size of the difference in words."""
    return {
        name: dict(zip(("ours", "theirs", "size"), formula(), strict=True))
        for name, formula in DEPARTURES.items()
    }


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(formulas(), indent=1) + "\n")
