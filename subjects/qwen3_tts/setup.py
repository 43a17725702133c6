"""The setup of an engine before it is loaded: device, number format, source of weights, model, graphs.

What is named and is not to be had here is an error. Nothing is loaded and torch is not imported.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness import accelerators, dtypes, sources
from harness.accelerators import Accelerator
from harness.dtypes import AUTO
from harness.graphs import recorded
from subjects.qwen3_tts import checkpoint
from subjects.qwen3_tts.checkpoint import Configs
from subjects.qwen3_tts.layout import ENVIRONMENT, SYNTHETIC


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
        card, place = accelerators.of_run(device, accelerator)
        default = SYNTHETIC[card.device != "cpu"]
        name, origin = sources.choose(source, ENVIRONMENT, SYNTHETIC, default)
        graphs = recorded(graphs, (card.device,))
        return cls(
            device=place,
            dtype=dtypes.chosen(dtype, card.device, accelerators.capability_of(card, device)),
            source=name,
            source_origin=origin,
            model=checkpoint.read(name, model).variant,
            accelerator=card,
            graphs=graphs,
            strict=strict,
        )

    @property
    def configs(self) -> Configs:
        """The configurations of the model's networks."""
        return checkpoint.read(self.source, self.model)
