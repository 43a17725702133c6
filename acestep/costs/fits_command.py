"""`python -m acestep fits`: whether a song fits a card, in words. torch waits until the question is one."""

from __future__ import annotations

import argparse
import json
import re
import textwrap
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

from acestep import components
from acestep.costs.fits import OF_LM, Answer, Fit, Most, Predictor, Question, answer, expected_predictions
from acestep.gpu_config import GUIDE
from acestep.setup import AUTO, NONE
from acestep.tier_options import DIT, DTYPE, LM, LM_QUANTIZATION, POLICY, QUANTIZATION
from acestep.weights.layout import DIT_PREFIX, LM_PREFIX
from harness import cards
from harness.cards import Card
from harness.chart import size as sized
from harness.checks import shown
from harness.errors import UsageError
from harness.flags import NUMBER
from harness.memory import GIB
from harness.progress import Progress, observed
from harness.text import harmless

COLUMNS, LABEL = 79, 10
SIZE = re.compile(rf"(?P<number>{NUMBER.pattern})\s*(gi?b?)?", re.IGNORECASE)
OR_A_SIZE = ", or GB such as 8"


def run(options: argparse.Namespace) -> int:
    """Answer; returns the exit code: 0 it fits, 1 it does not."""
    question = asked(options)
    with Progress(expected_predictions(question)) as progress:
        progress.say("loading torch")
        import harness.trace.predict  # noqa: F401  (once: no measure of a prediction)

        with observed(progress):
            found = answer(question, Predictor(lambda one: progress.step(song(one)), progress.left_out))
    print(json.dumps(as_dict(found)) if options.json else text(found))
    return 0 if found.fit.fits else 1


def asked(options: argparse.Namespace) -> Question:
    """The question of a command line. Raises UsageError for a card or a value that there is not."""
    size_gb, card = which(" ".join(options.card))
    values = {
        DIT: options.dit,
        LM: None if options.lm in (AUTO, NONE) else options.lm,
        DTYPE: None if options.dtype == AUTO else options.dtype,
        QUANTIZATION: None if options.quantization == AUTO else options.quantization,
        LM_QUANTIZATION: None if options.lm_quantization == NONE else options.lm_quantization,
        POLICY: None if options.policy == GUIDE else options.policy,
    }
    choices = {name: value for name, value in values.items() if value is not None}
    plain = Question(size_gb, card, choices=tuple(choices.items()), source=options.source)
    with_lm = options.lm != NONE and plain.tier.has_lm
    for name in OF_LM if not with_lm else ():
        if name in choices:
            why = "there is no language model" if options.lm == NONE else f"{plain.tier.name} has none"
            raise UsageError(f"{name}: {choices[name]} has no use, {why}; drop it, or see --policy")
    sizes = {"duration_s": options.duration, "batch_size": options.batch_size}
    return replace(
        plain,
        lm=with_lm,
        offload_to_cpu=options.offload,
        offload_dit_to_cpu=options.offload_dit,
        **{name: value for name, value in sizes.items() if value is not None},
    )


def which(words: str) -> tuple[float, Card]:
    """The size in GB and the card that somebody names. A size alone is that of a card as fast as
    `cards.DEFAULT`: of memory that makes no difference."""
    if size := SIZE.fullmatch(words.strip()):
        size_gb, (least, most) = float(size["number"]), cards.RANGES["memory_gib"]
        if not least <= size_gb <= most:
            sizes = f"use GB from {least:g} to {most:g}, or a name such as {cards.DEFAULT}"
            raise UsageError(f"card: {shown(words)} is not allowed; {sizes}")
        return size_gb, cards.find(cards.DEFAULT)
    if not words.strip():
        raise UsageError(f"card: {shown(words)} is empty; use e.g. {cards.DEFAULT}{OR_A_SIZE}")
    card = cards.find(words, OR_A_SIZE)
    return card.memory_gib, card


def text(result: Answer) -> str:
    """The answer for a terminal of 80 columns, yes or no first."""
    facts = [line for name, fact in _facts(result) for line in _wrapped(fact, name)]
    basis = ", ".join(result.rests_on)
    rests_on = f"predicted with {basis}: nothing was run, and the card is empty otherwise"
    blocks = [_wrapped(verdict(result)), facts, _savings(result), _wrapped(rests_on)]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def verdict(result: Answer) -> str:
    """Whether it fits, and with how much to spare."""
    fit, setup = result.fit, result.plan.setup
    model = f"{setup.dit.removeprefix(DIT_PREFIX)} {_with_lm(setup.lm)}"
    what, size = f"{song(fit)} of {model}", f"{result.question.tier_gb:g} GB"
    if fit.fits:
        return f"yes: {what} takes {fit.peak_bytes / GIB:.1f} of {size}, {_spare(fit)} to spare"
    return f"no: {what} does not fit {size}, no room for {sized(fit.wanted_bytes)} in {fit.at}"


def song(of: Question | Fit) -> str:
    """Its length, and how many of it."""
    return f"{of.duration_s:g} s" if of.batch_size == 1 else f"{of.batch_size} x {of.duration_s:g} s"


def _with_lm(name: str | None) -> str:
    return f"with LM {name.removeprefix(LM_PREFIX)}" if name else "without LM"


def _spare(fit: Fit) -> str:
    return f"{fit.to_spare_bytes / GIB:.1f} GB"


def _facts(result: Answer) -> Iterator[tuple[str, str]]:
    question, setup, fit = result.question, result.plan.setup, result.fit
    tier, card, size_gb = question.tier, question.card, question.tier_gb
    name = f"{card.name}, {size_gb:g} GB" if card.memory_gib == size_gb else cards.of_size(size_gb)
    yield "card", f"{name}, {tier.name}{'' if tier.has_lm else ', which has no language model'}"
    parts = components.describe(setup.offloaded, "the card")
    yield "settings", f"{setup.quantization or 'nothing quantized'}, {setup.dtype}, {parts}; {setup.source}"
    yield "most", f"is used in {fit.at}"
    yield from (("instead", fallback) for fallback in fit.fallbacks)
    yield from (("note", note) for note in result.plan.warnings)
    limited = replace(question, no_limits=False).plan().adjustments
    yield from (("limits", f"without --no-limits {change}") for change in limited)
    longest_s = tier.max_duration_with_lm_s if question.lm else tier.max_duration_s
    yield "longest", _most(result.longest, "duration_s", " s", f"{tier.name} allows {longest_s:g} s")
    most = tier.max_batch_with_lm if question.lm else tier.max_batch
    yield "batch", _most(result.largest, "batch_size", "", f"{tier.name} allows {most}")


def _most(most: Most, name: str, unit: str, allowed: str) -> str:
    """The largest that fits, whose limit it is, and what the tier allows unless it is told not to."""
    if most.fit is None:
        return "none that was tried fits"
    whose = ", the most a request may ask for" if most.of_request else ""
    used = f"takes {most.fit.peak_bytes / GIB:.1f} GB"
    return f"{getattr(most.fit, name):g}{unit}{whose}: {used}; without --no-limits {allowed}"


def _savings(result: Answer) -> list[str]:
    """A table of what makes room."""
    if not result.savings:
        return []
    lines = [f"{'makes room':<40}{'takes':>12}{'to spare':>12}"]
    for saving in result.savings:
        fit = saving.fit
        takes, spare = (f"{fit.peak_bytes / GIB:.1f} GB", _spare(fit)) if fit.fits else ("does not fit", "")
        lines.append(f"{saving.flags:<40}{takes:>12}{spare:>12}".rstrip())
    return lines


def _wrapped(text: str, name: str = "") -> list[str]:
    indent = LABEL if name else 0
    return textwrap.wrap(
        harmless(text), COLUMNS, initial_indent=f"{name:<{indent}}", subsequent_indent=" " * indent,
        break_on_hyphens=False,
    )  # fmt: skip


def as_dict(result: Answer) -> dict[str, Any]:
    """Plain JSON values."""
    question = result.question
    return {
        "predicted": True,
        "fits": result.fit.fits,
        "size_gb": question.tier_gb,
        "card": question.card.name,
        "tier": question.tier.name,
        "to_spare_bytes": result.fit.to_spare_bytes,
        **{name: asdict(getattr(result, name)) for name in ("fit", "longest", "largest")},
        "savings": [asdict(saving) for saving in result.savings],
        "plan": result.plan.as_dict(),
        "rests_on": list(result.rests_on),
    }
