"""Models for tests: tiny, on the CPU, and nothing ever moves."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

from acestep import components
from acestep.weights.checkpoint import Source
from acestep.weights.layout import DEFAULT_DIT, LMS
from acestep.weights.loading import Models

CPU = torch.device("cpu")
XL = "acestep-v15-xl-turbo"


class AtHome:
    """Every part lives on the CPU; who was adopted is written down."""

    def __init__(self) -> None:
        self.adopted: list[tuple[str, int]] = []

    resident_bytes = 0

    def used_on(self) -> dict[str, torch.device]:
        return {}

    def device_of(self, part: str) -> torch.device:
        return CPU

    def home(self, part: str) -> torch.device:
        return CPU

    def adopt(self, part: str, *modules: nn.Module) -> None:
        assert not any(tensor.is_meta for module in modules for tensor in module.parameters())
        self.adopted.append((part, len(modules)))

    def using(self, *parts: str) -> AbstractContextManager[None]:
        return nullcontext()


def load(source: Source, dit: str = DEFAULT_DIT, dtype: torch.dtype = torch.float32) -> Models:
    models = Models.open(source, dit, CPU, lambda stored: dtype, LMS[0], AtHome())
    models.need(*components.usual(lm=True))
    return models


def networks(models: Models) -> list[nn.Module]:
    return [models.ace_step, models.vae, models.text_encoder, *([models.lm] if models.lm else [])]
