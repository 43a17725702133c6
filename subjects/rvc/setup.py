"""The setup of an engine before it is loaded: device, number format, source of weights, voice.

What is named and is not to be had here is an error. Nothing is loaded; torch is imported for a pickle only.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness import accelerators, sources
from harness.accelerators import Accelerator
from harness.checks import one_of
from harness.dtypes import AUTO, FP32
from harness.errors import UsageError
from subjects.loading import not_held
from subjects.rvc import checkpoint
from subjects.rvc.config import Configs
from subjects.rvc.layout import DEFAULT_RATE, ENVIRONMENT, SYNTHETIC


@dataclass(frozen=True, slots=True)
class Setup:
    """The choices an engine is loaded with: what is loaded, and where.

    `model`: the voice, by the stem of its file, of made-up weights by its rate. `voice`: its file, where one
    is named. `dtype` is fp32: steps of pitch and phases are decided by less than half precision tells apart.
    `strict`: what would not be done as it was asked for is an error.
    """

    device: str  # cpu, mps, cuda, cuda:N: what the engine runs on
    dtype: str
    source: str
    source_origin: str
    model: str
    accelerator: Accelerator
    voice: str | None = None
    strict: bool = False

    @classmethod
    def choose(
        cls,
        source: str | Path | None = None,
        *,
        model: str | None = None,
        voice: str | Path | None = None,
        device: str = AUTO,
        dtype: str = AUTO,
        strict: bool = False,
        accelerator: Accelerator | None = None,
    ) -> Setup:
        """Decide everything about an engine that can be decided before loading it.

        `voice`: the file of one, in place of the source's `model`. `accelerator`: a card to simulate. Raises
        UsageError or MissingPrerequisite, naming what and where.
        """
        if voice and model:
            raise UsageError(f"model: {model!r} is given beside the file of a voice; use one of them")
        one_of("dtype", dtype, (AUTO, FP32))
        card, place = accelerators.of_run(device, accelerator)
        default = SYNTHETIC[card.device != "cpu"]
        name, origin = sources.choose(source, ENVIRONMENT, SYNTHETIC, default)
        file = str(voice) if voice else None
        checkpoint.read(name, model, file)
        if file:
            model = Path(file).stem
        elif name in SYNTHETIC:
            model = model or DEFAULT_RATE
        else:
            model = checkpoint.voice_path(name, model).stem
        return cls(
            device=place,
            dtype=FP32,
            source=name,
            source_origin=origin,
            model=model,
            accelerator=card,
            voice=file,
            strict=strict,
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """A line for each thing that the environment, or the file of a voice, says and that is not so."""
        return (*not_held(self.accelerator), *self.configs.notes)

    @property
    def configs(self) -> Configs:
        """The dimensions of the networks."""
        return checkpoint.read(self.source, None if self.voice else self.model, self.voice)
