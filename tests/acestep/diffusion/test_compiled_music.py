"""Compiled, an engine makes the same music, and a cache of its graphs outlives the process."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from compiled_dit import BEYOND, CPU, LIMIT, TIMES, CompiledDiT, conditions, difference, modulation, small_dit
from places import SUPPORT
from recorders import recording_cpu
from torch import Tensor
from torch._dynamo.utils import counters

from acestep import GenerationConfig, GenerationParams
from acestep.audio.tile_size import VAE_CHUNK
from acestep.components import DIT, LM, VAE
from acestep.diffusion import sampler as diffusion
from acestep.diffusion.guidance import Guidance
from acestep.engine import Engine
from acestep.setup import COMPILED, Setup
from harness.accelerators import Accelerator
from harness.compiling import CACHE_VARIABLE, unavailable

pytestmark = [
    pytest.mark.filterwarnings("ignore:.torch.jit.:DeprecationWarning"),  # torch's own, of itself
    pytest.mark.usefixtures("unhampered"),
]
CODES = {"audio_codes": "".join(f"<|audio_code_{code}|>" for code in range(60)), "audio_cover_strength": 0.5}
why = unavailable("cpu")
inductor = pytest.mark.skipif(why is not None, reason=f"torch.compile on this CPU {why}")


class Run(NamedTuple):
    """Latents of the eager model, also from noise a little off, and of the compiled one; its graphs."""

    eager: Tensor
    close: Tensor
    compiled: Tensor
    counts: dict[str, int]


ITEMS, LAYERS = 2, 1  # guided, beyond the window: of a layer with both kinds of attention, its own and across


def eager_and_compiled() -> Run:
    dit = small_dit(LAYERS)
    times, shape = modulation(dit), conditions(dit, ITEMS, BEYOND, guided=True)
    x = diffusion.noise(range(ITEMS), BEYOND, torch.float32, CPU)
    options = diffusion.Options(guidance=Guidance(5.0))

    def latents(x: Tensor) -> Tensor:
        return diffusion.denoise(dit, x, shape, times, TIMES, options)[0]

    eager, close = latents(x), latents(x * (1 + 1e-4))
    compiled = CompiledDiT(dit)
    compiled.warm(shape, times, guided=True)
    with compiled.frozen():
        return Run(eager, close, latents(x), cached())


def cached() -> dict[str, int]:
    """How many graphs were found on the disk, and how many were not."""
    counts = counters["inductor"]
    return {"hits": counts["fxgraph_cache_hit"], "misses": counts["fxgraph_cache_miss"]}


@inductor
@pytest.mark.nightly
@pytest.mark.timeout(1200)  # a quarter of a minute of processor time, on a machine that may have other work
def test_compiled_latents_are_those_of_the_eager_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))  # where there are no graphs yet
    run = eager_and_compiled()
    assert run.counts == {"hits": 0, "misses": 1}
    assert difference(run.compiled, run.eager) < LIMIT < difference(run.close, run.eager)


@pytest.mark.parametrize(
    ("dit", "fields", "buckets"),
    [
        ("acestep-v15-turbo", {}, 1),
        # guided and plain steps, beyond the window, and other conditions halfway
        ("acestep-v15-base", {"duration": 12, "guidance_scale": 5.0, "cfg_interval_start": 0.5} | CODES, 2),
        # guided by the corrector at the very end alone
        ("acestep-v15-base", {"infer_method": "heun", "guidance_scale": 5.0, "cfg_interval_end": 0.001}, 2),
    ],
)
def test_an_engine_compiles_in_a_stage_of_its_own_and_makes_the_same_music(
    graphs: list, dit: str, fields: dict[str, Any], buckets: int
):
    params = GenerationParams(caption="dub", inference_steps=3, **{"duration": 4, "bpm": 120} | fields)
    config = GenerationConfig(batch_size=2, seeds=(1, 2))
    eager, compiled = (
        Engine.load("synthetic-tiny", device="cpu", dit=dit, lm=None, compile=on) for on in (False, True)
    )
    plain, first, second = (engine.generate(params, config) for engine in (eager, compiled, compiled))
    assert (eager.environment["compile"], compiled.environment["compile"]) == (False, True)
    stages = list(plain.stages_s)
    assert list(second.stages_s) == stages and "compile" not in stages
    stages.insert(stages.index("diffuse"), "compile")
    assert list(first.stages_s) == stages
    assert len(graphs) == buckets * (2 if "duration" in fields else 1)
    assert plain.counts == first.counts == second.counts
    for ours, again, expected in zip(first.audios, second.audios, plain.audios, strict=True):
        assert torch.equal(ours.tensor, expected.tensor) and torch.equal(again.tensor, expected.tensor)


@pytest.mark.parametrize(
    ("device", "on", "lm_backend", "names"),
    [
        ("cpu", True, "pt", (DIT,)),
        ("cuda", True, "pt", (DIT, LM, VAE)),
        ("cuda", True, "vllm", (DIT, VAE)),  # which compiles its own
        ("cpu", False, "pt", ()),
        ("cuda", False, "pt", ()),
    ],
)
def test_one_table_says_what_is_compiled_where(
    device: str, on: bool, lm_backend: str, names: tuple[str, ...]
):
    setup = Setup.choose("synthetic-tiny", device="cpu", lm=None)
    choices = {"accelerator": Accelerator(device, "a card", 24.0), "compile": on, "lm_backend": lm_backend}
    assert dataclasses.replace(setup, **choices).compiled == names


def test_a_compiled_vae_and_recorded_passes_are_the_same_music(graphs: list, monkeypatch: pytest.MonkeyPatch):
    """What is recorded is what is compiled; of the VAE one graph for a size of tile."""
    monkeypatch.setitem(COMPILED, "cpu", (DIT, VAE))
    monkeypatch.setenv(VAE_CHUNK, "64")
    setup = Setup.choose("synthetic-tiny", device="cpu", lm=None, compile=True)
    engine = Engine.from_setup(dataclasses.replace(setup, graphs=True))
    params = GenerationParams(caption="dub", duration=6, bpm=120, inference_steps=3)
    plain = Engine.load("synthetic-tiny", device="cpu", lm=None).generate(params, GenerationConfig(1, (1,)))
    recorder = recording_cpu(monkeypatch, operators=False)
    first, second = (engine.generate(params, GenerationConfig(1, (1,))) for _ in range(2))
    assert len(graphs) == 2 and recorder.replays == [3, 3]
    assert "compile" in first.stages_s and first.counts == plain.counts and not first.warnings
    for result in (first, second):
        assert difference(result.audios[0].tensor, plain.audios[0].tensor) < LIMIT


@inductor
@pytest.mark.timeout(1200)
def test_a_second_process_finds_the_graphs_of_the_first(tmp_path: Path):
    """Both begin as a command does. Graphs are of threads and settings, too, and this process has those that
    other tests have left."""
    environment = {name: value for name, value in os.environ.items() if name != CACHE_VARIABLE}
    environment |= {"XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": str(SUPPORT)}
    command = [sys.executable, __file__]
    done = [subprocess.run(command, env=environment, capture_output=True, text=True) for _ in range(2)]
    assert [(process.returncode, process.stderr) for process in done if process.returncode] == []
    first, second = (json.loads(process.stdout) for process in done)
    assert first == {"hits": 0, "misses": 1} and second == {"hits": 1, "misses": 0}


def one_bucket() -> None:
    """What a process of the test above does."""
    dit = small_dit(LAYERS)
    with torch.inference_mode():
        CompiledDiT(dit).warm(conditions(dit, ITEMS, BEYOND, guided=True), modulation(dit), guided=True)
    print(json.dumps(cached()))


if __name__ == "__main__":
    one_bucket()
