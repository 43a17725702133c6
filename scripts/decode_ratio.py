"""How fast our networks are beside transformers' and diffusers' own, measured in turn in one process.

    OMP_WAIT_POLICY=PASSIVE python -m scripts.decode_ratio            # LM decode, bf16, published 0.6B shape
    OMP_WAIT_POLICY=PASSIVE python -m scripts.decode_ratio --parts dit vae --duration 30
    python -m scripts.decode_ratio --parts lm dit vae --source synthetic-tiny --dtype fp32

lm: tokens from the same prompt at batch 1 without guidance, by transformers' `generate`, greedy, over its
static cache, and by the codes of a plan, greedy; the difference between a long run and a short one leaves
prefill and set-up out. dit: a step, its conditions included, and vae: a decode in one pass, both over
diffusers' with the same input. The weights are the same tensors (the VAE's: theirs normalised on every call).
The ratio is above 1 where ours is faster.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from acestep import networks, oracles
from acestep.lm.backends.pt_backend import PT
from acestep.models.rates import FRAMES_PER_SECOND
from acestep.profiler.devices import best_s
from acestep.weights.layout import LMS, SYNTHETIC
from acestep.weights.sources import open_source
from harness import console
from harness.checkpoint import materialise, on_meta
from harness.checks import within
from harness.device import DTYPES, describe, resolve_device, synchroniser
from harness.errors import BenchError
from harness.flags import whole
from harness.memory import hand_back
from harness.nn.config import Qwen3Config, parse_config
from harness.nn.qwen3 import Qwen3
from harness.nn.sampling import Sampling
from scripts.in_turn import Ratio, in_turn

PROMPT = list(range(1000, 1128))
SHORT_TOKENS = 5
GREEDY = Sampling(temperature=0.0)
SEED = 0
MOST_OFF = 0.3  # relative RMS of two implementations in bf16; another network is off by 1
LIBRARIES = {"lm": "transformers", "dit": "diffusers", "vae": "diffusers"}

Decode = Callable[[int], Any]  # so many tokens


class Both(NamedTuple):
    """Milliseconds of theirs and of ours, each measured by a call, and how far apart their results are."""

    theirs_ms: Callable[[], float]
    ours_ms: Callable[[], float]
    off: float | None = None  # relative RMS

    @property
    def wrong(self) -> str:
        """Why the times are not of the same network; empty where they are."""
        if self.off is None or self.off <= MOST_OFF:
            return ""
        return f"not the same network: off by {self.off:.2g} of its RMS"


def beside(
    part: str, source: str, device: torch.device, dtype: torch.dtype, *, tokens: int, duration_s: float
) -> Both:
    """A part of LIBRARIES, theirs beside ours, warm. Raises MissingPrerequisite without its library."""
    oracles.library(LIBRARIES[part])
    wait = synchroniser(device) or (lambda: None)
    if part == "lm":
        return _decodes(source, device, dtype, tokens, wait)
    name, their = {"dit": ("dit", _their_dit), "vae": ("vae_decoder", _their_decoder)}[part]
    component = networks.components(source)[name]
    drawn = component.inputs(int(duration_s * FRAMES_PER_SECOND), torch.Generator().manual_seed(SEED))
    inputs = tuple(tensor.to(device, dtype) for tensor in drawn)
    network = component.build(device, dtype)
    calls = their(component, network, inputs), partial(component.run, network, *inputs)
    theirs, ours = (call().double() for call in calls)
    off = float((ours - theirs).norm() / theirs.norm())
    return Both(*(partial(_call_ms, call, wait) for call in calls), off)


def _their_dit(component: Any, ours: Any, inputs: tuple[Tensor, ...]) -> Callable[[], Tensor]:
    x, context, encoded = inputs
    theirs = oracles.diffusers_dit(component.config, ours, x.dtype, share=True)
    times = torch.full((len(x),), networks.TIME, dtype=x.dtype, device=x.device)
    return lambda: theirs(x, times, times, encoded, context, return_dict=False)[0]


def _their_decoder(component: Any, ours: Any, inputs: tuple[Tensor, ...]) -> Callable[[], Tensor]:
    theirs = oracles.diffusers_vae(component.config, "decoder", ours, inputs[0].dtype)
    return lambda: theirs(*inputs)


def _call_ms(call: Callable[[], Tensor], wait: Callable[[], None]) -> float:
    return 1000 * best_s(call, wait, repeats=1)


def _decodes(
    source: str, device: torch.device, dtype: torch.dtype, tokens: int, wait: Callable[[], None]
) -> Both:
    """Milliseconds of a decoded token of the smallest language model."""
    ours, model = our_decode(source, device, dtype)
    theirs = their_decode(model, device)
    for decode in (theirs, ours):
        decode(2)
    return Both(*(partial(token_ms, decode, tokens, wait) for decode in (theirs, ours)))


def our_decode(source: str, device: torch.device, dtype: torch.dtype) -> tuple[Decode, Qwen3]:
    """Our decode, and the model it runs."""
    weights = open_source(source)
    config = parse_config(weights.config(LMS[0]), Qwen3Config, LMS[0])
    model: Qwen3 = on_meta(lambda: Qwen3(config))
    materialise(model, weights.weights(LMS[0]).read, device=device, dtype=dtype)
    backend = PT(model, device)
    return lambda tokens: backend.decode_loop(GREEDY, [0]).codes([PROMPT], [tokens]), model


def their_decode(model: Qwen3, device: torch.device) -> Decode:
    """transformers' decode of the same tensors."""
    import transformers

    ours = model.config
    shape = ("vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads "
             "num_key_value_heads head_dim rms_norm_eps")  # fmt: skip
    config = transformers.Qwen3Config(
        **{name: getattr(ours, name) for name in shape.split()},
        rope_parameters={"rope_type": "default", "rope_theta": ours.rope_theta},
        tie_word_embeddings=True,
    )
    theirs: Any = on_meta(lambda: transformers.Qwen3ForCausalLM(config))
    named = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    theirs.load_state_dict(named | {"lm_head.weight": model.embed_tokens.weight}, assign=True)
    theirs.model.rotary_emb = type(theirs.model.rotary_emb)(config).to(device)  # it has no weight to load
    theirs.eval()
    prompt = torch.tensor([PROMPT], device=device)

    def decode(tokens: int) -> Tensor:
        return theirs.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            do_sample=False,
            min_new_tokens=tokens,
            max_new_tokens=tokens,
            cache_implementation="static",
        )

    return decode


def token_ms(decode: Decode, tokens: int, sync: Callable[[], None]) -> float:
    """Milliseconds per decoded token."""
    seconds = []
    for count in (SHORT_TOKENS, SHORT_TOKENS + tokens):
        sync()
        start = time.perf_counter()
        decode(count)
        sync()
        seconds.append(time.perf_counter() - start)
    return 1000 * (seconds[1] - seconds[0]) / tokens


def main() -> int:
    """The command; returns its exit code."""
    return console.run("decode_ratio", compare)


def compare() -> int:
    """Time each part in turn, and print it when it is done."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.decode_ratio", description=__doc__.split("\n")[0]
    )  # type: ignore[union-attr]
    parser.add_argument("--parts", nargs="+", default=["lm"], choices=LIBRARIES, help="(lm)")
    parser.add_argument("--source", default=SYNTHETIC[1], help="(%(default)s)")
    parser.add_argument("--device", default="auto", help="(%(default)s)")
    parser.add_argument("--dtype", default="bf16", choices=DTYPES, help="(%(default)s)")
    parser.add_argument("--tokens", type=whole, default=50, help="decoded per sample, lm (%(default)s)")
    parser.add_argument("--duration", type=whole, default=30, help="seconds of audio, dit, vae (%(default)s)")
    parser.add_argument("--pairs", type=whole, default=5, help="(%(default)s)")
    arguments = parser.parse_args()
    for name in ("tokens", "pairs"):
        within(f"--{name}", getattr(arguments, name), 1, 10_000, kind=int)
    within("--duration", arguments.duration, 1, 600, kind=int)
    device = resolve_device(arguments.device)
    print(f"{describe(device)}, {torch.get_num_threads()} threads, {arguments.source}, {arguments.dtype}")
    for part in arguments.parts:
        _print_part(part, arguments, device)
        hand_back()
    return 0


def _print_part(part: str, arguments: argparse.Namespace, device: torch.device) -> None:
    with torch.inference_mode():
        both = beside(
            part,
            arguments.source,
            device,
            DTYPES[arguments.dtype],
            tokens=arguments.tokens,
            duration_s=arguments.duration,
        )
        if both.wrong:
            raise BenchError(f"{part}: {both.wrong}")
        pairs = in_turn(both.theirs_ms, both.ours_ms, arguments.pairs)
    unit = {"lm": "ms/token", "dit": "ms/step", "vae": "ms/decode"}[part]
    for name, times in zip((LIBRARIES[part], "ours"), zip(*pairs, strict=True), strict=True):
        print(f"{name:<14}{statistics.median(times):8.2f} {unit}  ({min(times):.2f} to {max(times):.2f})")
    ratio = Ratio.of(pairs)
    print(f"{'ratio':<14}{ratio.median:8.2f} {'':{len(unit)}}  ({ratio.low:.2f} to {ratio.high:.2f})")


if __name__ == "__main__":
    sys.exit(main())
