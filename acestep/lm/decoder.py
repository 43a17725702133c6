"""From prompts to tokens: guidance, sampling and grammar over the rows of a session.

Items decode together and each keeps to itself: its own grammar, its own stream of uniform draws, its own
length. So what an item says does not depend on the batch it is in, but for the rounding of matrix products.
With guidance an item is two rows, the conditional one first; both are fed the same tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from acestep.audio_codes import CODES
from acestep.lm.allowed import Choice, Forced, Free, allowed_mask
from acestep.lm.constraint import MetadataConstraint
from acestep.lm.sampling import Sampling
from acestep.lm.session import Prefix, Session
from acestep.models.qwen3 import Qwen3
from acestep.result import Counts
from acestep.spans import span
from acestep.tokenizer import FIRST_CODE, TEXT_VOCAB


class Decoder:
    """One request at the language model: a stream per seed, and a count of what was done."""

    def __init__(
        self,
        model: Qwen3,
        device: torch.device,
        sampling: Sampling,
        seeds: Sequence[int],
        cfg_scale: float = 1.0,
    ) -> None:
        self.model = model
        self.device = device
        self.sampling = sampling
        self.cfg_scale = cfg_scale
        self.branches = 2 if cfg_scale > 1 else 1
        self.streams = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.prompt_tokens = self.prefill_tokens = self.steps = self.kept = self.longest_codes = 0

    def counts(self) -> Counts:
        return Counts(
            lm_prompt_tokens=self.prompt_tokens,
            lm_prefill_tokens=self.prefill_tokens,
            lm_decode_steps=self.steps,
            lm_decode_tokens=self.kept,
            audio_codes=self.longest_codes,
        )

    def open(
        self, prompts: Sequence[Sequence[list[int]]], new_tokens: int, known: Sequence[Prefix] = ()
    ) -> Session:
        """A session of `prompts`: per item its conditional one, and the unconditional one if guided."""
        rows = [prompt for branches in prompts for prompt in branches[: self.branches]]
        session = Session(self.model, rows, new_tokens, self.device)
        session.prefill(known)
        self.prompt_tokens += sum(map(len, rows))
        self.prefill_tokens += session.prefill_tokens
        return session

    def write(self, session: Session, constraints: Sequence[MetadataConstraint]) -> list[list[int]]:
        """Texts, one per item, each under its own constraint to its end."""
        texts: list[list[int]] = [[] for _ in constraints]
        seen = self._seen(session.prompts[:: self.branches])
        while True:
            runs = self._round(session, constraints, seen)
            for item, (text, run) in enumerate(zip(texts, runs, strict=True)):
                text += run
                if seen is not None and run:
                    seen[item, run] = True
            # Nothing is predicted from the end of a text, so it is not computed.
            runs = [[] if c.done else run for c, run in zip(constraints, runs, strict=True)]
            if not any(runs):
                break
            with span("forward"):
                session.extend([run for run in runs for _ in range(self.branches)])
            if max(map(len, runs)) == 1:
                self.steps += 1
            else:
                self.prefill_tokens += self.branches * sum(map(len, runs))
        self.kept += sum(map(len, texts))
        return texts

    def _round(
        self, session: Session, constraints: Sequence[MetadataConstraint], seen: Tensor | None
    ) -> list[list[int]]:
        """What each item says next: a forced run, or a choice and what is certain after it."""
        everything = cache(lambda: self._logits(session.hidden, slice(TEXT_VOCAB)))

        def peek(item: int) -> Callable[[], int]:
            return lambda: int(everything()[item].argmax())

        with span("constraint"):
            allowed = [c.allowed(peek(item)) for item, c in enumerate(constraints)]
        runs = [list(a.ids) if isinstance(a, Forced) else [] for a in allowed]
        choosing = {item: a for item, a in enumerate(allowed) if isinstance(a, Choice | Free)}
        if choosing:
            for item, token in zip(choosing, self._choose(session, choosing, everything, seen), strict=True):
                runs[item] = [token]
        with span("constraint"):
            for item, (constraint, run) in enumerate(zip(constraints, runs, strict=True)):
                constraint.advance(run)
                if item in choosing and (certain := constraint.certain()):
                    constraint.advance(certain)
                    run += certain
        return runs

    def _choose(
        self,
        session: Session,
        allowed: dict[int, Choice | Free],
        everything: Callable[[], Tensor],
        seen: Tensor | None,
    ) -> list[int]:
        """A token for each of the items `allowed` names; few rows of the head where they are enough."""
        items = list(allowed)
        choices = [a for a in allowed.values() if isinstance(a, Choice)]
        if len(choices) == len(items):
            few = sorted({token for choice in choices for token in choice.ids})
            ids = torch.tensor(few, device=self.device)
            mask = torch.tensor([[token in choice.ids for token in few] for choice in choices])
            logits = self._logits(session.hidden, ids)[items]
        else:
            ids = None
            mask = torch.stack([allowed_mask(a) for a in allowed.values()])
            logits = everything()[items]
        greedy = torch.tensor([isinstance(a, Choice) and a.greedy for a in allowed.values()])
        uniform = torch.cat([torch.rand(1, generator=self.streams[item]) for item in items])
        with span("sampling"):
            logits = logits.masked_fill(~mask.to(self.device), -torch.inf)
            marks = None if seen is None else seen[items][:, slice(TEXT_VOCAB) if ids is None else ids]
            picked = self.sampling.pick(logits, uniform.to(self.device), marks)
            picked = torch.where(greedy.to(self.device), logits.argmax(-1), picked)
            return (picked if ids is None else ids[picked]).tolist()

    def codes(self, session: Session, counts: Sequence[int], items: Sequence[int]) -> list[Tensor]:
        """Audio codes, int64 `[counts[i]]` on the device, in the session's order of items.

        Only codes are multiplied, so nothing else can follow. `items` are those of the session, `counts`
        never rise, so that the items still decoding are always the first ones. Nothing is read back from
        the device.
        """
        longest = counts[0]
        uniforms = torch.zeros(longest, len(items))
        for place, (item, count) in enumerate(zip(items, counts, strict=True)):
            uniforms[:count, place] = torch.rand(count, generator=self.streams[item])
        uniforms = uniforms.to(self.device)
        codes = torch.zeros(len(items), longest, dtype=torch.long, device=self.device)
        seen = self._seen([[]] * len(items), CODES)
        rows = slice(FIRST_CODE, FIRST_CODE + CODES)
        live = len(items)
        for index in range(longest):
            while counts[live - 1] <= index:
                live -= 1
            if index:
                with span("forward"):
                    session.keep(live * self.branches)
                    session.step((codes[:live, index - 1] + FIRST_CODE).repeat_interleave(self.branches))
                self.steps += 1
            logits = self._logits(session.hidden[: live * self.branches], rows)
            with span("sampling"):
                marks = None if seen is None else seen[:live]
                picked = self.sampling.pick(logits, uniforms[index, :live], marks)
                codes[:live, index] = picked
                if marks is not None:
                    marks.scatter_(1, picked[:, None], True)
        self.kept += sum(counts)
        self.longest_codes = longest
        return [row[:count] for row, count in zip(codes, counts, strict=True)]

    def _logits(self, hidden: Tensor, rows: slice | Tensor) -> Tensor:
        """Guided fp32 logits `[items, V]` over `rows` of the head."""
        table = self.model.embed_tokens.weight
        with span("forward"):
            logits = F.linear(hidden, table[rows]).float()
        if self.branches == 1:
            return logits
        with span("cfg"):
            conditional, unconditional = logits.unflatten(0, (-1, 2)).unbind(1)
            return unconditional + self.cfg_scale * (conditional - unconditional)

    def _seen(self, prompts: Sequence[list[int]], vocabulary: int | None = None) -> Tensor | None:
        """`[items, V]` marks of tokens so far, kept only when a penalty needs them."""
        if self.sampling.repetition_penalty == 1.0:
            return None
        size = self.model.config.vocab_size if vocabulary is None else vocabulary
        seen = torch.zeros(len(prompts), size, dtype=torch.bool, device=self.device)
        for marks, prompt in zip(seen, prompts, strict=True):
            marks[prompt] = True
        return seen
