"""The compiled DiT: no graph breaks, few graphs, the same music, and a cache that outlives the process."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
import torch
from places import SUPPORT
from recorders import recording_cpu
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch._inductor.runtime.cache_dir_utils import default_cache_dir

from acestep import GenerationConfig, GenerationParams
from acestep.audio.tile_size import VAE_CHUNK
from acestep.components import DIT, LM, VAE
from acestep.diffusion import sampler as diffusion
from acestep.diffusion import step
from acestep.diffusion.guidance import Guidance
from acestep.engine import Engine
from acestep.models import dit as dit_module
from acestep.models.configs import DiTConfig
from acestep.models.dit import Conditions, DiT, Modulation
from acestep.setup import COMPILED, Setup
from harness import compiling
from harness import device as devices
from harness.accelerators import Accelerator
from harness.compiling import CACHE_VARIABLE, Compiled, cache_directory, unavailable
from harness.spans import record
from harness.trace.frames import unhooked

CPU = torch.device("cpu")
TIMES = [1.0, 0.6, 0.3]
CONFIG = DiTConfig(
    model_type="acestep",
    hidden_size=32,
    intermediate_size=48,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    num_hidden_layers=4,
    layer_types=["sliding_attention", "full_attention"] * 2,
    sliding_window=6,
    fsq_input_levels=[8, 8, 8, 5, 5, 5],
)
WITHIN, BEYOND = 13, 41  # frames: 7 tokens, which the window holds, and 21
LIMIT = 1e-5  # relative RMS, fp32
CODES = {"audio_codes": "".join(f"<|audio_code_{code}|>" for code in range(60)), "audio_cover_strength": 0.5}

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.:DeprecationWarning")  # torch's own, of itself
why = unavailable("cpu")
inductor = pytest.mark.skipif(why is not None, reason=f"torch.compile on this CPU {why}")


class CompiledDiT:
    """A DiT whose layers run compiled."""

    def __init__(self, dit: DiT):
        self.dit = dit
        self.compiled = Compiled()
        self.compiled.layers(dit.layers)
        self.frozen = self.compiled.frozen

    def warm(self, conditions: Conditions, modulation: Modulation, guided: bool) -> None:
        step.warm(self.compiled, self.dit, conditions, modulation, guided)


def made(layers: int = 4) -> DiT:
    torch.manual_seed(0)
    kinds = CONFIG.layer_types[:layers]
    dit = DiT(msgspec.structs.replace(CONFIG, num_hidden_layers=layers, layer_types=kinds))
    for parameter in dit.parameters():
        nn.init.normal_(parameter, 0, 0.2)
    return dit


def conditions(dit: DiT, batch: int, frames: int, *, guided: bool, encoder_tokens: int = 11) -> Conditions:
    width = dit.config.encoder.hidden_size
    null = torch.randn(1, 1, width) if guided else None
    encoded = torch.randn(1, encoder_tokens, width)
    return dit.condition(torch.randn(batch, frames, 128), encoded, null)


def modulation(dit: DiT) -> Modulation:
    return diffusion.modulate(dit, TIMES, torch.float32, CPU)


def difference(found: Tensor, expected: Tensor) -> float:
    """Relative RMS."""
    return float((found - expected).norm() / expected.norm())


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's cache directory, with one cache of graphs for this file."""
    return tmp_path_factory.mktemp("caches")


@pytest.fixture(autouse=True)
def unhampered(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One cache for this file, nobody's graphs left over, and the weights' mode."""
    monkeypatch.setenv(CACHE_VARIABLE, str(home / "acestep" / "inductor"))
    torch.compiler.reset()
    counters.clear()
    with torch.inference_mode():
        yield
    torch.compiler.reset()


def calls_hold_their_arguments() -> bool:
    def takes(thing: nn.Module) -> bool:
        seen = weakref.ref(thing)
        del thing
        return seen() is not None

    return takes(nn.Module())


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[torch.fx.GraphModule]:
    """Graphs that were compiled, by a backend that runs them as they are."""
    seen: list[torch.fx.GraphModule] = []

    def backend(graph: torch.fx.GraphModule, _: list[Tensor]):
        seen.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    return seen


@pytest.mark.parametrize(
    ("guided", "frames"),
    [
        (False, WITHIN),
        (True, BEYOND),
        pytest.param(False, BEYOND, marks=pytest.mark.nightly),
        pytest.param(True, WITHIN, marks=pytest.mark.nightly),
    ],
)
def test_a_whole_pass_is_one_graph(frames: int, guided: bool):
    dit = made()
    run = dit.both if guided else dit.velocity
    x, shape, times = torch.randn(2, frames, 64), conditions(dit, 2, frames, guided=guided), modulation(dit)
    whole = torch.compile(run, fullgraph=True, backend="eager")
    assert torch.equal(whole(x, shape, times, 1), run(x, shape, times, 1))


def test_what_a_card_runs_is_one_graph_and_warns_of_nothing(monkeypatch: pytest.MonkeyPatch):
    """Its fused operators and its flash kernel, captured on a CPU that answers as a card does."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setitem(devices.capabilities, "cpu", devices.capabilities["cuda"])
    called: set[str] = set()

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., list[Tensor]]:
        called.update(str(node.target) for node in graph.graph.nodes)
        (results,) = next(node for node in graph.graph.nodes if node.op == "output").args
        like = [result.meta["example_value"] for result in results]
        return lambda *_: [torch.zeros(value.shape, dtype=value.dtype) for value in like]

    dit = made(layers=2).bfloat16()
    sizes = (BEYOND, 64), (BEYOND, 128), (11, CONFIG.encoder.hidden_size)
    x, source, encoded = (torch.zeros(1, *size, dtype=torch.bfloat16) for size in sizes)
    tables = diffusion.modulate(dit, TIMES, torch.bfloat16, CPU)
    for layer in dit.layers:
        layer.compile(fullgraph=True, dynamic=False, backend=backend)
    dit.velocity(x, dit.condition(source, encoded), tables, 0)
    assert "aten._flash_attention_forward" in called


@pytest.mark.filterwarnings("ignore:Dynamo does not know how to trace the builtin")  # after the break
def test_a_value_that_is_read_back_is_a_graph_break_and_an_error(
    graphs: list, monkeypatch: pytest.MonkeyPatch
):
    dit = made()

    def reading(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return q if k.amax() > 0 else -q

    monkeypatch.setattr(dit_module, "full", reading)
    x, shape = torch.randn(1, WITHIN, 64), conditions(dit, 1, WITHIN, guided=False)
    found = torch._dynamo.explain(dit.velocity)(x, shape, modulation(dit), 1)
    assert found.graph_break_count > 0
    compiled = CompiledDiT(dit)
    with pytest.raises(torch._dynamo.exc.Unsupported):
        compiled.warm(shape, modulation(dit), guided=False)
    assert calls_hold_their_arguments()  # not so: `harness.trace.frames` can go
    with unhooked():
        assert not calls_hold_their_arguments()
    assert calls_hold_their_arguments()


@pytest.mark.parametrize(("frames", "expected"), [(WITHIN, 1), (BEYOND, 2)])
@pytest.mark.parametrize("guided", [False, True])
def test_every_layer_runs_one_graph_per_kind_of_attention(
    graphs: list, frames: int, expected: int, guided: bool
):
    dit = made()
    CompiledDiT(dit).warm(conditions(dit, 1, frames, guided=guided), modulation(dit), guided)
    assert len(graphs) == expected


@pytest.mark.parametrize("guided", [False, True])
def test_neither_another_prompt_nor_weights_that_moved_compile_again(graphs: list, guided: bool):
    dit = made()
    times, x = modulation(dit), torch.randn(2, BEYOND, 64)
    compiled = CompiledDiT(dit)
    compiled.warm(conditions(dit, 2, BEYOND, guided=guided), times, guided)
    run, before = (dit.velocities if guided else dit.velocity), len(graphs)
    for encoder_tokens in (2, 21, 300):  # 21: as many as the latents have
        shape = conditions(dit, 2, BEYOND, guided=guided, encoder_tokens=encoder_tokens)
        for parameter in dit.parameters():  # as `residency` does
            parameter.data = parameter.data * 1.1
        with compiled.frozen():
            found = run(x, shape, times, 2)
        with torch.compiler.set_stance("force_eager"):
            expected = run(x, shape, times, 2)
        for ours, plain in zip(found, expected, strict=True):
            assert torch.equal(ours, plain)
    assert len(graphs) == before


def test_a_step_that_would_have_to_compile_is_an_error(graphs: list):
    dit = made()
    times, compiled = modulation(dit), CompiledDiT(dit)
    compiled.warm(conditions(dit, 1, WITHIN, guided=False), times, guided=False)
    x, other = torch.randn(1, WITHIN - 2, 64), conditions(dit, 1, WITHIN - 2, guided=False)
    with compiled.frozen(), pytest.raises(RuntimeError, match="fail_on_recompile"):
        dit.velocity(x, other, times, 0)
    dit.velocity(x, other, times, 0)
    assert len(graphs) == 2


def test_compiling_is_a_stage_of_the_first_request_of_a_bucket(graphs: list):
    dit = made()
    times, compiled = modulation(dit), CompiledDiT(dit)
    stages = []
    for frames, guided in ((WITHIN, True), (WITHIN, True), (BEYOND, True), (WITHIN, False), (WITHIN, True)):
        with record() as spans:
            compiled.warm(conditions(dit, 1, frames, guided=guided), times, guided)
        stages.append("compile" in spans.stages())
    assert stages == [True, False, True, True, False]


@pytest.mark.nightly
def test_more_buckets_than_are_kept_start_anew(graphs: list, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(compiling, "BUCKETS", 2)
    dit = made(layers=2)
    times, compiled = modulation(dit), CompiledDiT(dit)
    sizes = (BEYOND, BEYOND + 2, BEYOND + 4, BEYOND)
    for frames in sizes:
        compiled.warm(conditions(dit, 1, frames, guided=False), times, guided=False)
        with compiled.frozen():
            dit.velocity(torch.randn(1, frames, 64), conditions(dit, 1, frames, guided=False), times, 0)
    assert len(graphs) == 2 * len(sizes)


def test_buckets_that_are_needed_together_are_kept_together(graphs: list, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(compiling, "BUCKETS", 2)
    dit = made(layers=2)
    times, compiled = modulation(dit), CompiledDiT(dit)
    first, *both = (conditions(dit, 1, frames, guided=False) for frames in (BEYOND, BEYOND + 2, BEYOND + 4))
    compiled.warm(first, times, guided=False)
    compiled.compiled.room(step.bucket(given, False) for given in both)
    for given in both:
        compiled.warm(given, times, guided=False)
    compiled.compiled.room(step.bucket(given, False) for given in both)  # nothing new: nothing goes
    with compiled.frozen():
        for given in both:
            dit.velocity(torch.randn(1, given.frames, 64), given, times, 0)


def test_more_graphs_than_are_allowed_are_an_error_and_not_eager(
    graphs: list, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(compiling.OPTIONS, "recompile_limit", 2 * 2)
    dit = made(layers=2)
    times, last = modulation(dit), BEYOND + 4
    CompiledDiT(dit)
    for frames in range(BEYOND, last, 2):
        dit.velocity(torch.randn(1, frames, 64), conditions(dit, 1, frames, guided=False), times, 0)
    with pytest.raises(torch._dynamo.exc.FailOnRecompileLimitHit):
        dit.velocity(torch.randn(1, last, 64), conditions(dit, 1, last, guided=False), times, 0)


class Run(NamedTuple):
    """Latents of the eager model, also from noise a little off, and of the compiled one; its graphs."""

    eager: Tensor
    close: Tensor
    compiled: Tensor
    counts: dict[str, int]


ITEMS, LAYERS = (
    2,
    1,
)  # guided and beyond the window: of a layer with both kinds of attention, its own and across


@pytest.fixture(scope="module")
def run(home: Path) -> Run:
    """Compiled once into an empty cache: a quarter of a minute of processor time."""
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        patch.setenv(CACHE_VARIABLE, str(home / "acestep" / "inductor"))
        return eager_and_compiled()


def eager_and_compiled() -> Run:
    torch.compiler.reset()
    counters.clear()
    dit = made(LAYERS)
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
def test_compiled_latents_are_those_of_the_eager_model(run: Run):
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
def test_a_second_process_finds_the_graphs_of_the_first(run: Run, home: Path):
    environment = {name: value for name, value in os.environ.items() if name != CACHE_VARIABLE}
    environment |= {"XDG_CACHE_HOME": str(home), "PYTHONPATH": str(SUPPORT)}
    command = [sys.executable, __file__]
    second = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert second.returncode == 0, second.stderr
    assert json.loads(second.stdout) == {"hits": run.counts["misses"], "misses": 0}


def one_bucket() -> None:
    """What the process of the test above does."""
    dit = made(LAYERS)
    with torch.inference_mode():
        CompiledDiT(dit).warm(conditions(dit, ITEMS, BEYOND, guided=True), modulation(dit), guided=True)
    print(json.dumps(cached()))


def test_the_cache_is_the_one_named_or_the_users(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(CACHE_VARIABLE, "/named")
    assert cache_directory() == Path("/named")
    monkeypatch.delenv(CACHE_VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert cache_directory() == Path("/caches/acestep/inductor")
    monkeypatch.setenv(CACHE_VARIABLE, default_cache_dir())  # torch does this when it is imported
    assert cache_directory() == Path("/caches/acestep/inductor")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_directory() == Path.home() / ".cache/acestep/inductor"


def test_what_is_missing_is_said_before_torch_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    tool = tmp_path / "tool"
    tool.touch(mode=0o755)
    monkeypatch.setenv("CXX", str(tool))
    monkeypatch.setenv("CC", str(tool))
    monkeypatch.setattr(compiling, "find_spec", lambda name: object())
    monkeypatch.setattr(compiling.sysconfig, "get_path", lambda name: str(tmp_path))
    assert "Python.h" in str(unavailable("cpu"))
    (tmp_path / "Python.h").touch()
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "new" / "cache"))
    assert unavailable("cpu") is None and unavailable("cuda:1") is None
    assert not (tmp_path / "new").exists()
    assert "mps" in str(unavailable("mps"))
    monkeypatch.setenv(CACHE_VARIABLE, str(tool / "cache"))
    assert str(tool / "cache") in str(unavailable("cpu")) and CACHE_VARIABLE in str(unavailable("cuda"))
    monkeypatch.setenv("CXX", str(tmp_path / "gone"))
    assert "CXX" in str(unavailable("cpu"))
    monkeypatch.setattr(compiling, "find_spec", lambda name: None)
    assert "triton" in str(unavailable("cuda"))


if __name__ == "__main__":
    one_bucket()
