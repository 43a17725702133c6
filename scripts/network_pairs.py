"""Our networks beside those of transformers and diffusers, with the same weights and inputs."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from acestep import networks, oracles
from acestep.lm.backends.pt_backend import PT
from acestep.models.rates import FRAMES_PER_SECOND
from acestep.profiler.devices import best_s
from acestep.weights.layout import LMS
from acestep.weights.sources import open_source
from harness.checkpoint import materialise, on_meta
from harness.device import DTYPES, describe, resolve_device, synchroniser
from harness.memory import hand_back
from harness.nn.config import Qwen3Config, parse_config
from harness.nn.qwen3 import Qwen3
from harness.nn.sampling import Sampling
from scripts.in_turn import Both, Decode, show, step_ms

PROMPT = list(range(1000, 1128))
GREEDY = Sampling(temperature=0.0)
SEED = 0
LIBRARIES = {"lm": "transformers", "dit": "diffusers", "vae": "diffusers"}
UNITS = {"lm": "ms/token", "dit": "ms/step", "vae": "ms/decode"}


def run(options: argparse.Namespace) -> None:
    """Time each part that `scripts.decode_ratio` asks for in turn, and print it when it is done."""
    device = resolve_device(options.device)
    facts = f"{torch.get_num_threads()} threads, {options.source}, {options.dtype}"
    print(f"{describe(device)}, {facts}", flush=True)
    for part in options.parts:
        with torch.inference_mode():
            _time(part, options, device)
        hand_back()


def _time(part: str, options: argparse.Namespace, device: torch.device) -> None:
    size = {"tokens": options.tokens, "duration_s": options.duration}
    both = beside(part, options.source, device, DTYPES[options.dtype], **size)
    show(part, both, options.pairs, LIBRARIES[part], UNITS[part])


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
    return Both(*(partial(step_ms, decode, tokens, wait) for decode in (theirs, ours)))


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
