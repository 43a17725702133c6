"""What predictions support of each tier: the least that has to be saved, and the longest and largest request.

A search per tier, all of them in step, so that each round of predictions is spread over the cores. First the
settings: of those that save least, the first that holds what the tier promises, without and with its language
model. Then, with these settings, the longest song at the promised batch, and at that length the largest
batch: what is found holds together. Whether more fits is taken to be monotonic, so a limit takes a few
predictions, by bisection over LENGTHS_S and BATCHES.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, replace

from harness import cards
from harness.memory import GIB
from harness.tiers import BATCHES, LENGTHS_S, Supported, Tier
from tiersim.boundary import MOST_OF_CARD, leaves_room
from tiersim.case import VARIANTS, Case, Plan, Variant, resolve, subject_of
from tiersim.notes import basis, chosen, with_lm
from tiersim.record import Record

LIMITS = (
    f"supported is what reserves at most {MOST_OF_CARD:.0%} of the card and falls back from nothing",
    "holds for this card, source, choice and preset; lengths and batches in between were not tried",
    "what others hold of the card, and what libraries take that was not calibrated, is not in it",
    "a promise needs a card: python -m tiersim --run --repeats 3",
)


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one tier. `variant`: the settings that save least, None where none hold anything.

    `shown`: what they were tried on, without and with a language model. `alone`, `with_lm`: the largest that
    they hold, None where not even the least.
    """

    case: Case
    tier: Tier
    variant: Variant | None
    shown: tuple[Record, ...]
    alone: Record | None = None
    with_lm: Record | None = None

    @property
    def supported(self) -> Supported:
        """The same for the subject's table."""
        alone, lm = (record and record.requested for record in (self.alone, self.with_lm))
        return Supported(
            tier=self.tier.name,
            source=self.case.source,
            choices=dict(self.case.choices),
            variant=self.variant,
            max_duration_s=alone and alone.duration_s,
            max_batch=alone and alone.batch_size,
            max_duration_with_lm_s=lm and lm.duration_s,
            max_batch_with_lm=lm and lm.batch_size,
        )


def findings(
    bases: Sequence[tuple[Case, Sequence[float]]], run: Callable[[Sequence[Plan]], list[Record]]
) -> list[Finding]:
    """Of each case and sizes of cards, the finding of every tier among them, on its smallest card."""
    searches = [_search(case) for base, sizes in bases for case in _tiers(base, sizes)]
    ended: dict[int, Finding] = {}
    waiting = {index: next(search) for index, search in enumerate(searches)}
    while waiting:
        records = run([resolve(case) for case in waiting.values()])
        tried, waiting = waiting, {}
        for index, record in zip(tried, records, strict=True):
            try:
                waiting[index] = searches[index].send(record)
            except StopIteration as end:
                ended[index] = end.value
    return [ended[index] for index in range(len(searches))]


def _tiers(base: Case, sizes_gb: Iterable[float]) -> list[Case]:
    """A case of each tier's smallest card. Its limits are off: they are what is looked for."""
    smallest: dict[str, Case] = {}
    for size in sorted(set(sizes_gb)):
        case = replace(base, tier_gb=size, no_limits=True)
        smallest.setdefault(subject_of(case).tier(case).name, case)
    return list(smallest.values())


def _search(case: Case) -> Generator[Case, Record, Finding]:
    tier = subject_of(case).tier(case)
    promised = [replace(case, duration_s=tier.max_duration_s, batch_size=tier.max_batch)]
    if tier.has_lm:
        most = {"duration_s": tier.max_duration_with_lm_s, "batch_size": tier.max_batch_with_lm}
        promised.append(replace(case, lm=True, **most))
    variant, shown = yield from _least(promised)
    largest: list[Record | None] = []
    for of in promised if variant else ():
        largest.append((yield from _most(replace(of, variant=variant))))
    return Finding(case, tier, variant, shown, *largest)


def _least(promised: Sequence[Case]) -> Generator[Case, Record, tuple[Variant | None, tuple[Record, ...]]]:
    """The settings that save least and hold `promised`; where none do, one item of it, then a short one."""
    records: list[Record] = []
    for less in ({}, {"batch_size": 1}, {"batch_size": 1, "duration_s": LENGTHS_S[0]}):
        for variant in reversed(VARIANTS):
            records = []
            for case in reversed(promised):  # with a language model first: it is what fails
                records.append((yield replace(case, variant=variant, **less)))
                if not _holds(records[-1]):
                    break
            else:
                return variant, tuple(reversed(records))
    return None, tuple(records)


def _most(case: Case) -> Generator[Case, Record, Record | None]:
    """The longest song at the batch of `case`, else at one item, then the most items at that length."""
    longest = yield from _largest(case, "duration_s", LENGTHS_S)
    if longest is None and case.batch_size > 1:
        longest = yield from _largest(replace(case, batch_size=1), "duration_s", LENGTHS_S)
    if longest is None:
        return None
    larger = [batch for batch in BATCHES if batch > longest.requested.batch_size]
    return (yield from _largest(longest.requested, "batch_size", larger)) or longest


def _largest(case: Case, name: str, values: Sequence[float]) -> Generator[Case, Record, Record | None]:
    """The record of the largest of ascending `values` that is held, of those below all are; None of none."""
    held, low, high = None, 0, len(values)
    while low < high:
        middle = (low + high) // 2
        record = yield replace(case, **{name: values[middle]})
        if _holds(record):
            held, low = record, middle + 1
        else:
            high = middle
    return held


def _holds(record: Record) -> bool:
    return record.status == "ok" and not record.fallbacks and leaves_room(record)


def report(findings: Sequence[Finding]) -> str:
    """The evidence, as comments, and the patch: what `git apply` takes."""
    records = [record for finding in findings for record in finding.shown]
    rests_on = sorted({basis(record) for record in records if record.status != "skip"})
    lines = [*rests_on, *LIMITS, *evidence(findings)]
    subject = subject_of(findings[0].case)
    patch = subject.patch([finding.supported for finding in findings])
    if not patch:
        lines.append("nothing to change")
    return "\n".join([*(f"# {line}" for line in lines), patch]).rstrip("\n")


def evidence(findings: Iterable[Finding]) -> list[str]:
    """What the patch rests on, line by line."""
    return [line for finding in findings for line in _evidence(finding)]


def _evidence(finding: Finding) -> list[str]:
    """What a tier's part of the patch rests on, a line for each of its figures."""
    case, tier = finding.case, finding.tier
    choices = chosen(case)
    lines = [f"{cards.of_size(case.tier_gb)}, {tier.name}{f', {choices}' if choices else ''}"]
    settings = f"{finding.variant} settings hold" if finding.variant else "no settings hold"
    lines += [f"  {settings} {_figures(record)}" for record in finding.shown]
    largest = filter(None, (finding.alone, finding.with_lm))
    return lines + [f"  the most: {_figures(record)}{_open(record.requested)}" for record in largest]


def _open(case: Case) -> str:
    """What of a case is the largest that was tried, so that the card's own limit is not known."""
    largest = [f"{case.duration_s:g} s"] if case.duration_s >= LENGTHS_S[-1] else []
    largest += [f"batch {case.batch_size}"] if case.batch_size >= BATCHES[-1] else []
    return f"; {' and '.join(largest)}: the most of a request, not of the card" if largest else ""


def _figures(record: Record) -> str:
    case = record.requested
    size = f"{case.duration_s:g} s, batch {case.batch_size}, {with_lm(record.lm)}"
    if record.status != "ok" or record.peak_bytes is None:
        return f"{size}: {record.status}, {record.reason}"
    peak_gb = record.peak_bytes / GIB
    return (
        f"{size}: predicted peak {peak_gb:.2f} of {case.tier_gb:g} GB, {1 - peak_gb / case.tier_gb:.0%} left"
    )
