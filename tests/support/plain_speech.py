"""Qwen3-TTS's language side as its formulas, in NumPy and fp64, one position and one head after another.

It shares nothing with the package but the data of a prompt. Slow, and meant to be read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from harness.nn.config import StackConfig
from subjects.qwen3_tts.config import CodePredictorConfig, TalkerConfig
from subjects.qwen3_tts.prompt import Prompt

Array = NDArray[np.float64]


def silu(x: Array) -> Array:
    return x / (1 + np.exp(-x))


def rms(x: Array, weight: Array, eps: float) -> Array:
    return x / np.sqrt((x**2).mean() + eps) * weight


class PlainSpeech:
    """`weights`: by published name."""

    def __init__(self, weights: Mapping[str, Array], talker: TalkerConfig, predictor: CodePredictorConfig):
        self.weights, self.talker, self.predictor = weights, talker, predictor

    def text(self, token: int) -> Array:
        w = self.weights
        x = w["talker.model.text_embedding.weight"][token]
        x = w["talker.text_projection.linear_fc1.weight"] @ x + w["talker.text_projection.linear_fc1.bias"]
        return (
            w["talker.text_projection.linear_fc2.weight"] @ silu(x)
            + w["talker.text_projection.linear_fc2.bias"]
        )

    def codec(self, token: int) -> Array:
        return self.weights["talker.model.codec_embedding.weight"][token]

    def acoustic(self, index: int, code: int) -> Array:
        return self.weights[f"talker.code_predictor.model.codec_embedding.{index - 1}.weight"][code]

    def frame(self, codes: Sequence[int]) -> Array:
        return self.codec(codes[0]) + sum(self.acoustic(i, code) for i, code in enumerate(codes) if i)

    def rows(self, prompt: Prompt, x_vector: Array | None = None) -> list[Array]:
        rows = []
        for text, codes, speaks in prompt.rows:
            row = self.text(text)
            if speaks:
                row = row + x_vector
            elif len(codes) == 1:
                row = row + self.codec(codes[0])
            elif codes:
                row = row + self.frame(codes)
            rows.append(row)
        return rows

    def rope(self, x: Array, position: int, theta: float) -> Array:
        half = len(x) // 2
        turned = np.empty_like(x)
        for j in range(half):
            angle = position / theta ** (j / half)
            cos, sin = np.cos(angle), np.sin(angle)
            turned[j] = x[j] * cos - x[half + j] * sin
            turned[half + j] = x[half + j] * cos + x[j] * sin
        return turned

    def block(self, prefix: str, config: StackConfig, rows: list[Array]) -> list[Array]:
        w = {name: self.weights[f"{prefix}.{name}.weight"] for name in BLOCK}
        d, eps, theta = config.head_dim, config.rms_norm_eps, config.rope_theta
        group = config.num_attention_heads // config.num_key_value_heads
        keys, values, out = [], [], []
        for position, row in enumerate(rows):
            x = rms(row, w["input_layernorm"], eps)
            q, k, v = ((w[f"self_attn.{name}_proj"] @ x).reshape(-1, d) for name in ("q", "k", "v"))
            keys.append([self.rope(rms(head, w["self_attn.k_norm"], eps), position, theta) for head in k])
            values.append(v)
            merged = []
            for head, query in enumerate(q):
                query = self.rope(rms(query, w["self_attn.q_norm"], eps), position, theta)
                scores = np.array([query @ key[head // group] for key in keys]) / d**0.5
                shares = np.exp(scores - scores.max())
                shares /= shares.sum()
                merged.append(sum(s * value[head // group] for s, value in zip(shares, values, strict=True)))
            row = row + w["self_attn.o_proj"] @ np.concatenate(merged)
            x = rms(row, w["post_attention_layernorm"], eps)
            out.append(row + w["mlp.down_proj"] @ (silu(w["mlp.gate_proj"] @ x) * (w["mlp.up_proj"] @ x)))
        return out

    def stack(self, prefix: str, config: StackConfig, rows: list[Array]) -> list[Array]:
        for layer in range(config.num_hidden_layers):
            rows = self.block(f"{prefix}.layers.{layer}", config, rows)
        norm = self.weights[f"{prefix}.norm.weight"]
        return [rms(row, norm, config.rms_norm_eps) for row in rows]

    def hidden(self, rows: list[Array]) -> list[Array]:
        return self.stack("talker.model", self.talker, rows)

    def first_logits(self, hidden: Array) -> Array:
        return self.weights["talker.codec_head.weight"] @ hidden

    def other_logits(self, hidden: Array, codes: Sequence[int]) -> Array:
        """Of the code after `codes`, of which there is one at least."""
        inputs = [hidden, self.codec(codes[0])]
        inputs += [self.acoustic(i, code) for i, code in enumerate(codes) if i]
        name = "talker.code_predictor.small_to_mtp_projection"
        if f"{name}.weight" in self.weights:
            inputs = [self.weights[f"{name}.weight"] @ x + self.weights[f"{name}.bias"] for x in inputs]
        last = self.stack("talker.code_predictor.model", self.predictor, inputs)[-1]
        return self.weights[f"talker.code_predictor.lm_head.{len(codes) - 1}.weight"] @ last


BLOCK = (
    "input_layernorm",
    "post_attention_layernorm",
    *(f"self_attn.{name}" for name in ("q_proj", "k_proj", "v_proj", "o_proj", "q_norm", "k_norm")),
    *(f"mlp.{name}" for name in ("gate_proj", "up_proj", "down_proj")),
)


def picked(logits: Array, draw: float, temperature: float, top_k: int) -> int:
    """Softmax over the `top_k` likeliest after temperature, then the inverse of its sums; 0 is greedy."""
    if temperature == 0:
        return int(logits.argmax())
    logits = logits / temperature
    lowest = sorted(logits)[-top_k]
    shares = np.where(logits < lowest, 0.0, np.exp(logits - logits.max()))
    total = 0.0
    for token, share in enumerate(shares / shares.sum()):
        total += share
        if total > draw:
            return token
    raise AssertionError("the shares sum to one")


def frames(
    speech: PlainSpeech,
    prompt: Prompt,
    draws: Array,
    *,
    eos: int,
    temperature: float,
    top_k: int,
    others_top_k: int,
    penalty: float,
    ends: bool,
    x_vector: Array | None = None,
) -> list[list[int]]:
    """The frames of one item, each from its whole text run again: at most as many as `draws [frames, 16]`."""
    rows, written = speech.rows(prompt, x_vector), []
    codes_of = speech.predictor.vocab_size
    for number, draw in enumerate(draws):
        hidden = speech.hidden(rows)[-1]
        logits = speech.first_logits(hidden)
        for code in {frame[0] for frame in written}:
            logits[code] = logits[code] / penalty if logits[code] > 0 else logits[code] * penalty
        for token in range(codes_of, len(logits)):
            if token != eos or not ends or number < 2:
                logits[token] = -np.inf
        codes = [picked(logits, draw[0], temperature, top_k)]
        if codes[0] == eos:
            break
        for share in draw[1:]:
            codes.append(picked(speech.other_logits(hidden, codes), share, temperature, others_top_k))
        written.append(codes)
        text = prompt.trailing[number] if number < len(prompt.trailing) else prompt.pad
        rows.append(speech.frame(codes) + speech.text(text))
    return written
