"""Qwen3-TTS at tiny sizes: configurations, weights and inputs that two implementations are compared on.

All is made by `drawn`, from a name and a seed and nothing else: neither torch's generators nor anybody's
modules have a part in it, so what was computed once can be compared with what is computed later, elsewhere.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

WIDTHS = {"plain": 32, "projected": 48}  # of the talker; beside a predictor of 32 the second is projected
PREDICTOR_WIDTH = 32
GROUPS = 16
CODES = 2048  # of a code book of the talker's and the predictor's
TEXTS = 151_936
FRAMES = 8  # generated in each mode, or fewer where the end comes
EOS = 2150
CHUNK, CONTEXT = 4, 2  # of the decoder
LOGITS = slice(None, None, 16)  # what is kept of them,
SAMPLES = slice(None, None, 7)  # and of audio: no stride of the decoder's is a multiple of it

BLOCK = {
    "intermediate_size": 40, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 128,
    "rms_norm_eps": 1e-6, "rope_theta": 1_000_000, "hidden_act": "silu", "num_code_groups": GROUPS,
    "attention_bias": False, "use_sliding_window": False, "max_position_embeddings": 512,
}  # fmt: skip
SPEAKERS = {"ryan": 3061, "eric": 2875, "dylan": 2878}
LANGUAGES = {"english": 2050, "chinese": 2055, "sichuan_dialect": 2062, "beijing_dialect": 2074}
TALKER = BLOCK | {
    "num_hidden_layers": 3, "vocab_size": 3072, "text_hidden_size": 8, "text_vocab_size": TEXTS,
    "rope_scaling": {"interleaved": True, "mrope_section": [24, 20, 20], "rope_type": "default"},
    "codec_eos_token_id": EOS, "codec_think_id": 2154, "codec_nothink_id": 2155, "codec_think_bos_id": 2156,
    "codec_think_eos_id": 2157, "codec_pad_id": 2148, "codec_bos_id": 2149,
    "spk_id": SPEAKERS, "codec_language_id": LANGUAGES,
    "spk_is_dialect": {"ryan": False, "eric": "sichuan_dialect", "dylan": "beijing_dialect"},
}  # fmt: skip
SPEAKER = {
    "mel_dim": 128, "sample_rate": 24_000, "enc_channels": [16, 16, 16, 16, 48],
    "enc_kernel_sizes": [5, 3, 3, 3, 1], "enc_dilations": [1, 2, 3, 4, 1],
    "enc_attention_channels": 6, "enc_res2net_scale": 8, "enc_se_channels": 4,
}  # fmt: skip
DECODER = {
    "codebook_dim": 8, "codebook_size": 32, "num_quantizers": GROUPS, "latent_dim": 16, "hidden_size": 8,
    "intermediate_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2,
    "head_dim": 4, "sliding_window": 4, "rms_norm_eps": 1e-5, "rope_theta": 10_000, "decoder_dim": 32,
    "upsampling_ratios": [2, 2], "upsample_rates": [8, 5, 4, 3], "max_position_embeddings": 512,
}  # fmt: skip


def config(width: int) -> dict[str, Any]:
    """`config.json` of a Base model with a talker of `width`."""
    predictor = BLOCK | {"hidden_size": PREDICTOR_WIDTH, "num_hidden_layers": 2, "vocab_size": CODES}
    return {
        "tts_model_type": "base",
        "im_start_token_id": 151644, "im_end_token_id": 151645,
        "tts_pad_token_id": 151671, "tts_bos_token_id": 151672, "tts_eos_token_id": 151673,
        "talker_config": TALKER | {"hidden_size": width, "code_predictor_config": predictor},
        "speaker_encoder_config": SPEAKER | {"enc_dim": width},
    }  # fmt: skip


def drawn(name: str, *shape: int, seed: int = 0) -> Tensor:
    """Values of variance 1, even in ±√3, that fp32 holds exactly, in fp64.

    NumPy promises the stream of this generator for good, and what is made of it is exact on every machine.
    """
    generator = np.random.Generator(np.random.PCG64([seed, zlib.crc32(name.encode())]))
    values = (2 * generator.random(shape) - 1) * 3**0.5
    return torch.from_numpy(values.astype(np.float32).astype(np.float64))


def whole(name: str, below: int, *shape: int, seed: int = 0) -> Tensor:
    """Whole numbers from 0 to `below` - 1, in int64."""
    share = drawn(name, *shape, seed=seed) / (2 * 3**0.5) + 0.5
    return (share * below).long().clamp(0, below - 1)


def weights(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> dict[str, Tensor]:
    """Weights by their published names, in fp64, at which nothing is neutral and values stay of order 1.

    Scales are about 1, biases off 0; of a code book the first row was never used, so its share is held from
    below. Convolutions that end in one channel or in a sum are weak, so that no sample is clamped.
    """
    return {name: _weight(name, drawn(name, *shape, seed=seed)) for name, shape in shapes.items()}


def _weight(name: str, value: Tensor) -> Tensor:
    owner, _, leaf = name.rpartition(".")
    if leaf == "cluster_usage":
        value = 1 + 0.5 * value
        value[0] = 0
    elif leaf == "embedding_sum":
        value[0] *= 1e-5
    elif leaf in ("scale", "gamma") or "norm" in owner:
        value = 1 + 0.3 * value if leaf != "bias" else 0.3 * value
    elif value.ndim == 1:
        value *= 0.3
    elif "embedding" not in owner:
        weak = value.ndim == 3 and (len(value) == 1 or ".conv2." in name)
        value *= (0.1 if weak else 1) * value[0].numel() ** -0.5
    return value.float().double()


def eager(head: Tensor) -> None:
    """Make the talker's `head [V, H]` of one that is eager to end, and to say two codes again and again.

    The second is likely only beside the first once that is held back for having come before.
    """
    head[[EOS, 100]] *= 8
    head[101] = 0.97 * head[100]


@dataclass(frozen=True)
class Prompt:
    """What is spoken, and how: the inputs of one generation."""

    name: str
    language: str = "english"
    speaker: str | None = None
    texts: int = 5
    instruct_texts: int = 0
    x_vector: bool = False
    reference_frames: int = 0  # in-context learning: so many frames are heard before
    non_streaming: bool = False

    def texts_of(self, kind: str, count: int) -> Tensor:
        """Ids `[1, count]` of ordinary text."""
        return whole(f"{self.name} {kind}", 151_643, 1, count)

    @property
    def body(self) -> Tensor:
        """`[1, T]`, what is spoken."""
        return self.texts_of("body", self.texts)

    @property
    def reference(self) -> Tensor:
        """`[1, 4]`, what is said in the reference."""
        return self.texts_of("reference", 4)

    @property
    def instruct(self) -> Tensor | None:
        """`[1, N]`, how it is to sound, in its template."""
        return self.texts_of("instruct", self.instruct_texts) if self.instruct_texts else None

    @property
    def codes(self) -> Tensor:
        """`[R, 16]`, the reference's codes."""
        return whole(f"{self.name} codes", CODES, self.reference_frames, GROUPS)

    def voice(self, width: int) -> Tensor:
        """`[H]`, the x-vector."""
        return drawn(f"{self.name} voice", width)


ROLE = torch.tensor([[151_644, 77_091, 198]])  # the template's three tokens before what is spoken,
END = torch.tensor([[151_645, 198]])  # and those after
PROMPTS = (
    Prompt("voice", speaker="ryan"),
    Prompt("voice, whole text", speaker="ryan", non_streaming=True),
    Prompt("voice, no language", "auto", "ryan"),
    Prompt("voice of a dialect, no language", "auto", "eric"),
    Prompt("voice of a dialect, in Chinese", "chinese", "dylan", texts=1),
    Prompt("voice, instructed", speaker="ryan", instruct_texts=6, non_streaming=True),
    Prompt("design", "auto", instruct_texts=6, non_streaming=True),
    Prompt("x-vector", x_vector=True),
    Prompt("x-vector, whole text", x_vector=True, non_streaming=True),
    Prompt("in context", x_vector=True, reference_frames=3),
    Prompt("in context, long reference", x_vector=True, reference_frames=12),
    Prompt("in context, whole text", x_vector=True, reference_frames=3, non_streaming=True),
)


def rows(width: int, seed: int = 0) -> Tensor:
    """`[2, 9, H]`, what the talker reads."""
    return drawn("rows", 2, 9, width, seed=seed)


def frames(width: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """The talker's hidden states `[2, H]` of two frames, and their codes `[2, 16]`."""
    return drawn("hidden", 2, width, seed=seed), whole("frames", CODES, 2, GROUPS, seed=seed)


def mels(seed: int = 0) -> Tensor:
    """`[2, 40, 128]`, about where log-mels are."""
    return 2 * drawn("mels", 2, 40, 128, seed=seed) - 4


def samples(seed: int = 0) -> Tensor:
    """`[2, 6000]` within ±1, which is no whole number of hops."""
    return drawn("samples", 2, 6000, seed=seed) / 2


def codes(seed: int = 0) -> Tensor:
    """`[2, 16, 11]` for the decoder, the never used rows among them."""
    chosen = whole("codes", 32, 2, GROUPS, 11, seed=seed)
    chosen[0, :, 3] = 0
    return chosen
