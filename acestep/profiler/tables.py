"""Terminal output of the profiler: the tree of one run, the table of many, and the text of a text mode.

Layouts are fixed, as people and scripts read them by column. Widths are display columns: a Chinese character
takes two, a combining mark none. A narrow terminal shortens rules, wraps text and has the benchmark's columns
closer together; no number is cut or goes on in the next line.
Percentages are rounded together, so that what is printed adds up. No torch import here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from acestep.profiler.roofline import prefilled
from acestep.result import Counts
from acestep.text.audio_codes import CODES_PER_SECOND
from harness.text import harmless, wrapped

NONE = "—"
TREE_RULE = "  " + "─" * 61
HEADLINE = 100
BENCHMARK_RULE = 122
GUIDE_CELLS, NARROW_CELLS = (11, 8, 8, 8, 11, 11, 11, 11), (9, 6, 6, 6, 9, 9, 9, 9)
SHOWN_CHARS = 100
LABEL = 24


@dataclass(frozen=True, slots=True)
class Breakdown:
    """Where the wall clock of one run went. Without a language model `token_generation_s` is None.

    Token generation is what the model would take unguided, CFG what the unconditional rows add, and the
    constraint what deciding allowed tokens takes; the three are all of the planning. Diffusion and decoding
    do not overlap. Encoding text and conditioning are parts of the other time, None where nobody says.
    """

    wall_s: float
    diffusion_s: float
    steps: int
    vae_s: float
    save_s: float
    token_generation_s: float | None = None
    constrained_s: float = 0.0
    cfg_s: float = 0.0
    text_s: float | None = None
    condition_s: float | None = None

    @property
    def planning_s(self) -> tuple[float, ...]:
        """Token generation, constrained decoding, CFG overhead; empty without a language model."""
        if self.token_generation_s is None:
            return ()
        return self.token_generation_s, self.constrained_s, self.cfg_s

    @property
    def other_s(self) -> float:
        """What no other part accounts for."""
        parts = sum(self.planning_s) + self.diffusion_s + self.vae_s + self.save_s
        return max(self.wall_s - parts, 0.0)

    @property
    def other_parts_s(self) -> tuple[float, ...]:
        """Of it text encoding, conditioning, the rest; empty where nobody says."""
        if self.text_s is None or self.condition_s is None:
            return ()
        return self.text_s, self.condition_s, max(self.other_s - self.text_s - self.condition_s, 0.0)


def apportion(total: int, parts: Sequence[float]) -> list[int]:
    """`total` divided in whole numbers in proportion to `parts`, by largest remainder.

    Every share is its exact value rounded down or up, and they sum to `total`; zeros where all parts are.
    """
    whole = math.fsum(parts)
    if whole <= 0:
        return [0] * len(parts)
    exact = [part / whole * total for part in parts]
    shares = [math.floor(value) for value in exact]
    by_remainder = sorted(range(len(parts)), key=lambda i: shares[i] - exact[i])
    for i in by_remainder[: total - sum(shares)]:
        shares[i] += 1
    return shares


def tree(breakdown: Breakdown, width: int = HEADLINE) -> str:
    """The breakdown of one run, for a terminal of `width` columns."""
    of = breakdown
    planning = [sum(of.planning_s)] if of.planning_s else []
    parts = [*planning, of.diffusion_s, of.vae_s, of.save_s, of.other_s]
    *planned, diffusion, vae, save, other = apportion(1000, parts)
    average = of.diffusion_s / of.steps if of.steps else 0.0
    lines = ["TIME COSTS BREAKDOWN", "=" * min(HEADLINE, width), _row("Component", "Time (s)", " % of Total")]
    lines.append(TREE_RULE[:width])
    if planned:
        token, constrained, cfg = apportion(planned[0], of.planning_s)
        lines += [
            _timed("LLM Planning (total)", planning[0], planned[0]),
            _timed("  ├─ Token generation", of.planning_s[0], token),
            _timed("  ├─ Constrained decoding", of.constrained_s, constrained),
            _timed("  └─ CFG overhead", of.cfg_s, cfg),
        ]
    lines += [
        _timed("DiT Diffusion (total)", of.diffusion_s, diffusion),
        _timed("  ├─ Per-step average", average, None),
        _row("  └─ Steps", str(of.steps), f"  {NONE}"),
        _timed("VAE Decode", of.vae_s, vae),
        _timed("Audio Save", of.save_s, save),
        _timed("Other / Overhead", of.other_s, other),
    ]
    if of.other_parts_s:
        shares = apportion(other, of.other_parts_s)
        heads = ("  ├─ Text encoding", "  ├─ Conditioning", "  └─ Everything else")
        lines += map(_timed, heads, of.other_parts_s, shares)
    lines += [
        TREE_RULE[:width],
        _timed("Wall Time (total)", of.wall_s, 1000),
    ]
    return "\n".join(lines)


def _timed(label: str, seconds: float, tenths: int | None) -> str:
    share = f"  {NONE}" if tenths is None else f"{tenths / 10:.1f}%".rjust(6)
    return _row(label, f"{seconds:.2f}", share)


def _row(label: str, time: str, share: str) -> str:
    return f"  {label:<35}{time:<14}{share}"


def benchmark_head(width: int = BENCHMARK_RULE) -> str:
    """Heads of the benchmark table, and the rule below them."""
    heads = ("Duration", "Batch", "Think", "Steps", "Wall(s)", "LM(s)", "DiT(s)", "VAE(s)", "Status")
    return f"{_cells(heads, _widths(width))}\n{'-' * min(BENCHMARK_RULE, width)}"


def benchmark_row(
    duration_s: float | None,
    batch: int,
    think: bool,
    steps: int | None,
    wall_s: float | None,
    lm_s: float | None,
    dit_s: float | None,
    vae_s: float | None,
    status: str,
    spread_s: float | None = None,
    width: int = BENCHMARK_RULE,
) -> str:
    """One configuration: its times, None where it did not get that far, and how it ended. The duration is
    None where the language model decides it.

    `spread_s`: half the distance from the fastest to the slowest repeat, printed after the status.
    """
    times = (NONE if seconds is None else f"{seconds:.2f}" for seconds in (wall_s, lm_s, dit_s, vae_s))
    spread = "" if spread_s is None else f"  ± {spread_s:.2f}"
    duration, count = (NONE if value is None else f"{value:g}" for value in (duration_s, steps))
    cells = (duration, str(batch), str(think), count, *times)
    widths, ending = _widths(width), harmless(status) + spread
    left, room = sum(widths), width - sum(widths)
    first, *more = [ending] if len(ending) <= room else wrapped(ending, room)
    return "\n".join((_cells((*cells, first), widths), *(f"{'':{left}}{line}" for line in more)))


def _widths(width: int) -> tuple[int, ...]:
    """The guide's columns where there is room for a status beside them, else narrow ones."""
    return GUIDE_CELLS if width >= HEADLINE else NARROW_CELLS


def _cells(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "".join(cell.ljust(width) for cell, width in zip(cells, (*widths, 0), strict=True))


def llm_debug(
    counts: Counts, prefill_s: float, decode_s: float, constrained_s: float, cfg_s: float, width: int = 80
) -> str:
    """What the language model did, by counts: tokens, rates, and what constraint and guidance cost of it.

    Counts are sums over the rows of a batch; ms per token is decoding time over tokens kept.
    """
    new, prompt, total_s = counts.lm_decode_tokens, prefilled(counts), prefill_s + decode_s
    facts = {
        "Prompt tokens": f"{counts.lm_prompt_tokens}, {prompt} of them computed",
        "New tokens": f"{new} in {counts.lm_decode_steps} steps",
        "Audio codes": f"{counts.audio_codes} = {counts.audio_codes / CODES_PER_SECOND:g} s of audio",
        "Prefill": _per_second(prompt, prefill_s),
        "Decode": _per_second(new, decode_s),
        "Per token": f"{decode_s / new * 1000:.2f} ms" if new else NONE,
        "Constrained decoding": _share(constrained_s, total_s),
        "CFG overhead": _share(cfg_s, total_s),
    }
    return facts_block("LLM DEBUG", facts, width)


def _per_second(tokens: int, seconds: float) -> str:
    return f"{tokens / seconds:.1f} tokens/s" if tokens and seconds > 0 else NONE


def _share(seconds: float, of_s: float) -> str:
    return f"{seconds / of_s:.1%} of planning" if of_s > 0 else NONE


def words(
    mode: str, wall_s: float | None, answer: Mapping[str, Any] | None, error: str = "", width: int = 80
) -> str:
    """What a text mode answered, or why it did not: `answer` has the fields of a DescriptionResult."""
    facts = {"Wall time": NONE if wall_s is None else f"{wall_s:.3f}s", "Success": str(answer is not None)}
    if answer is None:
        facts["Error"] = error
    else:
        facts |= {
            "Caption": _beginning(answer["caption"]),
            "BPM / Duration / Key": _several(answer["bpm"], answer["duration"], answer["keyscale"]),
            "Language / Time Sig": _several(answer["language"], answer["timesignature"]),
        }
        if mode == "create_sample":
            facts["Instrumental"] = str(answer["instrumental"])
        if mode != "format_sample":
            facts["Lyrics"] = _beginning(answer["lyrics"])
    return facts_block(f"{mode.upper()} RESULTS", facts, width)


def _several(*values: object) -> str:
    return " / ".join(NONE if value in (None, "") else str(value) for value in values)


def _beginning(text: str) -> str:
    """The first 100 characters, lines joined by a stroke."""
    joined = re.sub(r"\s*\n\s*", " / ", text.strip())
    return joined[:SHOWN_CHARS] + ("…" if len(joined) > SHOWN_CHARS else "")


def facts_block(title: str, facts: Mapping[str, str], width: int = 80) -> str:
    """A titled list of label and value; long values go on below their beginning."""
    lines = [title, "=" * min(HEADLINE, width)]
    for label, value in facts.items():
        first, *more = wrapped(value, max(width - LABEL - 2, 20))
        lines.append(f"  {label:<{LABEL}}{first}".rstrip())
        lines += [f"  {'':<{LABEL}}{line}" for line in more]
    return "\n".join(lines)
