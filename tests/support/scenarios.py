"""What is asked of the language model, in every mode, and every token that it answers."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from acestep.lm.backends.interface import Backend, DecodeLoop
from acestep.lm.backends.pt_backend import PT
from acestep.lm.decode.selector import Guidance
from acestep.lm.grammar.constraint import MetadataConstraint
from acestep.lm.grammar.open_text import Lyrics
from acestep.lm.planner import Planner
from acestep.request import DescriptionParams, GenerationParams
from acestep.text.audio_codes import CODES
from acestep.text.metadata import Metadata
from acestep.weights.checkpoint import Source
from acestep.weights.layout import LMS
from acestep.weights.synthetic import Synthetic
from harness.checkpoint import materialise, on_meta
from harness.nn.config import Qwen3Config, parse_config
from harness.nn.qwen3 import Qwen3
from harness.nn.sampling import Sampling
from harness.random_weights import RandomWeights

CPU = torch.device("cpu")
LM = LMS[0]
LOUD = ("o_proj.weight", "down_proj.weight")
GREEDY, SAMPLED = 0.0, 0.85


class Checkpoint(Synthetic):
    """The tiny source with layers three times as loud: as they are, the greedy answer to a code is the same
    code, whatever the layers say. `change`: of tensors, by name.
    """

    def __init__(self, change: Callable[[str, Tensor], Tensor] = lambda name, tensor: tensor):
        super().__init__("synthetic-tiny")
        self.change = change

    def weights(self, folder: str) -> RandomWeights:
        weights = super().weights(folder)
        read = weights.read
        weights.read = lambda name: self.change(name, read(name) * (3 if name.endswith(LOUD) else 1))
        return weights


SOURCE = Checkpoint()
NOTHING = Metadata()
TOKENIZER = SOURCE.tokenizer(LM)


def our_own(source: Source, dtype: torch.dtype = torch.float32, device: torch.device = CPU) -> PT:
    """Our own model, which the others are compared with."""
    config = parse_config(source.config(LM), Qwen3Config, LM)
    model: Qwen3 = on_meta(lambda: Qwen3(config))
    materialise(model, source.weights(LM).read, device=device, dtype=dtype)
    return PT(model, device)


@dataclass
class Heard:
    """A backend, or its writer, and every token it gave, each text held against its grammar."""

    speaker: Any  # Backend, then its DecodeLoop
    tokens: list[list[int]]

    def decode_loop(self, *args: Any) -> "Heard":
        self.speaker = self.speaker.decode_loop(*args)
        return self

    def texts(self, prompts: Any, constraints: Any) -> list[list[int]]:
        fresh = deepcopy(constraints)
        texts = self.speaker.texts(prompts, constraints)
        for grammar, text in zip(fresh, texts, strict=True):
            grammar.advance(text)
            assert grammar.done
        self.tokens += texts
        return texts

    def codes(self, prompts: Any, counts: Any, guidance: Any, on_code: Any = None) -> list[Tensor]:
        reports: list[int] = []
        items = self.speaker.codes(prompts, counts, guidance, reports.append)
        assert reports == [*range(1, max(counts) + 1)] and on_code is None
        for codes, count in zip(items, counts, strict=True):
            assert codes.shape == (count,) and codes.dtype == torch.int64
            assert codes.min() >= 0 and codes.max() < CODES
        self.tokens += [codes.tolist() for codes in items]
        return items

    def counts(self):
        return self.speaker.counts()

    @property
    def fallbacks(self):
        return self.speaker.fallbacks


def heard(backend: Backend, scenario: Callable[..., None], temperature: float, **options: Any):
    """Every token that was said, and the counts of the work."""
    ear: Any = Heard(backend, [])
    scenario(Planner(ear, TOKENIZER), temperature, **options)
    return ear.tokens, ear.counts()


def plan(planner: Planner, temperature: float, seeds=(1,), user=NOTHING, codes=True, **changes):
    params = GenerationParams(
        caption="slow dub techno", lyrics="[Verse]\nLa la", lm_temperature=temperature, lm_cfg_scale=1.0
    )
    planner.plan(
        replace(params, **changes),
        user,
        seeds,
        length_s=lambda planned: planned or 12,
        max_duration_s=19,
        metadata=True,
        codes=codes,
    )


def describe(mode: str, **what: Any):
    def run(planner: Planner, temperature: float) -> None:
        params = DescriptionParams(
            max_lyrics_tokens=9, max_caption_tokens=6, temperature=temperature, top_k=50
        )
        getattr(planner, mode)(replace(params, **what))

    return run


def several(planner: Planner, temperature: float, items=(0, 1, 2)) -> None:
    """Items that share nothing but the request: prompts, grammars and numbers of codes are each their own."""
    encode = TOKENIZER.encode
    prompts = [
        encode("a slow song about the sea and the rain"),
        encode("a waltz"),
        encode("a slow song about the sea, though"),
    ]
    grammars = [
        lambda: MetadataConstraint(TOKENIZER, Metadata(bpm=77, keyscale="C# major"), max_duration_s=40),
        lambda: MetadataConstraint(TOKENIZER, Metadata(), caption=True, language=True),
        lambda: MetadataConstraint(TOKENIZER, Metadata(), caption=True, genres=True, lyrics=Lyrics(7)),
    ]
    writer: DecodeLoop = planner.backend.decode_loop(
        Sampling(temperature, top_k=50), [(5, 3, 8)[i] for i in items]
    )
    writer.texts([prompts[i] for i in items], [grammars[i]() for i in items])
    guidance = Guidance(2.0, encode("a slow song about nothing"))
    writer.codes([[*prompts[i], 17] for i in items], [(4, 9, 2)[i] for i in items], guidance)


SONG = Metadata(bpm=100, duration=12, keyscale="A minor", timesignature="4")
OPEN = {"use_cot_caption": True, "use_cot_language": True}
SCENARIOS = {
    "plan": lambda p, t: plan(p, t, codes=False, lm_cfg_scale=2.0, lm_top_k=50, **OPEN),
    "codes": lambda p, t: plan(p, t, user=SONG, lm_top_k=50),
    "guided codes": lambda p, t: plan(p, t, user=SONG, lm_cfg_scale=2.0, lm_top_k=50),
    "two items": lambda p, t: plan(p, t, (5, 3), lm_cfg_scale=2.0, lm_top_k=50, lm_repetition_penalty=1.2),
    "several prompts": several,
    "understand": describe("understand", audio_codes="<|audio_code_17|><|audio_code_4|>"),
    "create": describe("create", query="a sad song"),
    "format": describe("format", caption="techno", lyrics="[Verse]\nLa"),
}
