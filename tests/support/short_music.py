"""The shortest music there is, for tests that ask for it in odd ways."""

import torch

from acestep import GenerationConfig, GenerationParams
from acestep.engine import Engine

SEEDED = GenerationConfig(seeds=(1,))
METADATA = {"bpm": 120, "keyscale": "A minor", "timesignature": "4"}
SHORT = {"duration": 5.2, "inference_steps": 1}


def generate(engine: Engine, **fields) -> torch.Tensor:
    [item] = engine.generate(GenerationParams(**SHORT | METADATA | fields), SEEDED).audios
    assert item.tensor.isfinite().all() and 0 < item.rms <= item.peak <= 1
    return item.tensor
