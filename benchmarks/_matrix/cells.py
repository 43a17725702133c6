"""A cell of the matrix: one combination to measure, by its name, and the engine that runs it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

from .axes import COMPILE, COST_MODES, DITS, QUANTIZATIONS


def engine(backend: str = "pt", quantization: str = "none", compile: bool = False) -> str:
    """The name of an engine: what sets it apart from the plain one."""
    apart = (backend != "pt" and backend, quantization != "none" and quantization, compile and "compiled")
    return " ".join(filter(None, apart)) or PLAIN


PLAIN = "plain"  # eager PyTorch, nothing quantized: told so, whatever the tier of the card would rather have
BASE = "base"  # of weights that can be guided
UNLESS_SAID = {"lm_backend": "pt", "quantization": "none", "compile": False}
# What the engine of a name is told beside UNLESS_SAID, in the order they run: vLLM comes last, because it
# changes the process that it is imported into.
ENGINES: dict[str, dict[str, object]] = {
    PLAIN: {},
    BASE: {"dit": "acestep-v15-base"},
    **{
        engine(quantization=name, compile=compile): {"quantization": name, "compile": compile}
        for compile, name in itertools.product(COMPILE, QUANTIZATIONS)
        if compile or name != "none"
    },
    **{engine(backend=name): {"lm_backend": name} for name in ("mlx", "vllm")},
}
# What goes without saying, by kind of cell.
UNSAID = {
    "generate": {"engine": PLAIN},
    "plan": {"engine": PLAIN},
    "memory": {"variant": "default", "dit": DITS[0]},
    "boundary": {"dit": DITS[0]},
    "predicted": {"dit": DITS[0]},
    "cost": {"mode": COST_MODES[0]},
}


@dataclass(frozen=True, slots=True)
class Cell:
    """One combination to measure, known by its name: a kind of measurement, and the values of its parameters.

    generate    request to file
    preset      request to file by a preset, which says how many items, and whether and what is planned
    plan        the language model alone
    task        one task on a recording as long as the result; `reference` is text to music in its timbre
    solver      base weights, which can be guided: one way to integrate, one to guide, at the fewest steps
    text        music put into words by the language model, a fixed number of tokens of lyrics
    stream      a generation whose audio is handed out in chunks while it is decoded
    parity      how far an output of `engine` is from the plain engine's, whose is from its own of before
    cold        the first planned item of a fresh process, and one more
    memory      one generation in its own capped process; `variant`: what of the tier's settings is left out;
                an XL `dit` is tried where the tier's policy has one
    boundary    the smallest card that does without what `variant` leaves out; follows from the memory cells
    cost        one planned generation on a card that is not here, stage by stage; `variant`: of the DiT,
                `mode`: what runs the kernels; of a `subject`: a request of a few frames, by its `model`
    waits       copies over the link to a card that is not here, of two generations of different size
    predicted   one tier's verdict on a card that is not here
    request     one request of a subject; the parameters are its fields
    streamed    the same, handed out in pieces
    footprint   memory where each stage of the same ends, in a process of its own
    component   one network of a subject, called on inputs of a size
    scaling     one component of the engine at several lengths, from which its growth follows
    sampling, mask, codes, resample, mel, span    functions of the engine by themselves
    """

    kind: str
    params: tuple[tuple[str, Any], ...]

    @property
    def name(self) -> str:
        return " ".join((self.kind, *(f"{name}={value}" for name, value in self.params)))

    @property
    def engine(self) -> str:
        """The engine that runs it."""
        return BASE if self.kind == "solver" else dict(self.params).get("engine", PLAIN)

    def __getitem__(self, name: str) -> Any:
        """The value of a parameter."""
        return (UNSAID.get(self.kind, {}) | dict(self.params))[name]


def cell(kind: str, **params: Any) -> Cell:
    """The cell of a kind and parameters. None is no parameter, and what goes without saying is left out."""
    unsaid = dict.fromkeys(params) | UNSAID.get(kind, {})
    return Cell(kind, tuple((name, value) for name, value in params.items() if value != unsaid[name]))
