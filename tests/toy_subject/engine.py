"""The engine: one network, two stages."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from harness.device import DTYPES, resolve_device
from harness.spans import record, span
from tests.toy_subject import FRAMES_PER_SECOND, Counts, Plan, Result, Setup
from tests.toy_subject.network import Config, build


class Engine:
    """A loaded setup on `device`."""

    def __init__(self, setup: Setup, device: str):
        start = time.perf_counter()
        self._device, self._dtype = resolve_device(device), DTYPES[setup.dtype]
        self._network = build(self._device, self._dtype)
        self.environment = {"device": setup.device, "dtype": setup.dtype, "source": setup.source}
        self.load_s = time.perf_counter() - start

    @torch.inference_mode()
    def run(self, plan: Plan, save_dir: Path | None = None) -> Result:
        """Audio of `plan`; under `save_dir`, raw samples of it."""
        generator = torch.Generator().manual_seed(plan.request.seed)
        shape = (plan.request.batch_size, plan.frames, Config().inputs)
        noise = torch.randn(shape, generator=generator).to(self._device, self._dtype)
        with record() as times:
            with span("encode"):
                state = self._network.encoder(noise)
            with span("decode"):
                audio = self._network.decode(state).float().cpu()
        if save_dir is not None:
            Path(save_dir, "audio.f32").write_bytes(audio.numpy().tobytes())
        return Result(
            audio=audio,
            wall_s=times.wall_s,
            stages_s=times.stages(),
            details_s=times.details(),
            counts=Counts(plan.frames / FRAMES_PER_SECOND, plan.frames),
            environment=self.environment,
        )
