"""Parity of engines: how far an output is from the plain engine's, of the same weights and the same noise.

    velocity    of the first step                          relative RMS, max abs, SNR
    latents     after all steps                            the same
    audio       what is heard of them                      the same
    greedy      audio codes, the likeliest each time       share that differs, place by place
    drawn       audio codes, chosen by the same numbers    the same

A number beyond its limit is a failure: what is broken does not get to look fast. Part of the worker.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import _matrix as matrix
import ace_step
from commit import Unsupported, commit_module

# Relative RMS of velocity, latents, audio. Tiny weights have int8 0.004, 0.003, 0.03; fp8 0.013, 0.010, 0.09;
# w8a8 0.005, 0.003, 0.03; and where one matrix of one layer has twice its scale, 0.05, 0.03, 0.17.
LIMITS = {
    "none": (0.0, 0.0, 0.0),
    "int8_weight_only": (0.015, 0.015, 0.12),
    "fp8_weight_only": (0.03, 0.025, 0.15),
    "w8a8_dynamic": (0.02, 0.02, 0.15),
}
ROUNDING = {"float32": (1e-4, 1e-4, 1e-3)}  # of another order of the same sums
ROUNDING_16 = (0.02, 0.02, 0.15)
# Share of codes; chance agrees on none. A draw at the edge of two tokens is tipped by rounding, once in some
# hundreds, and the rest of its item with it; one matrix off by 1 % changes 0.9. In 16 bits rounding also
# decides near ties of the likeliest, and tips draws within a few.
CODES_APART = {"float32": {"greedy": 0.0, "drawn": 0.5}}
CODES_APART_16 = {"greedy": 0.9}
ITEMS = 4  # of codes, each by random numbers of its own


class Parity:
    """Outputs of the plain engine, kept, and of the engine that was last asked about."""

    def __init__(self, engines):
        self._engines = engines
        self._reference: dict[Callable, dict] = {}  # by what makes them
        self._latest: tuple[object, dict] = None, {}

    def measure(self, cell) -> dict:
        """The record of a cell, failed where it is beyond its limit."""
        commit_module("harness.parity")
        outputs_of = music if cell["output"] in matrix.DIT_OUTPUTS else codes
        if outputs_of not in self._reference:
            self._reference[outputs_of] = outputs_of(self._engines.get(matrix.PLAIN))
        engine = self._engines.get(cell.engine)
        if self._latest[0] != (outputs_of, cell.engine):
            self._latest = (outputs_of, cell.engine), outputs_of(engine)
        reference, output = self._reference[outputs_of][cell["output"]], self._latest[1][cell["output"]]
        dtype = engine.environment["dtype"]
        if outputs_of is codes:
            return codes_apart(cell, reference, output, dtype)
        return apart(cell, reference, output, limit(cell, dtype))


def limit(cell, dtype: str) -> float:
    """The largest relative RMS that `cell` may have. Errors of two causes add by their squares."""
    name = matrix.ENGINES[cell.engine].get("quantization", "none")
    output = matrix.DIT_OUTPUTS.index(cell["output"])
    return math.hypot(LIMITS[name][output], ROUNDING.get(dtype, ROUNDING_16)[output])


def apart(cell, reference, output, most: float) -> dict:
    """Distance of two tensors; what is not finite is None."""
    distance = dataclasses.asdict(commit_module("harness.parity").compare(reference, output))
    numbers = {name: value if math.isfinite(value) else None for name, value in distance.items()}
    if distance["relative_rms"] <= most:
        return {"parity": numbers, "limit": most}
    far = f"{distance['relative_rms']:.3g} from the reference (relative RMS), over {most:.2g}"
    reason = f"{cell['output']} is {far}"
    return {"status": "failed", "reason": reason, "parity": numbers, "limit": most}


def codes_apart(cell, reference, output, dtype: str) -> dict:
    """Share of places in which two tensors of codes differ."""
    most = CODES_APART.get(dtype, CODES_APART_16).get(cell["output"])
    if most is None:
        raise Unsupported(f"rounding to {dtype} tips draws; greedy codes can be compared")
    share = (reference != output).double().mean().item()
    record = {"parity": {"disagreement": share}, "limit": most}
    if share <= most:
        return record
    return record | {"status": "failed", "reason": f"{share:.0%} of codes differ, over {most:.0%}"}


def music(engine) -> dict:
    """Velocity and latents `[1, T, 64]`, audio `[1, 2, samples]`, of one item without the language model."""
    import torch

    size = {"duration_s": shortest_s(engine), "batch": 1, "thinking": False, "steps": matrix.STEPS[0]}
    request = ace_step.request(matrix.cell("generate", **size), None)
    plan = ace_step.subject().resolve(request, engine.setup)
    with torch.inference_mode():
        outputs = engine.generation(plan).intermediates()
    return {name: tensor.cpu() for name, tensor in outputs.items()}


def codes(engine) -> dict:
    """Audio codes int64 `[ITEMS, 5·seconds]` after a chain of thought, greedy and drawn."""
    import torch

    ace_step.check_language_model(engine)
    size = {"duration_s": shortest_s(engine), "batch": ITEMS, "thinking": True}
    drawn = ace_step.request(matrix.cell("plan", **size), None)
    greedy = drawn._replace(params=dataclasses.replace(drawn.params, lm_temperature=0.0))
    plans = {
        name: ace_step.subject().resolve(request, engine.setup)
        for name, request in (("greedy", greedy), ("drawn", drawn))
    }
    return {name: torch.stack(engine.run_lm(plan).codes) for name, plan in plans.items()}


def shortest_s(engine) -> int:
    """Seconds of the shortest item of the engine's weights."""
    return matrix.durations_s(engine.environment["source"])[0]
