"""What an engine is put together from, as its setup says: models, compiler, language model.

No weights are loaded here: that is the engine's, once it is known which a request needs.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from acestep import components
from acestep.lm.backends.registry import open_backend
from acestep.lm.planner import Planner
from acestep.setup import Setup
from acestep.weights.checkpoint import Source
from acestep.weights.loading import Models
from harness.compiling import Compiled
from harness.device import resolve_dtype
from harness.residency import Residency


def models_of(
    setup: Setup, device: torch.device, weights: Source, places: Mapping[str, torch.device]
) -> Models:
    """The models of a setup, none of them loaded. `places`: devices of parts that are not on `device`."""
    return Models.open(
        weights,
        setup.dit,
        device,
        lambda stored: resolve_dtype(setup.dtype, device, stored),
        setup.lm if setup.lm_backend == "pt" else None,
        Residency(device, components.COMPONENTS, setup.offloaded, places),
        setup.quantization,
        setup.lm_quantization,
    )


def compiled_of(setup: Setup, models: Models) -> Compiled | None:
    """What compiles, and by it all of `setup.compiled` but the language model, which is its backend's."""
    if not setup.compile:
        return None
    compiled = Compiled()
    compiled.layers(models.ace_step.decoder.layers)
    if components.VAE in setup.compiled:
        compiled.layers([models.vae.decoder])
    return compiled


def planner_of(setup: Setup, models: Models, weights: Source, compiled: Compiled | None) -> Planner | None:
    """What plans by the language model of a setup, if it has one."""
    if not setup.lm:
        return None
    of_lm = compiled if components.LM in setup.compiled else None
    backend = open_backend(setup.lm_backend, models, weights, setup.lm, setup.graphs, of_lm)
    return Planner(backend, weights.tokenizer(setup.lm))
