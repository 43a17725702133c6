"""The matrix that a command line asks for: a case for every combination of what its flags choose.

Flags of one value have it in every case. What no flag says is the subject's: of a request file, of a preset.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from harness import registry
from harness.cards import Card
from harness.errors import UsageError
from harness.tiers import BATCHES, Choices, Option, Value, tier_subject
from tiersim import sweep
from tiersim.case import TIMEOUT_S, VARIANTS, Case, Plan, resolve


@dataclass(frozen=True)
class Series:
    """The cases of one choice: its tiers and variants, and the rungs of its ladders of batches."""

    base: Case
    cells: list[Plan]
    rungs: list[list[Plan]]

    @property
    def cases(self) -> list[Plan]:
        """What runs for all cells."""
        return list(sweep.by_key(self.cells).values())

    @property
    def every(self) -> Iterator[Plan]:
        return itertools.chain(self.cases, *self.rungs)


def series(options: argparse.Namespace, base: Case) -> Series:
    """The cases that vary `base`, resolved. Raises BenchError for one that cannot be run."""
    sizes = sizes_gb(options, base)
    variants = VARIANTS if options.boundary or options.matrix else options.variants or VARIANTS[:1]
    repeats = options.repeats or 1
    cases = [
        case
        for with_lm in ((False, True) if options.matrix else (options.with_lm,))
        for case in sweep.cases(base, sizes, with_lm=with_lm, variants=variants, repeats=repeats)
    ]
    batches = (options.batch_sizes or BATCHES) if options.batch_boundary else ()
    rungs = sweep.rungs(base, sizes, batches, repeats)
    cells = list(map(resolve, dict.fromkeys(cases)))
    return Series(base, cells, [list(map(resolve, rung)) for rung in rungs])


def sizes_gb(options: argparse.Namespace, base: Case) -> Sequence[float]:
    """Of the cards that are tested: the flag's, else the subject's."""
    return options.tiers or tier_subject(base.subject).tested_gb(dict(base.choices))


def bases(options: argparse.Namespace, card: Card | None) -> list[Case]:
    """A case of the smallest card for every combination of choices and lengths. Raises UsageError."""
    chosen = [_values(options, option) for option in tier_subject(registry.DEFAULT).options]
    return [
        base
        for choices in itertools.product(*filter(None, chosen))
        for base in _of_each_length(options, choices, card)
    ]


def _values(options: argparse.Namespace, option: Option) -> list[tuple[str, Value]]:
    """What the flag of `option` says, each value once, else what a matrix compares; nothing elsewhere."""
    values = getattr(options, option.name)
    if values is None:
        return [(option.name, value) for value in option.compared] if options.matrix else []
    with_lm = options.with_lm or options.batch_boundary or options.suggest or options.matrix
    if option.of_lm and not with_lm:
        raise UsageError(f"{option.name}: has no use without a language model; add --with-lm, or drop it")
    return [(option.name, value) for value in dict.fromkeys(values if option.several else [values])]


def _of_each_length(
    options: argparse.Namespace, choices: tuple[tuple[str, Value], ...], card: Card | None
) -> list[Case]:
    named: Choices = dict(choices)
    subject = tier_subject(registry.DEFAULT)
    usual = subject.usual(named, options.preset)
    case = Case(
        tier_gb=min(options.tiers or subject.tested_gb(named)),
        source=options.source,
        device=options.device or "auto",
        duration_s=usual.duration_s if options.duration is None else options.duration[0],
        batch_size=usual.batch_size if options.batch_size is None else options.batch_size,
        steps=usual.steps if options.steps is None else options.steps,
        seed=usual.seed if options.seed is None else options.seed,
        timeout_s=TIMEOUT_S if options.case_timeout is None else options.case_timeout,
        cap=options.cap or "auto",
        no_limits=options.no_limits,
        skip_compile=options.skip_compile,
        card=card,
        lm_backend=options.lm_backend,
        preset=usual.preset,
        choices=choices,
    )
    lengths = dict.fromkeys(options.duration or [case.duration_s])
    return [replace(case, duration_s=duration_s) for duration_s in lengths]
