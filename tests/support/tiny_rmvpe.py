"""RMVPEs of a few channels with random weights, and the published one's, by the rule of the golden values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from golden_rvc import golden_tensor, golden_tensors
from torch import Tensor

from harness.checkpoint import materialise, on_meta
from harness.nn.folded import fold, stored_shapes
from subjects.rvc.config import RMVPEConfig
from subjects.rvc.models.rmvpe import RMVPE

# Two levels, which see 33 frames; and all five of the published depth, which see as far as it does.
TINY = RMVPEConfig(mels=8, channels=2, levels=2, blocks=1, intermediate=2, out_channels=2, gru=3, bins=12)
DEEP = RMVPEConfig(mels=32, channels=1, gru=2, bins=12)


def tensors(config: RMVPEConfig = TINY) -> dict[str, Tensor]:
    """What a file holds, fp64."""
    return golden_tensors(stored_shapes(on_meta(lambda: RMVPE(config))))


def network(
    config: RMVPEConfig = TINY,
    held: Mapping[str, Tensor] | None = None,
    dtype: torch.dtype = torch.float64,
    folded: bool = True,
) -> RMVPE:
    """A network with the tensors `held`, or those of the golden values, drawn one at a time."""
    module: RMVPE = on_meta(lambda: RMVPE(config, folded))
    shapes = stored_shapes(module)
    read: Callable[[str], Tensor] = (
        held.__getitem__ if held else lambda name: golden_tensor(name, shapes[name])
    )
    materialise(module, partial(fold, module, read=read), device=torch.device("cpu"), dtype=dtype)
    return module


def log_mel(frames: int, config: RMVPEConfig = TINY, batch: int = 1) -> Tensor:
    """Made up, around the level of speech, fp64."""
    generator = torch.Generator().manual_seed(frames)
    return 2 * torch.randn(batch, frames, config.mels, generator=generator, dtype=torch.float64) - 4
