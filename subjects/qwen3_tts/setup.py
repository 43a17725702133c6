"""The setup of an engine before it is loaded: device, number format, source of weights, model, graphs.

What is named and is not to be had here is an error. Nothing is loaded and torch is not imported.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness import accelerators, dtypes
from harness.accelerators import Accelerator
from harness.dtypes import AUTO
from harness.errors import MissingPrerequisite
from harness.graphs import unavailable as ungraphed
from subjects.qwen3_tts import checkpoint
from subjects.qwen3_tts.checkpoint import Configs


@dataclass(frozen=True, slots=True)
class Setup:
    """The choices an engine is loaded with: what is loaded, and where.

    `dtype`: bf16, fp16 or fp32; auto where torch has to be asked what suits the device. `strict`: what would
    not be done as it was asked for is an error.
    """

    device: str  # cpu, mps, cuda, cuda:N: what the engine runs on
    dtype: str
    source: str
    source_origin: str
    model: str
    accelerator: Accelerator
    graphs: bool
    strict: bool = False

    @classmethod
    def choose(
        cls,
        source: str | Path | None = None,
        *,
        model: str | None = None,
        device: str = AUTO,
        dtype: str = AUTO,
        graphs: bool | None = None,
        strict: bool = False,
        accelerator: Accelerator | None = None,
    ) -> Setup:
        """Decide everything about an engine that can be decided before loading it.

        `model` is a variant of `layout.VARIANTS`, for made-up weights. `graphs` None is the device's.
        `accelerator`: a card to simulate. Raises UsageError or MissingPrerequisite, naming what and where.
        """
        card = accelerator or accelerators.detect(device)
        name, origin = checkpoint.choose_source(source, accelerator=card.device != "cpu")
        reason = ungraphed(card.device)
        if reason and graphs:
            raise MissingPrerequisite(f"graphs: {reason}; leave it out, or choose --device cuda")
        return cls(
            device=card.device if device == AUTO else device,
            dtype=dtypes.chosen(dtype, card.device, _capability(card, device)),
            source=name,
            source_origin=origin,
            model=checkpoint.read(name, model).variant,
            accelerator=card,
            graphs=graphs is not False and not reason,
            strict=strict,
        )

    @property
    def configs(self) -> Configs:
        """The configurations of the model's networks."""
        return checkpoint.read(self.source, self.model)


def _capability(card: Accelerator, device: str) -> tuple[int, int] | None:
    if card.device != "cuda" or card.capability:
        return card.capability
    return accelerators.capability(int(device.partition(":")[2] or 0))
