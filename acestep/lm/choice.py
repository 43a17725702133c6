"""Which language model an engine has: the caller's choice or a default, within limits, of what is there.

A model that was named and is not there is refused. Where the choice is open, the nearest that is there stands
in for the default, and a note says so. Nothing is loaded and torch is not imported.
"""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

from acestep.gpu_config import GPUConfig
from acestep.weights.layout import LM_PREFIX, LMS
from acestep.weights.sources import lacks, language_models
from harness.adjustments import Adjustments
from harness.errors import CheckpointError, MissingPrerequisite, UsageError

AUTO = "auto"


class Choice(NamedTuple):
    """A language model, or why there is none and what to do about it."""

    lm: str | None
    reason: str = ""


class LanguageModels:
    """The language models of a source, as far as a card may have them.

    `tier`: whose defaults hold, None on a plain CPU. `limited`: whether its limits do.
    """

    def __init__(self, source: str, tier: GPUConfig | None, limited: bool):
        self._source = source
        self._tier = tier
        self._limits = tier if limited else None
        self._there = language_models(source)
        self._allowed = tuple(LM_PREFIX + size for size in self._limits.lm_sizes) if self._limits else LMS

    @cached_property
    def _lacks(self) -> dict[str, str | None]:
        """What each of those that are there lacks, None where it is whole: files are read for it."""
        return {name: lacks(self._source, name) for name in self._there}

    @cached_property
    def _usable(self) -> tuple[str, ...]:
        return tuple(name for name in self._allowed if name in self._lacks and not self._lacks[name])

    def named(self, name: str | None, changes: Adjustments) -> Choice:
        """What is loaded where `name`, or none, was asked for.

        Raises UsageError for an unknown name, MissingPrerequisite for a model that is not there or not whole.
        """
        if name is None:
            example = next((name for name in self._allowed if name in self._there), LMS[0])
            return Choice(None, f"no language model is loaded; load one, such as {example}")
        if name not in LMS:
            raise UsageError(f"lm: {name!r} is not allowed; use one of {AUTO}, {', '.join(LMS)}, or none")
        if name in self._usable:
            return Choice(name)
        if self._limits is None or name in self._allowed:
            raise self._missing(name)
        applied = self._usable[-1] if self._usable else None
        changes.note("lm", name, applied, f"is over the limit of {self._limits.name}")
        return Choice(applied) if applied else self._none()

    def default(self, usual: str | None, want: bool, changes: Adjustments, notes: list[str]) -> Choice:
        """What is loaded where the choice is open: `usual`, else the tier's default, else the smallest.

        A tier that loads none by itself does when one is wanted.
        """
        if not self._allowed and not usual:
            return self._none()
        if self._tier and not (self._tier.load_lm or want):
            return self.named(None, changes)
        best = usual or (self._tier and self._tier.default_lm_name) or LMS[0]
        if best in self._usable:
            return Choice(best)
        if usual and usual not in self._allowed:
            return self.named(usual, changes)
        if not self._usable:
            choice = self._none()
            notes.append(f"lm: {choice.reason}")
            return choice
        nearest = min(self._usable, key=lambda name: _order(name, best))
        why = self._lacks.get(best) or f"{self._source} has no folder of this name"
        notes.append(f"lm: {best} is the default, but {why}; using {nearest}")
        return Choice(nearest)

    def _missing(self, name: str) -> MissingPrerequisite:
        others = f"; use {' or '.join(self._usable)}, or none" if self._usable else "; add it, or use none"
        if lack := self._lacks.get(name):
            return CheckpointError(lack + others)
        return MissingPrerequisite(f"lm: {self._source} has no folder {name!r}{others}")

    def _none(self) -> Choice:
        """Why none is loaded, of those that are there."""
        tier = self._limits and self._limits.name
        if not self._allowed:
            return Choice(None, f"{tier} has room for no language model; give --no-limits")
        if lack := next((self._lacks[name] for name in self._allowed if self._lacks.get(name)), None):
            return Choice(None, f"no language model is whole ({lack.partition(';')[0]}); download it again")
        if not self._there:
            return Choice(None, f"{self._source} has no language model; add {self._allowed[0]}")
        limit = f"{tier} allows no language model over {self._allowed[-1]}, {self._source} has"
        return Choice(None, f"{limit} {', '.join(self._there)}; give --no-limits, or add the smaller one")


def _order(name: str, best: str) -> tuple[bool, int]:
    """How near a model is to the best one: smaller ones first, they fit where the best one does."""
    above = LMS.index(name) - LMS.index(best)
    return above > 0, abs(above)
