"""Planning a song: metadata by chain of thought, then audio codes, five per second.

Phase 1 fills in what the request left open (tempo, key, ...), a few dozen tokens under a state
machine in which most are forced. Phase 2 emits exactly 5·seconds codes; in that phase only the
64,000 rows of the head that are codes are multiplied, 29 % of it. Guidance (`lm_cfg_scale`) is of phase 2
alone, as upstream's is since 2026-03-10: a thought is one row per item.

Batch items share the request and differ by seed. They decode together, each with a thought, a length and
a stream of uniform draws of its own, so an item's plan does not depend on the batch it is in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from acestep.lm import describe
from acestep.lm.backends.interface import Backend, DecodeLoop
from acestep.lm.decode.selector import Guidance
from acestep.lm.decode.step import OnCode
from acestep.lm.describe import Description
from acestep.lm.grammar.constraint import Constraint, MetadataConstraint
from acestep.lm.grammar.unconstrained import MOST_THOUGHT_TOKENS, Unconstrained, plausible
from acestep.request import DescriptionParams, GenerationParams
from acestep.result import Counts
from acestep.text.audio_codes import CODES_PER_SECOND
from acestep.text.metadata import Metadata, merge, parse
from acestep.text.prompts import (
    INSTRUMENTAL,
    LM_CAPTION_LIMIT,
    LYRIC_LIMIT,
    phase1_prompt,
    phase2_prompt,
    phase2_unconditional,
)
from acestep.text.tokenizer import Tokenizer
from harness.adjustments import Fallback
from harness.nn.sampling import Sampling
from harness.spans import span


@dataclass(frozen=True)
class Plan:
    """One entry per item: `metadata` (the request's, completed) and `codes`, int64 `[5·seconds]` on the
    device, or None without phase 2. `fallbacks`: what could not be done as it should."""

    metadata: tuple[Metadata, ...]
    codes: tuple[Tensor, ...] | None
    counts: Counts
    fallbacks: tuple[Fallback, ...] = ()


class Planner:
    """Planning and the text modes of a language model, whichever `backend` runs it."""

    def __init__(self, backend: Backend, tokenizer: Tokenizer):
        self.backend = backend
        self.tokenizer = tokenizer
        # Which of 150,000 tokens are open text takes a quarter second to find out, once per tokenizer.
        MetadataConstraint(tokenizer, Metadata(), caption=True, genres=True, language=True)

    def plan(
        self,
        params: GenerationParams,
        user: Metadata,
        seeds: Sequence[int],
        *,
        length_s: Callable[[float | None], float],
        max_duration_s: int,
        metadata: bool,
        codes: bool,
        on_code: OnCode | None = None,
    ) -> Plan:
        """Run phase 1 if `metadata`, then phase 2 if `codes`; one item per seed.

        `user`: what is fixed. `length_s`: seconds of an item, which set the number of its codes, by the
        duration that its metadata names, in a thought of at most `max_duration_s`. `on_code`: told of codes
        as they come, as far as the host knows of them (`DecodeLoop.codes`). Raises UsageError for a
        `max_duration_s` below 10, BenchError where a thought takes what its grammar does not allow.
        """
        sampling = Sampling(
            params.lm_temperature, params.lm_top_k, params.lm_top_p, params.lm_repetition_penalty
        )
        loop = self.backend.decode_loop(sampling, seeds)
        params = self._bounded(params)
        planned = (user,) * len(seeds)
        if metadata:
            planned = self._think(loop, params, user, len(seeds), max_duration_s)
        item_codes = None
        if codes:
            seconds = [length_s(item.duration) for item in planned]
            counts = [int(CODES_PER_SECOND * s) for s in seconds]
            item_codes = self._codes(loop, params, planned, counts, on_code)
        return Plan(planned, item_codes, loop.counts(), tuple(loop.fallbacks))

    def understand(self, params: DescriptionParams) -> Description:
        """What `params.audio_codes` sound like."""
        return describe.understand(self._describer(params), self.tokenizer, params)

    def create(self, params: DescriptionParams) -> Description:
        """A song from `params.query`."""
        return describe.create(self._describer(params), self.tokenizer, params)

    def format(self, params: DescriptionParams) -> Description:
        """`params.caption` and `params.lyrics`, written out in full."""
        return describe.format_request(self._describer(params), self.tokenizer, params)

    def _think(
        self, loop: DecodeLoop, params: GenerationParams, user: Metadata, items: int, max_duration_s: int
    ) -> tuple[Metadata, ...]:
        """Phase 1: the metadata of each item."""
        tokenizer = self.tokenizer
        with span("lm_prefill"):
            prompt = tokenizer.encode_prompt(phase1_prompt(params.caption, params.lyrics))
            constraints = [self._constraint(params, user, max_duration_s) for _ in range(items)]
        thoughts = loop.texts([prompt] * items, constraints)
        thought = [plausible(parse(tokenizer.decode(ids)), max_duration_s) for ids in thoughts]
        # Without the grammar it may say what nobody asked for: a caption in place of the user's.
        rest = {"caption": params.use_cot_caption, "language": params.use_cot_language, "genres": False}
        unasked = dict.fromkeys(name for name, wanted in rest.items() if not wanted)
        return tuple(merge(user, replace(metadata, **unasked)) for metadata in thought)

    def _constraint(self, params: GenerationParams, user: Metadata, max_duration_s: int) -> Constraint:
        if not params.use_constrained_decoding:
            return Unconstrained(MOST_THOUGHT_TOKENS)
        return MetadataConstraint(
            self.tokenizer,
            user,
            caption=params.use_cot_caption,
            language=params.use_cot_language,
            max_duration_s=max_duration_s,
        )

    def _codes(
        self,
        loop: DecodeLoop,
        params: GenerationParams,
        planned: Sequence[Metadata],
        counts: Sequence[int],
        on_code: OnCode | None,
    ) -> tuple[Tensor, ...]:
        """Phase 2: the codes of each item."""
        caption, lyrics, guidance = params.caption, params.lyrics, None
        with span("lm_prefill"):
            encode = self.tokenizer.encode_prompt
            prompts = [encode(phase2_prompt(caption, lyrics, item.to_yaml())) for item in planned]
            if params.lm_cfg_scale > 1:
                bare = encode(phase2_unconditional(params.lm_negative_prompt))
                guidance = Guidance(params.lm_cfg_scale, bare)
        return tuple(loop.codes(prompts, counts, guidance, on_code))

    def _bounded(self, params: GenerationParams) -> GenerationParams:
        """The request with its texts cut to what the model reads."""
        cut = self.tokenizer.truncate
        return replace(
            params,
            caption=cut(params.caption, LM_CAPTION_LIMIT),
            lyrics=INSTRUMENTAL if params.instrumental else cut(params.lyrics, LYRIC_LIMIT),
            lm_negative_prompt=cut(params.lm_negative_prompt, LM_CAPTION_LIMIT),
        )

    def _describer(self, params: DescriptionParams) -> DecodeLoop:
        sampling = Sampling(params.temperature, params.top_k, params.top_p, params.repetition_penalty)
        return self.backend.decode_loop(sampling, [params.seed])
