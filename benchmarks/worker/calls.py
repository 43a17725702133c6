"""Functions of the engine with inputs of a fixed seed: what is called in each kind of cell, and with what."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from operator import attrgetter
from typing import Any, NamedTuple

import _matrix as matrix
from commit import Unsupported, commit_module

SEED = 0
DIT = matrix.COST_DITS["turbo"]


class Call(NamedTuple):
    """A function, what makes arguments for one call, and what is around all calls."""

    function: Callable
    arguments: Callable[[], tuple]
    around: Callable[[], AbstractContextManager] = nullcontext


def part(module: str, name: str) -> Any:
    """An object of the commit under test. Raises Unsupported where the commit has none."""
    try:
        return attrgetter(name)(commit_module(module))
    except AttributeError:
        raise Unsupported(f"this commit has no {module}.{name}") from None


def same(*arguments) -> Callable[[], tuple]:
    """What makes the same arguments for every call."""
    return lambda: arguments


def generator():
    import torch

    return torch.Generator().manual_seed(SEED)


def logits(cell, device):
    """fp32 `[rows, V]`, of which the n-th most likely is as likely as n to the power of -1.5, or of -0.05."""
    import torch

    lot = generator()
    ranks = 1 + torch.stack([torch.randperm(cell["vocabulary"], generator=lot) for _ in range(cell["rows"])])
    return (-1.5 if cell["logits"] == "peaked" else -0.05) * ranks.log().to(device)


def sampling(cell, device) -> dict[str, Call]:
    """A pick by a sampler: its name, and what it is told behind the last dash."""
    import torch

    kind = part("acestep.lm.decode.selector", "Sampling")
    name, _, value = cell["sampler"].rpartition("-")
    fields, history = {"temperature": 0.85}, 0
    if cell["sampler"] == "whole":
        fields, history = fields | {"top_k": 50, "top_p": 0.9, "repetition_penalty": 1.2}, 100
    elif cell["sampler"] == "greedy":
        fields = {"temperature": 0.0}
    elif name == "top-k":
        fields["top_k"] = int(value)
    elif name == "top-p":
        fields["top_p"] = float(value)
    elif name == "penalty":
        fields["repetition_penalty"], history = 1.2, int(value)
    seen = None
    if "repetition_penalty" in fields:
        seen = torch.zeros(cell["rows"], cell["vocabulary"], dtype=torch.bool)
        seen[:, torch.randperm(cell["vocabulary"], generator=generator())[:history]] = True
        seen = seen.to(device)
    uniform = torch.rand(cell["rows"], generator=generator()).to(device)
    return {"pick": Call(kind.pick, same(kind(**fields), logits(cell, device), uniform, seen))}


class Open:
    """A grammar by which the same may always follow."""

    most_tokens, done = 1, False

    def __init__(self, allowed):
        self._allowed = allowed

    def allowed(self, peek):
        return self._allowed

    def certain(self):
        return ()

    def advance(self, token_ids):
        pass


def mask(cell, device) -> dict[str, Call]:
    """The grammar where it is in a state, and a step of decoding from there."""
    import torch

    vocabulary, state = cell["vocabulary"], cell["state"]
    scores = torch.randn(1, vocabulary, generator=generator())
    scores[0, 0] = 10  # no white space: where a caption may have ended, it has
    scores = scores.to(device)
    selector = part("acestep.lm.decode.selector", "TokenSelector")(
        part("acestep.lm.decode.selector", "Sampling")(0.0), [SEED], device
    )
    decoder = part("acestep.lm.decode.selector", "ConstrainedDecoder")

    def head(rows):
        return scores[:, rows]

    def peek() -> int:
        return int(scores[0].argmax())

    def step(constraint: Callable) -> Call:
        return Call(decoder.next, lambda: (decoder(selector, [[]], [constraint()]), head))

    if state == "open":
        half = torch.rand(vocabulary, generator=generator()) < 0.5
        allowed = part("acestep.lm.grammar.allowed", "Free")(half)
        return {"step": step(lambda: Open(allowed))}
    if vocabulary != matrix.TEXT_TOKENS:
        raise Unsupported(f"the grammar is of {matrix.TEXT_TOKENS} tokens")
    text = text_before(state)
    constraint = advanced(text)
    calls = {
        "allowed": Call(type(constraint).allowed, same(constraint, peek)),
        "step": step(lambda: advanced(text)),
    }
    allowed = constraint.allowed(peek)
    if not hasattr(allowed, "mask"):  # which open text has from the beginning
        calls["build"] = Call(part("acestep.lm.grammar.allowed", "allowed_mask.__wrapped__"), same(allowed))
    return calls


def advanced(text: list[int]):
    """The grammar of a description, after a text."""
    constraint = part("acestep.lm.grammar.constraint", "MetadataConstraint")(
        part("acestep.weights.synthetic_tokenizer", "synthetic_tokenizer")("lm"),
        part("acestep.text.metadata", "Metadata")(),
        lyrics=part("acestep.lm.grammar.open_text", "Lyrics")(64),
        **dict.fromkeys(("caption", "genres", "language"), True),
    )
    constraint.advance(text)
    return constraint


def text_before(state: str) -> list[int]:
    """A text after which the grammar is in a state for the first time: of what may follow always the first,
    and of a line of text no more than that."""
    tokenizer = part("acestep.weights.synthetic_tokenizer", "synthetic_tokenizer")("lm")
    forced, free = (part("acestep.lm.grammar.allowed", name) for name in ("Forced", "Free"))
    constraint, text = advanced([]), []
    while True:
        allowed = constraint.allowed(lambda: 0)
        *before, line = "".join(map(tokenizer.token_text, text)).split("\n")
        ended = not line and before and before[-1].startswith("caption:")
        name = "lyrics" if "</think>" in line else "caption-end" if ended else line.partition(":")[0]
        if state == (name if not isinstance(allowed, forced) else "" if text else "forced"):
            return text
        if isinstance(allowed, forced):
            ids = list(allowed.ids)
        elif isinstance(allowed, free):
            newline = part("acestep.text.tokenizer", "NEWLINE")
            ids = [newline if line.partition(":")[2] else int(allowed.mask.nonzero()[0])]
        else:
            ids = [allowed.ids[0]]
        constraint.advance(ids)
        text += ids


def codes(cell, device) -> dict[str, Call]:
    """Codes of a length; the networks have the shapes of the tiny model, or the published ones, and random
    weights."""
    import torch

    count = part("acestep.text.audio_codes", "CODES_PER_SECOND") * cell["codes_s"]
    most = part("acestep.text.audio_codes", "CODES")
    join, parse = (part("acestep.text.audio_codes", name) for name in ("join", "parse"))
    indices = torch.randint(most, (1, count), generator=generator())
    numbers = indices[0].tolist()
    networks = code_networks(device)
    quantizer = networks.tokenizer.quantizer
    indices = indices.to(device)
    vectors = quantizer.decode(indices)
    latents = torch.randn(1, count * networks.tokenizer.window, 64, generator=generator())
    return {
        "join": Call(join, same(numbers)),
        "parse": Call(parse, same(join(numbers))),
        "decode": Call(type(quantizer).decode, same(quantizer, indices)),
        "quantize": Call(type(quantizer).indices, same(quantizer, vectors)),
        "detokenize": Call(type(networks.detokenizer).forward, same(networks.detokenizer, vectors)),
        "tokenize": Call(
            type(networks.tokenizer).forward, same(networks.tokenizer, latents.to(device, vectors.dtype))
        ),
    }


def code_networks(device):
    """Tokenizer and detokenizer, beside networks that are on the meta device."""

    source = (
        matrix.TINY if os.environ.get("ACESTEP_SOURCE", matrix.TINY) == matrix.TINY else matrix.COST_SOURCE
    )
    weights = part("acestep.weights.synthetic", "Synthetic")(source)
    config = part("harness.nn.config", "parse_config")(
        weights.config(DIT), part("acestep.models.configs", "DiTConfig"), DIT
    )
    checkpoint = commit_module("harness.checkpoint")
    networks = checkpoint.on_meta(lambda: part("acestep.models.ace_step", "AceStep")(config))
    dtype = part("harness.device", "resolve_dtype")("auto", device, "float32")
    for name in ("tokenizer", "detokenizer"):
        network = networks.get_submodule(name)
        read = weights.weights(DIT).read
        checkpoint.materialise(network, read, prefix=f"{name}.", device=device, dtype=dtype)
    return networks


def resample(cell, device) -> dict[str, Call]:
    """White noise of a length at another rate; on the host, as in the engine."""
    import numpy as np

    rate, new_rate = map(int, cell["rates"].split("-"))
    shape = (int(cell["audio_s"] * rate), cell["channels"])
    samples = 0.1 * np.random.default_rng(SEED).standard_normal(shape, np.float32)
    return {"resample": Call(part("acestep.audio.writing", "resampled"), same(samples, rate, new_rate))}


def mel(cell, device) -> dict[str, Call]:
    """The log-mel that Qwen3-TTS's speaker encoder reads, of noise as loud as speech."""
    import torch

    rate = part("subjects.qwen3_tts.config", "SAMPLE_RATE")
    samples = 0.1 * torch.randn(1, int(cell["voice_s"] * rate), generator=generator())
    return {"mel": Call(part("subjects.qwen3_tts.mel", "log_mel"), same(samples.to(device)))}


def entered(manager: Callable[[str], AbstractContextManager], name: str) -> None:
    with manager(name):
        pass


def span(cell, device) -> dict[str, Call]:
    """A span with nothing in it."""
    around = part("harness.spans", "record") if cell["reader"] == "recording" else nullcontext
    return {"span": Call(entered, same(part("harness.spans", "span"), "micro"), around)}


KINDS = {"sampling": sampling, "mask": mask, "codes": codes, "resample": resample, "mel": mel, "span": span}
