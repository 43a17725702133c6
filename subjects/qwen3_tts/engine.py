"""The engine: networks in memory, serving any number of requests.

    engine = Engine.load("synthetic-tiny", model="0.6B-CustomVoice")
    result = engine.run(engine.resolve(request(duration_s=2.0)))
    for chunk in engine.stream(plan):          # [B, 1, n] as soon as their frames are there
        ...

Stages: `prompt`, `talker_prefill`, `talker_decode`, `sampling`, `code_predictor`, `compile` where steps are
recorded, `decode`, `save`; with `other` they are the wall.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from harness.device import resolve_dtype
from harness.engine import LoadedEngine, loading
from harness.graphs import Graphs
from harness.memory import MemoryBudget, budget_of
from harness.nn.attend import flash_serves
from harness.nn.islands import islands
from harness.spans import Times, record
from harness.stream import Stream
from subjects.loading import environment
from subjects.qwen3_tts import decoding, plan, weights
from subjects.qwen3_tts.decoding import Pieces
from subjects.qwen3_tts.frames import FrameLoop
from subjects.qwen3_tts.plan import Plan
from subjects.qwen3_tts.request import Request
from subjects.qwen3_tts.result import Audio, Result
from subjects.qwen3_tts.setup import Setup
from subjects.qwen3_tts.utterance import Hooks, Run, Utterance, audios, sampling
from subjects.qwen3_tts.weights import Networks, Source, open_source


class Engine(LoadedEngine[Networks, Setup]):
    """Loaded networks on one device. Make one with `Engine.load`; it serves any number of requests."""

    choose = Setup.choose

    def __init__(self, *parts: Any):
        super().__init__(*parts)
        self._turn = 0  # requests so far
        # The last, which the next request may need again.
        self._loops: dict[tuple[Any, ...], FrameLoop] = {}
        self._decoders: dict[tuple[Any, ...], Pieces] = {}

    @classmethod
    def from_setup(
        cls,
        setup: Setup,
        *,
        threads: int | None = None,
        budget: MemoryBudget | None = None,
        source: Source | None = None,
        device: str | None = None,
    ) -> Engine:
        """Load what a setup says. Raises as `load` does. `source`: of its weights, where it is open already;
        `device`: what stands in for its own."""
        configs = setup.configs
        with loading(device or setup.device, threads=threads) as loads:
            budget = budget or budget_of(setup.accelerator, loads.device)
            dtype = resolve_dtype(setup.dtype, loads.device, configs.stored_dtype)
            source = source or open_source(setup.source, setup.model)
            networks = weights.load(source, configs, loads.device, dtype)
        return cls(networks, setup, budget, _environment(setup, networks), loads.seconds)

    def resolve(self, request: Request) -> Plan:
        """What a request would run here."""
        return plan.resolve(request, self.setup)

    def run(self, plan: Plan, save_dir: Path | None = None) -> Result:
        """Say a plan of this setup; write a file for each item under `save_dir` when it is given.

        Raises MissingPrerequisite for a recording that cannot be read and a place that cannot be written.
        """
        utterance = Utterance(self.models, plan)
        self.budget.reset_peak()
        with torch.inference_mode(), record(self._sync) as times:
            loop = utterance.begin(self._loop)
            codes = utterance.codes(loop)
            items = utterance.audios(codes, save_dir)
        return self._result(utterance, items, times)

    def stream(self, plan: Plan) -> Stream[Result]:
        """The items of a plan in pieces of `chunk_frames`, each as soon as its frames are there.

        Its clock starts with the first piece asked for, before the prompt. The stream raises as `run` does,
        and BenchError where another request of this engine has begun meanwhile: they have one memory.
        """
        utterance = Utterance(self.models, plan)
        hooks = Hooks(self._loop, self._pieces, lambda: self._turn, self._result)
        return Stream(Run(utterance, hooks, self.budget, self._sync))

    def decoded(self, plan: Plan, codes: tuple[torch.Tensor, ...]) -> tuple[Audio, ...]:
        """Audio of `codes [16, T]` of each item, exactly and all at once: what a stream is held against."""
        with torch.inference_mode():
            padded = torch.nn.utils.rnn.pad_sequence([item.T for item in codes], batch_first=True)
            batch = padded.transpose(1, 2).to(self.models.device)
            batch, before = Utterance(self.models, plan).behind(batch)
            wave = decoding.whole(self.models.decoder, batch, skipped=before).float().cpu()
        return audios(wave, [item.shape[-1] for item in codes], plan.request.seeds)

    def _loop(self, plan: Plan) -> FrameLoop:
        """The memory and the steps of a plan; those of the request before, where they are the same."""
        self._turn += 1
        networks, request = self.models, plan.request
        shape = {"batch": request.batch_size, "rows": len(plan.prompt.rows), "frames": plan.most_frames}
        key = (*shape.values(), plan.frames is None, sampling(request))
        if key not in self._loops:
            self._loops.clear()  # its memory first
            self._decoders.clear()
            self._loops[key] = FrameLoop(
                networks.talker,
                networks.code_predictor,
                **shape,
                sampling=sampling(request),
                ends=plan.frames is None,
                graphs=Graphs.on(networks.device, self.setup.graphs),
            )
        return self._loops[key]

    def _pieces(self, plan: Plan, loop: FrameLoop) -> Pieces:
        """The decoder of a stream beside `loop`, whose recordings and its own share their memory."""
        request = plan.request
        key = request.chunk_frames, request.context
        if key not in self._decoders:
            self._decoders.clear()
            self._decoders[key] = Pieces(
                self.models.decoder,
                request.batch_size,
                request.chunk_frames,
                request.context,
                loop.graphs,
            )
        return self._decoders[key]

    def _result(self, utterance: Utterance, items: tuple[Audio, ...], times: Times) -> Result:
        plan = utterance.plan
        return Result(
            **self._measured(times),
            audios=items,
            codes=utterance.kept,
            counts=utterance.counts(),
            plan=plan.as_dict(),
            peak_memory_bytes=self.budget.peak_bytes(),
            first_chunk_stages_s=utterance.first_chunk_stages_s,
            fallbacks=utterance.fallbacks,
            warnings=(*plan.warnings, *map(str, utterance.fallbacks)),
        )


def _environment(setup: Setup, networks: Networks) -> dict[str, Any]:
    """What the engine runs on and with, for records; its dtype is that of all but the islands."""
    wider = {name for _, module in networks.modules() for name in islands(module, networks.dtype)}
    return environment(setup, networks) | {
        "dtype": str(networks.dtype).removeprefix("torch."),
        "islands": ", ".join(sorted(wider)) or None,
        "attention": "flash" if flash_serves(networks.device, networks.dtype) else "sdpa",
        "graphs": setup.graphs,
    }
