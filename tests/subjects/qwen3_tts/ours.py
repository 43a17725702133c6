"""What our networks make of the cases, part by part, under the names of `golden.py`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from harness.checkpoint import materialise, on_meta, parameter_shapes
from harness.nn.config import parse_config
from subjects.qwen3_tts.config import CodePredictorConfig, SpeakerConfig, TalkerConfig
from subjects.qwen3_tts.frames import FrameLoop
from subjects.qwen3_tts.models.code_predictor import CodePredictor
from subjects.qwen3_tts.models.talker import Talker
from subjects.qwen3_tts.prompt import Embedded, Reference, embed, layout
from subjects.qwen3_tts.sampling import GREEDY
from tests.subjects.qwen3_tts import cases
from tests.subjects.qwen3_tts.cases import END, GROUPS, LOGITS, PROMPTS, ROLE, Prompt

CPU = torch.device("cpu")


def built(build: Callable[[], nn.Module], prefix: str, dtype: torch.dtype, seed: int) -> Any:
    """A network with the weights of `seed`, whose names in the file begin with `prefix`."""
    module = on_meta(build)
    state = cases.weights(parameter_shapes(module, prefix), seed)
    materialise(module, state.__getitem__, prefix=prefix, device=CPU, dtype=dtype)
    return module


class Language:
    """Talker and code predictor of a width."""

    def __init__(self, width: int, dtype: torch.dtype, seed: int = 0):
        self.width, self.dtype, self.seed = width, dtype, seed
        file = cases.config(width)["talker_config"]
        talker = parse_config(file, TalkerConfig, "talker")
        predictor = parse_config(file["code_predictor_config"], CodePredictorConfig, "predictor")
        self.talker: Talker = built(lambda: Talker(talker), "talker.", dtype, seed)
        self.predictor: CodePredictor = built(
            lambda: CodePredictor(predictor, width), "talker.code_predictor.", dtype, seed
        )

    def stack(self) -> dict[str, Tensor]:
        """Hidden states of rows, and logits of the last."""
        hidden = self.talker(cases.rows(self.width, self.seed).to(self.dtype))
        return {"hidden": hidden, "logits": self.talker.codec_head(hidden[:, -1])[..., LOGITS]}

    def heads(self) -> dict[str, Tensor]:
        """Of frames whose codes are known the logits of every head."""
        state, codes = cases.frames(self.width, self.seed)
        tables = self.predictor.model.codec_embedding.parts()
        inputs = [state.to(self.dtype), self.talker.codec(codes[:, 0])]
        inputs += [table(codes[:, i]) for i, table in enumerate(tables[: GROUPS - 2], 1)]
        hidden = self.predictor(torch.stack(inputs, dim=1))
        heads = [head(hidden[:, i]) for i, head in enumerate(self.predictor.lm_head, 1)]
        return {"heads": torch.stack(heads, dim=1)[..., LOGITS]}

    def prompts(self) -> dict[str, Tensor]:
        """Rows of every prompt and what trails."""
        embedded = {prompt.name: self._embedded(prompt) for prompt in PROMPTS}
        return {
            f"{name}/{part}": getattr(rows, part)
            for name, rows in embedded.items()
            for part in ("rows", "trailing")
        }

    def codes(self) -> dict[str, Tensor]:
        """The likeliest codes of every prompt, all in one batch: of this model, and of one eager to end."""
        plain = self._codes("codes")
        cases.eager(self.talker.codec_head.weight)
        return plain | self._codes("codes to the end")

    def _codes(self, name: str) -> dict[str, Tensor]:
        prompts = [self._embedded(prompt) for prompt in PROMPTS]
        longest = max(len(prompt.rows) for prompt in prompts)
        loop = FrameLoop(
            self.talker, self.predictor, batch=len(prompts), rows=longest, frames=cases.FRAMES, sampling=GREEDY
        )
        loop.begin(prompts, [torch.Generator() for _ in prompts])
        loop.prefill()
        for _ in loop.run():
            pass
        written = zip(PROMPTS, loop.written().transpose(1, 2), loop.lengths(), strict=True)
        return {f"{prompt.name}/{name}": codes[:length] for prompt, codes, length in written}

    def _embedded(self, prompt: Prompt) -> Embedded:
        reference = torch.cat((ROLE, prompt.reference, END), dim=1)[0].tolist()
        ids = layout(
            torch.cat((ROLE, prompt.body, END, ROLE), dim=1)[0].tolist(),
            language=prompt.language,
            speaker=prompt.speaker,
            instruct=() if prompt.instruct is None else prompt.instruct[0].tolist(),
            x_vector=prompt.x_vector,
            reference=Reference(reference, prompt.codes.tolist()) if prompt.reference_frames else None,
            streaming=not prompt.non_streaming,
        )
        return embed(ids, self.talker, self.predictor, prompt.voice(self.width))
