"""Planning a song: metadata by chain of thought, then audio codes, five per second.

Phase 1 fills in what the request left open (tempo, key, ...), a few dozen tokens under a state
machine in which most are forced. Phase 2 emits exactly 5·seconds codes; in that phase only the
64,000 rows of the head that are codes are multiplied, 29 % of it.

Batch items share the prompt and differ by seed. They decode together, each with its own stream of
uniform draws, so an item's plan does not depend on the batch it is in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from acestep.audio_codes import CODES, CODES_PER_SECOND
from acestep.lm.constraint import Choice, Codes, CodesConstraint, Done, Forced, Free, MetadataConstraint
from acestep.lm.metadata import Metadata, merge, parse
from acestep.lm.sampling import Sampling
from acestep.lm.session import Prefix, Session
from acestep.models.qwen3 import Qwen3
from acestep.prompts import Part, phase1_prompt, phase1_unconditional, phase2_prompt, phase2_unconditional
from acestep.request import GenerationParams
from acestep.result import Counts
from acestep.spans import span
from acestep.tokenizer import FIRST_CODE, IM_END, LM_VOCAB, Tokenizer

MAX_METADATA_TOKENS = 700  # a caption of 512 and every field


@dataclass(frozen=True)
class Plan:
    """`metadata`: the request's, completed. `codes [B, 5·seconds]`, or None without phase 2."""

    metadata: Metadata
    codes: Tensor | None
    counts: Counts


class Planner:
    """The pt engine: eager PyTorch over a static cache."""

    backend = "pt"

    def __init__(self, model: Qwen3, tokenizer: Tokenizer):
        self.model = model
        self.tokenizer = tokenizer
        self.device = model.embed_tokens.weight.device

    def plan(self, params: GenerationParams, seeds: Sequence[int], max_duration_s: int = 600) -> Plan:
        """Run the phases the request asks for."""
        run = _Run(self, params, seeds)
        metadata, prefix = run.user, None
        if params.wants_metadata:
            metadata, prefix = run.metadata(max_duration_s)
        codes = run.codes(metadata, prefix) if params.thinking else None
        return Plan(metadata, codes, run.counts())


def user_metadata(params: GenerationParams) -> Metadata:
    """What the request itself decides."""
    return Metadata(
        bpm=params.bpm,
        duration=int(params.duration or 30),
        keyscale=params.keyscale or None,
        timesignature=params.timesignature or None,
    )


class _Run:
    """One plan: its random streams, its guidance and what it has counted."""

    def __init__(self, planner: Planner, params: GenerationParams, seeds: Sequence[int]):
        self.planner = planner
        self.params = params
        self.seeds = seeds
        self.user = user_metadata(params)
        self.guided = params.lm_cfg_scale > 1
        self.sampling = Sampling(
            params.lm_temperature, params.lm_top_k, params.lm_top_p, params.lm_repetition_penalty
        )
        self.prompt_tokens = self.prefill_tokens = self.steps = self.kept = self.code_count = 0

    def counts(self) -> Counts:
        return Counts(
            lm_prompt_tokens=self.prompt_tokens,
            lm_prefill_tokens=self.prefill_tokens,
            lm_decode_steps=self.steps,
            lm_decode_tokens=self.kept,
            audio_codes=self.code_count,
        )

    def metadata(self, max_duration_s: int) -> tuple[Metadata, Prefix]:
        """Phase 1, once for the whole batch."""
        params, tokenizer = self.params, self.planner.tokenizer
        constraint = MetadataConstraint(
            tokenizer,
            self.user,
            caption=params.use_cot_caption,
            language=params.use_cot_language,
            max_duration_s=max_duration_s,
        )
        with span("lm_prefill"):
            session = self._open(
                phase1_prompt(params.caption, params.lyrics),
                phase1_unconditional(params.lyrics, params.lm_negative_prompt),
                copies=1,
                new_tokens=MAX_METADATA_TOKENS,
            )
        with span("lm_decode"):
            ids = self._constrained(session, constraint)
        self.prefill_tokens += session.prefill_tokens
        self.kept += len(ids)
        return merge(self.user, parse(tokenizer.decode(ids))), session.prefix()

    def _constrained(self, session: Session, constraint: MetadataConstraint) -> list[int]:
        uniforms = self._uniforms(self.seeds[:1], MAX_METADATA_TOKENS)
        ids: list[int] = []
        seen = self._seen(session)
        while True:
            with span("constraint"):
                allowed = constraint.allowed(lambda: int(self._logits(session, None).argmax()))
            if isinstance(allowed, Done):
                return ids
            if isinstance(allowed, Forced):
                chosen = list(allowed.ids)
                if chosen[-1] == IM_END:  # nothing is predicted from the end of the turn
                    return ids + chosen
                with span("forward"):
                    session.append(chosen)
            else:
                chosen = [self._pick(session, allowed, uniforms[:, len(ids)], seen)]
                with span("forward"):
                    session.step(torch.tensor(chosen, device=self.planner.device))
                self.steps += 1
            if seen is not None:
                seen[:, chosen] = True
            with span("constraint"):
                constraint.advance(chosen)
            ids += chosen

    def _pick(self, session: Session, allowed: Choice | Free, uniform: Tensor, seen: Tensor | None) -> int:
        """One token among the allowed ones: a few rows of the head, or all of it under a mask."""
        if isinstance(allowed, Choice):
            ids = torch.tensor(allowed.ids, device=self.planner.device)
            logits = self._logits(session, ids)
            sampling = Sampling(0.0) if allowed.greedy else self.sampling
            with span("sampling"):
                return int(ids[sampling.pick(logits, uniform, None if seen is None else seen[:, ids])])
        logits = self._logits(session, None)
        with span("sampling"):
            masked = logits.masked_fill(~allowed.mask.to(logits.device), -torch.inf)
            return int(self.sampling.pick(masked, uniform, seen))

    def codes(self, metadata: Metadata, prefix: Prefix | None) -> Tensor:
        """Phase 2: `[B, target]` code indices. Nothing is read back from the device until the end."""
        params = self.params
        target = int(CODES_PER_SECOND * (params.duration or 30))
        constraint = CodesConstraint(target)
        with span("lm_prefill"):
            session = self._open(
                phase2_prompt(params.caption, params.lyrics, metadata.to_yaml()),
                phase2_unconditional(params.caption, params.lyrics, params.lm_negative_prompt),
                copies=len(self.seeds),
                new_tokens=target,
                known=prefix,
            )
        with span("lm_decode"):
            uniforms = self._uniforms(self.seeds, target)
            rows = slice(FIRST_CODE, FIRST_CODE + CODES)
            seen = self._seen(session, CODES)
            picked: list[Tensor] = []
            while isinstance(constraint.allowed(), Codes):
                if picked:
                    with span("forward"):
                        session.step(picked[-1] + FIRST_CODE)
                    self.steps += 1
                logits = self._logits(session, rows)
                with span("sampling"):
                    index = self.sampling.pick(logits, uniforms[:, len(picked)], seen)
                    if seen is not None:
                        seen.scatter_(1, index[:, None], True)
                picked.append(index)
                constraint.advance([FIRST_CODE])
        self.prefill_tokens += session.prefill_tokens
        self.kept += target * len(self.seeds)
        self.code_count = target
        return torch.stack(picked, dim=1)

    def _open(
        self,
        conditional: list[Part],
        unconditional: list[Part],
        *,
        copies: int,
        new_tokens: int,
        known: Prefix | None = None,
    ) -> Session:
        branches = [conditional, unconditional] if self.guided else [conditional]
        ids = [self.planner.tokenizer.encode_prompt(parts) for parts in branches]
        session = Session(self.planner.model, ids, copies, new_tokens)
        session.prefill(known)
        self.prompt_tokens += copies * sum(map(len, ids))
        return session

    def _logits(self, session: Session, rows: slice | Tensor | None) -> Tensor:
        """Guided fp32 logits `[items, V]` over `rows` of the head (None: all of it)."""
        table = self.planner.model.embed_tokens.weight
        with span("forward"):
            logits = F.linear(session.hidden, table if rows is None else table[rows]).float()
        if not self.guided:
            return logits
        with span("cfg"):
            conditional, unconditional = logits.chunk(2)
            return unconditional + self.params.lm_cfg_scale * (conditional - unconditional)

    def _uniforms(self, seeds: Sequence[int], count: int) -> Tensor:
        """`[items, count]` draws, a stream per seed."""
        streams = [torch.rand(count, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return torch.stack(streams).to(self.planner.device)

    def _seen(self, session: Session, codes: int | None = None) -> Tensor | None:
        """`[items, V]` marks of tokens so far, kept only when a penalty needs them."""
        if self.params.lm_repetition_penalty == 1.0:
            return None
        if codes is not None:
            return torch.zeros(session.copies, codes, dtype=torch.bool, device=self.planner.device)
        seen = torch.zeros(1, LM_VOCAB, dtype=torch.bool, device=self.planner.device)
        seen[:, session.prompts[0]] = True
        return seen
