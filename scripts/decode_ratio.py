"""How fast our decode is beside transformers' own, measured in turn in one process.

    OMP_WAIT_POLICY=PASSIVE python -m scripts.decode_ratio               # bf16 at the published 0.6B shape
    python -m scripts.decode_ratio --source synthetic-tiny --dtype fp32

Both run the same tensors from the same prompt at batch 1 without guidance: transformers' `generate`, greedy,
over its static cache; ours the codes of a plan, greedy. The difference between a long run and a short one
leaves prefill and set-up out. The ratio is above 1 where ours is faster.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from acestep.lm.backends.pt_backend import PT
from acestep.lm.sampling import Sampling
from acestep.weights.layout import LMS, SYNTHETIC
from acestep.weights.sources import open_source
from harness import console
from harness.checkpoint import materialise, on_meta
from harness.checks import within
from harness.device import DTYPES, describe, resolve_device, synchroniser
from harness.flags import whole
from harness.nn.config import Qwen3Config, parse_config
from harness.nn.qwen3 import Qwen3

PROMPT = list(range(1000, 1128))
SHORT_TOKENS = 5
GREEDY = Sampling(temperature=0.0)

Decode = Callable[[int], Any]  # so many tokens


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
    """Warm both up, then time them in turn."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.decode_ratio", description=__doc__.split("\n")[0]
    )  # type: ignore[union-attr]
    parser.add_argument("--source", default=SYNTHETIC[1], help="(%(default)s)")
    parser.add_argument("--device", default="auto", help="(%(default)s)")
    parser.add_argument("--dtype", default="bf16", choices=DTYPES, help="(%(default)s)")
    parser.add_argument("--tokens", type=whole, default=50, help="decoded per sample (%(default)s)")
    parser.add_argument("--pairs", type=whole, default=5, help="(%(default)s)")
    arguments = parser.parse_args()
    for name in ("tokens", "pairs"):
        within(f"--{name}", getattr(arguments, name), 1, 10_000, kind=int)
    device = resolve_device(arguments.device)
    sync = synchroniser(device) or (lambda: None)
    with torch.inference_mode():
        ours, model = our_decode(arguments.source, device, DTYPES[arguments.dtype])
        theirs = their_decode(model, device)
        for decode in (ours, theirs):
            decode(2)
        pairs = [
            (token_ms(theirs, arguments.tokens, sync), token_ms(ours, arguments.tokens, sync))
            for _ in range(arguments.pairs)
        ]
    print(f"{describe(device)}, {torch.get_num_threads()} threads, {arguments.source}, {arguments.dtype}")
    for name, times in zip(("transformers", "ours"), zip(*pairs, strict=True), strict=True):
        print(f"{name:<14}{statistics.median(times):8.2f} ms/token  ({min(times):.2f} to {max(times):.2f})")
    ratios = [theirs_ms / ours_ms for theirs_ms, ours_ms in pairs]
    print(f"{'ratio':<14}{statistics.median(ratios):8.2f}           ({min(ratios):.2f} to {max(ratios):.2f})")

    return 0


if __name__ == "__main__":
    sys.exit(main())
