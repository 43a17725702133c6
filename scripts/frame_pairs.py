"""Qwen3-TTS's talker and frames beside the published package's own loop, with the same weights and rows."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch

from harness.device import DTYPES, describe, resolve_device, synchroniser
from harness.parity import compare
from scripts.in_turn import Both, Decode, show, step_ms
from subjects.qwen3_tts import checkpoint, oracles, weights
from subjects.qwen3_tts.frames import FrameLoop
from subjects.qwen3_tts.models.code_predictor import CodePredictor
from subjects.qwen3_tts.models.talker import Talker
from subjects.qwen3_tts.prompt import PUBLISHED as IDS
from subjects.qwen3_tts.prompt import Embedded
from subjects.qwen3_tts.synthetic_configs import MODELS

ROWS = 32  # of the prompt
SHORT = 2  # frames of a run that is taken off
CONTROLS = 1024  # control tokens behind the codes, of which the package forbids all but the end


def run(options: argparse.Namespace) -> None:
    """Time each part that `scripts.frame_ratio` asks for in turn, and print it when it is done."""
    device = resolve_device(options.device)
    oracles.package(oracles.PACKAGE)
    weights_of = f"{options.source}, {options.model}, {options.dtype}"
    print(f"{describe(device)}, {torch.get_num_threads()} threads, {weights_of}")
    with torch.inference_mode():
        sides = Sides(options.source, options.model, device, DTYPES[options.dtype])
        for part in options.parts:
            both = beside(part, sides, options.frames)
            show(part, both, options.pairs, "qwen-tts", "ms/frame")


class GivenCodes(FrameLoop):
    """A loop whose frames have all codes but the first given: zeros."""

    def _draw_others(self) -> None:
        self._frames.index_copy_(0, self._index, self.codes[None])


class Sides:
    """Both implementations of a model, with the same tensors, and the rows they read."""

    def __init__(self, source: str, model: str, device: torch.device, dtype: torch.dtype):
        configs, opened = checkpoint.read(source, model), weights.open_source(source, model)
        parts = (
            weights.network(opened, configs, name, device, dtype) for name in ("talker", "code_predictor")
        )
        self.talker: Talker
        self.predictor: CodePredictor
        self.talker, self.predictor = parts  # type: ignore[assignment]
        states = {"": self.talker.state_dict(), "code_predictor.": self.predictor.state_dict()}
        state = {prefix + name: tensor for prefix, part in states.items() for name, tensor in part.items()}
        self.theirs = oracles.fill(oracles.generation(MODELS[source][model]).talker, state, dtype)
        width = configs.talker.hidden_size
        rows = torch.randn(ROWS + 2, width, generator=torch.Generator().manual_seed(0)).to(device, dtype)
        self.prompt = Embedded(rows[:ROWS], rows[ROWS : ROWS + 1], rows[-1])

    def off(self) -> float:
        """How far apart the networks are: the talker's hidden states, and the predictor's last logits."""
        x = self.prompt.rows[None]
        theirs = self.theirs.model(inputs_embeds=x, use_cache=False).last_hidden_state
        frame = x[:, : self.predictor.config.num_code_groups]  # all inputs of a frame: the last head's
        logits = self.predictor.lm_head[-1](self.predictor(frame)[:, -1])
        return max(
            compare(theirs, self.talker(x)).relative_rms,
            compare(self.theirs.code_predictor(inputs_embeds=frame).logits[:, -1], logits).relative_rms,
        )

    def our_decode(self, longest: int, loop_of: type[FrameLoop]) -> Decode:
        loop = loop_of(self.talker, self.predictor, batch=1, rows=ROWS, frames=longest, ends=False)

        def decode(frames: int) -> None:
            loop.begin([self.prompt], [torch.Generator().manual_seed(0)], frames)
            loop.prefill()
            for _ in loop.run():
                pass

        return decode

    def their_decode(self, longest: int, predict: Callable[..., Any] | None) -> Decode:
        """`predict`: instead of the code predictor's own generation."""
        x, trailing, pad = self.prompt.rows[None], self.prompt.trailing[None], self.prompt.pad[None, None]
        forbidden = list(range(self.talker.config.vocab_size - CONTROLS, self.talker.config.vocab_size))
        generate = predict or self.theirs.code_predictor.generate

        def decode(frames: int) -> None:
            with mock.patch.object(self.theirs.code_predictor, "generate", generate):
                self.theirs.generate(
                    inputs_embeds=x,
                    attention_mask=torch.ones(1, ROWS, dtype=torch.long, device=x.device),
                    trailing_text_hidden=trailing,
                    tts_pad_embed=pad,
                    max_new_tokens=frames + 1,
                    min_new_tokens=2,
                    eos_token_id=IDS.eos,
                    pad_token_id=IDS.eos,
                    suppress_tokens=forbidden,
                    output_hidden_states=True,
                    return_dict_in_generate=True,
                    **_drawn(repetition_penalty=1.05),
                    **{f"subtalker_{name}": value for name, value in _drawn("dosample").items()},
                )

        return decode


def _drawn(sample: str = "do_sample", **more: float) -> dict[str, Any]:
    return {sample: True, "top_k": 50, "top_p": 1.0, "temperature": 0.9, **more}


def beside(part: str, sides: Sides, frames: int) -> Both:
    """Both of `part`, warm. Raises MissingPrerequisite without the package."""
    device, longest = sides.prompt.rows.device, SHORT + frames
    if part == "talker":
        codes = torch.zeros(1, sides.predictor.config.num_code_groups - 1, dtype=torch.long, device=device)
        frame = SimpleNamespace(sequences=codes)
        decodes = sides.their_decode(longest, lambda **_: frame), sides.our_decode(longest, GivenCodes)
    else:
        decodes = sides.their_decode(longest, None), sides.our_decode(longest, FrameLoop)
    for decode in decodes:
        decode(1)
    wait = synchroniser(device) or (lambda: None)
    return Both(*(partial(step_ms, decode, frames, wait, SHORT) for decode in decodes), sides.off())
