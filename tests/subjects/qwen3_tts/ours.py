"""What our networks make of the cases, part by part, under the names of `golden.py`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from harness.checkpoint import materialise, on_meta
from harness.nn.config import parse_config
from harness.nn.folded import fold, stored_shapes
from subjects.qwen3_tts import mel
from subjects.qwen3_tts.config import CodePredictorConfig, DecoderConfig, SpeakerConfig, TalkerConfig
from subjects.qwen3_tts.frames import FrameLoop
from subjects.qwen3_tts.models.code_predictor import CodePredictor
from subjects.qwen3_tts.models.decoder import Decoder
from subjects.qwen3_tts.models.decoder_state import DecoderState
from subjects.qwen3_tts.models.speaker import SpeakerEncoder
from subjects.qwen3_tts.models.talker import Talker
from subjects.qwen3_tts.prompt import Embedded, Reference, embed, layout
from subjects.qwen3_tts.sampling import GREEDY
from tests.subjects.qwen3_tts import cases
from tests.subjects.qwen3_tts.cases import (
    CHUNK,
    CONTEXT,
    END,
    GROUPS,
    LOGITS,
    PROMPTS,
    ROLE,
    SAMPLES,
    WIDTHS,
    Prompt,
)

CPU = torch.device("cpu")
STEPS = (1, 4, 2, 3, 1)  # frames of each step of a stream

Damage = Callable[[dict[str, Tensor]], object]  # to the weights in the file


def built(
    build: Callable[[], nn.Module], prefix: str, dtype: torch.dtype, seed: int, damage: Damage | None = None
) -> Any:
    """A network with the weights of `seed`, whose names in the file begin with `prefix`."""
    module = on_meta(build)
    state = cases.weights(stored_shapes(module, prefix), seed)
    if damage:
        damage(state)
    read = partial(fold, module, read=lambda name: state[prefix + name])
    materialise(module, read, device=CPU, dtype=dtype)
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
            self.talker,
            self.predictor,
            batch=len(prompts),
            rows=longest,
            frames=cases.FRAMES,
            sampling=GREEDY,
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


class Sound:
    """Speaker encoder, its mel, and decoder. `damage`: to the weights in their files."""

    def __init__(self, dtype: torch.dtype, seed: int = 0, damage: Damage | None = None, **config: Any):
        self.dtype, self.seed, self.damage = dtype, seed, damage
        self.config = cases.DECODER | config

    def speaker(self) -> dict[str, Tensor]:
        """Vectors of voices, of either width."""
        return {f"{name}/speaker": self._voices(width) for name, width in WIDTHS.items()}

    def mel(self) -> dict[str, Tensor]:
        """Log-mels of recordings."""
        return {"mel": mel.log_mel(cases.samples(self.seed).to(self.dtype))}

    def decoder(self) -> dict[str, Tensor]:
        """Audio in one pass."""
        return {"decoder": self._decoder()(cases.codes(self.seed))[:, SAMPLES]}

    def chunked(self) -> dict[str, Tensor]:
        """Audio in chunks, as the package makes it."""
        return {"chunked": self._decoder().chunked(cases.codes(self.seed)[:1], CHUNK, CONTEXT)[:, SAMPLES]}

    def streamed(self) -> dict[str, Tensor]:
        """Audio in steps of a stream, which is to be that of one pass."""
        state = DecoderState(self._decoder(), 2)
        samples = [state.step(codes) for codes in cases.codes(self.seed).split(STEPS, dim=-1)]
        return {"decoder": torch.cat(samples, dim=-1)[:, SAMPLES]}

    def _voices(self, width: int) -> Tensor:
        config = parse_config(cases.config(width)["speaker_encoder_config"], SpeakerConfig, "speaker")
        network = built(
            lambda: SpeakerEncoder(config), "speaker_encoder.", self.dtype, self.seed, self.damage
        )
        return network(cases.mels(self.seed).to(self.dtype))

    def _decoder(self) -> Decoder:
        config = parse_config(self.config, DecoderConfig, "decoder")
        return built(lambda: Decoder(config), "decoder.", self.dtype, self.seed, self.damage)
